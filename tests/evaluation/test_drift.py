"""The drift of a video: each measure finds what it is for, and a file goes on as if it had not been interrupted."""

import json

import numpy as np
import pytest
import torch

from fifo_diffusion.errors import UserError
from fifo_diffusion.evaluation.drift import DISTANCES, RECENT, SLICES, Drift, latent_vector
from fifo_diffusion.evaluation.drift_file import DriftFile, read_drift
from fifo_diffusion.evaluation.metrics import METRICS
from fifo_diffusion.toybox.world import make_clip


def scene(seed, frames=1):
    return make_clip(np.random.default_rng(seed), frames)[0]


def measured(frames):
    drift = Drift()
    for frame in frames:
        drift.add(frame)
    return drift.summary()


def test_a_still_has_all_in_common_with_itself():
    found = measured(scene(0).repeat(24, 0))
    assert found["coherence_at"] == pytest.approx({"2": 1, "5": 1, "10": 1, "20": 1}, abs=2e-4)
    assert found["coherence"] == pytest.approx(1, abs=2e-4)
    assert found["colour_trend"] == [0, 0, 0]
    assert (found["flicker"], found["motion"], found["change"], found["cuts"]) == (0, 0, 0, 0)


def test_colours_that_run_away_evenly_have_their_slope():
    """Half a level per frame of red, a quarter the other way of blue; no flicker, no cut."""
    frames = np.zeros((60, 16, 16, 3))
    frames += 100 + np.arange(60)[:, None, None, None] * np.array([0.5, 0, -0.25])
    pattern = np.indices((16, 16)).sum(0)[..., None] % 4 / 4  # rounding leaves the mean as it is
    found = measured(np.floor(frames + pattern).astype(np.uint8))
    assert found["colour_trend"] == pytest.approx([50, 0, -25], abs=0.1)
    assert found["flicker"] < 0.01
    assert found["cuts"] == 0
    curve = [*found["coherence_at"].values()]
    assert curve == sorted(curve, reverse=True)
    assert curve[0] > 0.999
    faster = measured(np.floor(frames[::2] + pattern).astype(np.uint8))
    assert faster["colour_trend"] == pytest.approx([100, 0, -50], abs=0.2)


def test_two_scenes_in_turns_are_seen_at_the_distances_where_they_meet():
    """Ten frames of each: the same scene 20 frames on, the other one 10 frames on; and every change is a cut."""
    a, b = scene(0), scene(3)
    found = measured(np.concatenate([x.repeat(10, 0) for x in (a, b) * 3]))
    at = found["coherence_at"]
    assert at["20"] == pytest.approx(1, abs=2e-4)
    assert at["10"] < 0.9
    assert at["10"] < at["5"] < at["2"] < 1
    assert found["cuts"] == 5
    assert sum(part["cuts"] for part in found["over_time"]) == 5
    assert [part["first"] for part in found["over_time"]] == [0, 16, 32, 48]


def test_noise_has_as_much_in_common_at_every_distance():
    noise = np.random.default_rng(0).integers(0, 256, (30, 64, 64, 3), dtype=np.uint8)
    at = measured(noise)["coherence_at"]
    assert max(at.values()) - min(at.values()) < 0.02
    assert max(at.values()) < 0.999
    assert measured(noise)["cuts"] == 0


def test_what_moves_moves_as_far_in_a_larger_picture():
    small = measured(scene(1, 12))["motion"]
    large = measured(scene(1, 12).repeat(2, 1).repeat(2, 2))["motion"]
    assert small > 0.05
    assert large == pytest.approx(2 * small, rel=0.01)


def record(number, vector):
    colour = [number % 7, 0.0, 0.0]
    return {
        "frame": number,
        "colour": colour,
        "spread": colour,
        "change": 1.0,
        "coherence": {"2": 0.5},
        "features": vector,
    }


def test_memory_does_not_grow_with_the_video():
    drift, vector = Drift(), [1.0] + [0.0] * 31
    for number in range(5000):
        drift.take(record(number, vector))
    assert len(drift._vectors._of) == max(DISTANCES)
    assert len(drift._recent) == RECENT
    found = drift.summary()
    assert SLICES / 2 < len(found["over_time"]) <= SLICES
    assert sum(part["frames"] for part in found["over_time"]) == found["frames"] == 5000
    assert {part["frames"] for part in found["over_time"][:-1]} == {128}
    assert found["coherence"] == 0.5


def test_the_distance_of_500_is_the_last_that_is_kept():
    drift = Drift()
    for number in range(501):
        drift.take(record(number, [1.0, 0.0] if number else [0.6, 0.8]))
    assert drift._vectors.compared(501, np.array([1.0, 0.0]))["500"] == 1.0
    drift = Drift()
    for number in range(500):
        drift.take(record(number, [1.0, 0.0] if number else [0.6, 0.8]))
    assert drift._vectors.compared(500, np.array([1.0, 0.0]))["500"] == 0.6


class Stream:
    """One that tells of a latent before each frame."""

    def tell_latents(self, told):
        self.told = told


def write(path, frames, latents, numbers, **more):
    stream = Stream()
    with DriftFile(path, **more) as file:
        file.begin(stream)
        for number in numbers:
            stream.told(latents[number])
            file.frame(number, frames[number])
    return file.notes


def test_a_run_that_goes_on_writes_the_file_of_one_that_was_not_interrupted(tmp_path):
    """Also where the file was ahead of the state."""
    frames, latents = scene(2, 26), torch.randn(26, 1, 4, 1, 10, 6, generator=torch.Generator().manual_seed(0))
    write(tmp_path / "whole", frames, latents, range(26))
    notes = write(tmp_path / "parts", frames, latents, range(15))
    write(tmp_path / "parts", frames, latents, range(15, 20), goes_on=True, done=15, notes=notes)
    write(
        tmp_path / "parts", frames, latents, range(15, 26), goes_on=True, done=15, notes=json.loads(json.dumps(notes))
    )
    whole = (tmp_path / "whole").read_bytes()
    assert (tmp_path / "parts").read_bytes() == whole
    lines = [json.loads(line) for line in whole.splitlines()]
    assert [line.get("frame") for line in lines] == [None, *range(26), None]
    assert read_drift(tmp_path / "whole").summary() == lines[-1]["summary"]
    a, b = (np.array(latent_vector(latents[k])) for k in (3, 8))
    assert len(a) == 8 * 6
    pairs = [np.dot(latent_vector(latents[k]), latent_vector(latents[k + 5])) for k in range(21)]
    assert pairs[3] == pytest.approx(a @ b)
    assert lines[-1]["summary"]["latent_coherence_at"]["5"] == pytest.approx(np.mean(pairs), abs=2e-4)


def test_a_file_that_lacks_frames_goes_on_with_what_there_is(tmp_path):
    frames, latents = scene(2, 8), torch.randn(8, 1, 4, 1, 4, 4)
    write(tmp_path / "late", frames, latents, range(4, 8), goes_on=True, done=4, notes={"drift": "damaged"})
    lines = [json.loads(line) for line in (tmp_path / "late").read_text().splitlines()]
    assert [line.get("frame") for line in lines] == [None, 4, 5, 6, 7, None]
    assert "change" not in lines[1]
    (tmp_path / "lines").write_text("a\nb\n")
    with pytest.raises(UserError, match="lines is no drift file"):
        write(tmp_path / "lines", frames, latents, range(4, 8), goes_on=True, done=4)
    assert (tmp_path / "lines").read_text() == "a\nb\n"
    with pytest.raises(UserError, match="cannot read"):
        read_drift(tmp_path / "none")


def test_a_report_has_it_by_distance():
    measure = METRICS["drift"].load({})
    found = measure(scene(2, 24), "")
    assert len(found["coherence_curve"]) == 4
    assert found["coherence"] == pytest.approx(np.mean(found["coherence_curve"]), abs=1e-4)
    assert measure(scene(2, 2), "") == {"colour_trend": pytest.approx(measure(scene(2, 2), "")["colour_trend"])}


def test_frames_of_several_videos_are_refused():
    with pytest.raises(ValueError, match="a frame is uint8"):
        Drift().add(np.zeros((2, 8, 8, 3), np.uint8))
