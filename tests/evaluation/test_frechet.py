"""The Fréchet distance: it is the formula, grows with every defect, and finds where a video goes wrong."""

import numpy as np
import pytest
import torch

from fifo_diffusion.evaluation.metrics import frechet
from fifo_diffusion.testing import tiny
from fifo_diffusion.toybox.world import FAMILIES, make_clip


def of_clips(space, clips):
    return np.concatenate([space(np.stack(clips[k : k + 32])) for k in range(0, len(clips), 32)])


@pytest.fixture(scope="module")
def real():
    rng = np.random.default_rng(0)
    return [make_clip(rng, 16, FAMILIES[k % 3])[0] for k in range(200)]


@pytest.fixture(scope="module")
def space():
    return frechet.SmallFeatures()


@pytest.fixture(scope="module")
def features(real, space):
    return of_clips(space, real)


def test_the_distance_of_gaussians_is_the_formula():
    """Against the closed form for covariances that share their axes."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 3))
    x = (x - x.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T  # mean 0, covariance 1, exactly
    a, b = x * [1.0, 2.0, 3.0], x * [2.0, 2.0, 1.0] + [1.0, 0.0, -2.0]
    expected = (1 + 4) + (1 - 2) ** 2 + (3 - 1) ** 2
    assert frechet.frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert frechet.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    assert frechet.frechet_distance(a @ turn, b @ turn) == pytest.approx(expected, rel=1e-9)


def test_it_grows_with_every_defect(real, space, features):
    """Noise, flicker, standing still; and what differs by chance alone is little against clips of pure noise."""
    rng = np.random.default_rng(1)

    def distance(spoil):
        spoiled = [np.clip(spoil(clip.astype(float)), 0, 255).astype(np.uint8) for clip in real]
        return frechet.frechet_distance(features, of_clips(space, spoiled))

    defects = {
        "noise": lambda s: distance(lambda c: c + rng.normal(0, 10 * s, c.shape)),
        "flicker": lambda s: distance(lambda c: c + rng.normal(0, 8 * s, (16, 1, 1, 3))),
        "still": lambda s: distance(lambda c: c[np.minimum(np.arange(16), 16 - 5 * s)]),
    }
    for name, spoiled in defects.items():
        values = [spoiled(strength) for strength in (1, 3)]
        assert values[1] > 2 * values[0] > 0, name
    worst = distance(lambda c: rng.integers(0, 255, c.shape))
    assert 0 < frechet.half_split_floor([features]) <= 0.05 * worst


def test_the_floor_takes_halves_of_every_group():
    """Else it would be of how the prompts fall, which is the same for all methods."""
    rng = np.random.default_rng(0)
    groups = [rng.normal(0, 10, 3) + rng.normal(size=(8, 3)) for _ in range(12)]
    assert frechet.half_split_floor(groups) < 0.2 * frechet.half_split_floor([np.concatenate(groups)])


def test_the_error_of_a_distance_is_the_jackknife_over_groups():
    """Of a mean it is the standard error; each left-out distance is that of all other groups."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=12)
    means = [np.delete(values, k).mean() for k in range(12)]
    assert frechet.jackknife(means) == pytest.approx(values.std(ddof=1) / 12**0.5)
    references, videos = (list(rng.normal(loc, 1, (3, 9, 2))) for loc in (0, 1))
    found = frechet.without_each(references, videos)
    assert found[1] == frechet.frechet_distance(*(np.concatenate([x[0], x[2]]) for x in (references, videos)))
    assert len(set(found)) == 3
    with pytest.raises(ValueError, match="single group"):
        frechet.without_each(references[:1], videos[:1])


def test_too_few_windows_are_refused(features):
    with pytest.raises(ValueError, match="more than 32 windows, not 20"):
        frechet.frechet_distance(features, features[:20])
    with pytest.raises(ValueError, match="15 frames has no window"):
        frechet.features_of(frechet.SmallFeatures(), np.zeros((15, 64, 64, 3), np.uint8))


def test_sliding_windows(space):
    frames = np.arange(40, dtype=np.uint8)[:, None, None, None].repeat(3, 3)
    clips = np.concatenate(list(frechet.sliding_clips(frames)))
    assert clips.shape[:2] == (25, 16)
    assert (clips[:, 0, 0, 0, 0] == np.arange(25)).all()
    assert (clips[-1, :, 0, 0, 0] == np.arange(24, 40)).all()


def test_distances_over_time_find_where_a_video_goes_wrong(features):
    spoiled = [np.concatenate([features[k : k + 50], features[k : k + 50] + 3]) for k in (0, 50, 100)]
    curve = frechet.over_time(features, spoiled, parts=4)
    assert [start for start, _ in curve] == [0, 25, 50, 75]
    assert min(curve[2][1], curve[3][1]) > 10 * max(curve[0][1], curve[1][1])


def test_videos_of_thousands_of_frames_have_more_parts():
    rng = np.random.default_rng(0)
    reference, video = rng.normal(size=(50, 2)), rng.normal(size=(4000, 2))
    video[3500:] += 5
    found = frechet.over_time(reference, [video])
    assert [start for start, _ in found] == list(range(0, 4000, 500))
    assert found[-1][1] > 10 > max(distance for _, distance in found[:-1])


def test_any_size_of_picture(space, real):
    larger = real[0].repeat(2, 1).repeat(2, 2)
    assert np.allclose(space(larger[None]), space(real[0][None]), atol=1e-3)


def test_i3d_from_its_file(tmp_path):
    """A TorchScript file that is called as FVD's I3D is; anything else is refused in one line."""
    torch.jit.script(tiny.FakeI3D()).save(str(tmp_path / "i3d.pt"))
    i3d = frechet.I3D(tmp_path / "i3d.pt")
    assert (i3d.name, i3d.size) == ("i3d-kinetics400", 3)
    clips = np.random.default_rng(0).integers(0, 255, (2, 16, 8, 8, 3), dtype=np.uint8)
    assert np.allclose(i3d(clips), clips.mean((1, 2, 3)), atol=1e-3)
    (tmp_path / "text.pt").write_text("no network")
    for name in ("text.pt", "missing.pt"):
        with pytest.raises(ValueError, match=name) as error:
            frechet.I3D(tmp_path / name)
        assert "\n" not in str(error.value)
