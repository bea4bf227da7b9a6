"""What a video starts from: pictures, videos, latents, a clip."""

from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from fifo_diffusion.decoding.frames import to_uint8
from fifo_diffusion.method import SeededNoise
from fifo_diffusion.testing import frames, same
from streams import SMALL, pictures


def rendered(fifo, given):
    """Frames through the autoencoder: as a clip that they begin shows them."""
    return to_uint8(fifo.model.decoder().push(fifo.model.encode(given)))[0]


@pytest.mark.parametrize("count", [1, 3, 4, 11])
def test_given_frames_are_the_past_and_may_be_shown(fifo, count):
    given = pictures(count)
    hidden = frames(fifo.stream("a cat", seed=0, num_frames=3, start=given, **SMALL))
    shown = frames(fifo.stream("a cat", seed=0, num_frames=count + 3, start=given, include_start=True, **SMALL))
    assert np.array_equal(shown[:count], rendered(fifo, given) if count < 4 else given)
    other = frames(fifo.stream("a cat", seed=0, num_frames=3, start=255 - given, **SMALL))
    assert not same(hidden, other, 3)


def test_a_picture_may_be_given_in_many_ways(fifo, tmp_path):
    picture = pictures(1)[0]
    Image.fromarray(picture).save(tmp_path / "start.png")
    expected = frames(fifo.stream("a cat", seed=0, num_frames=2, start=[picture], **SMALL))
    for start in (picture, Image.fromarray(picture), tmp_path / "start.png", str(tmp_path / "start.png")):
        assert np.array_equal(frames(fifo.stream("a cat", seed=0, num_frames=2, start=start, **SMALL)), expected)


@pytest.mark.parametrize("count", [1, 3])
def test_fewer_frames_than_a_window_begin_a_clip(fifo, count):
    """The rest of that clip comes first, then the video that it is the past of; both know what was given."""
    given = pictures(count)
    stream = fifo.stream("a cat", seed=0, start=given, **SMALL)
    clip = np.concatenate([given, list(islice(stream, 4 - count))])
    assert stream.state().known.shape[2] == 4
    known = fifo.model.encode(given)
    assert torch.equal(stream.state().known[:, :, :count], known)
    going_on = frames(islice(stream, 3))
    latents = stream.state().known
    expected = frames(fifo.stream("a cat", seed=0, num_frames=3, start=latents, **SMALL, noise=shifted(4 - count)))
    assert np.array_equal(going_on, expected)
    other = frames(fifo.stream("a cat", seed=0, num_frames=4 - count, start=255 - given, **SMALL))
    assert not same(clip[count:], other, 3)


def shifted(by):
    """The draws of frames that are `by` later."""
    noise = SeededNoise([0], (4, 8, 8))
    return lambda frame, level: noise(frame + by, level)


def test_a_picture_is_shown_before_anything_is_computed(fifo, monkeypatch):
    stream = fifo.stream("a cat", seed=0, start=pictures(1), include_start=True, **SMALL)
    monkeypatch.setattr(fifo.model, "predict", None)
    assert np.array_equal(next(stream), rendered(fifo, pictures(1))[0])


def test_latents_as_start(fifo):
    given = pictures(4)
    latents = fifo.model.encode(given)
    expected = frames(fifo.stream("a cat", seed=0, num_frames=2, start=given, **SMALL))
    for start in (latents, latents[0]):
        assert np.array_equal(frames(fifo.stream("a cat", seed=0, num_frames=2, start=start, **SMALL)), expected)
    with pytest.raises(ValueError, match=r"needed: \(1, 4, frames, 8, 8\)"):
        fifo.stream("a cat", start=latents[:, :3], **SMALL)


def test_a_long_video_as_start_is_read_as_it_is_shown(fifo, tmp_path):
    """No more than a window of it is held, and a state names the file."""
    from fifo_diffusion.video import write_video

    given = pictures(30)
    write_video(tmp_path / "given" / "", given)
    start = str(tmp_path / "given")
    call = {"seed": 0, "start": start, "include_start": True, **SMALL}
    whole = frames(fifo.stream("a cat", num_frames=36, **call))
    assert np.array_equal(whole[:30], given)
    stream = fifo.stream("a cat", **call)
    first = list(islice(stream, 12))
    state = stream.state()
    assert state.shown.source == start
    assert sum(t.numel() for t in state.tensors.values()) < given.size
    rest = fifo.stream(start=state, num_frames=36)
    assert np.array_equal(np.stack(first + list(rest)), whole)


def test_the_opening_clip_and_the_queue_draw_apart(fifo):
    """Known frames are shown to the model under noise that they were not made from."""
    drawn = []
    noise = SeededNoise([0], (4, 8, 8))

    def watched(frame, level):
        drawn.append((frame, level))
        return noise(frame, level)

    stream = fifo.stream("a cat", seed=0, noise=watched, eta=0.5, **SMALL)
    next(stream)
    clip = set(drawn)
    drawn.clear()
    list(islice(stream, 12))
    assert clip
    assert not clip & set(drawn)


def test_a_picture_is_encoded_as_its_autoencoder_scales_it(fifo):
    """Against the autoencoder itself: the mean, times the scale that the denoiser knows."""
    vae, given = fifo.pipe.vae, pictures(2)
    pixels = torch.from_numpy(given).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        mean = vae.encode(pixels).latent_dist.mean
    expected = (mean * vae.config.scaling_factor).transpose(0, 1)[None]
    assert vae.config.scaling_factor == 0.18215
    torch.testing.assert_close(fifo.model.encode(given), expected, rtol=1e-4, atol=1e-5)
