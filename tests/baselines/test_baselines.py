"""The baselines: on one window the base model's own sampling; on more, what their papers say, step by step."""

from itertools import islice

import numpy as np
import pytest
import torch

from baseline_videos import SMALL, STEPS, latents, video
from fifo_diffusion.baselines import BASELINES, freenoise, windows
from fifo_diffusion.baselines.stream import baseline_stream
from fifo_diffusion.method import SeededNoise
from fifo_diffusion.models.banded.passes import attention_of, temporal_blocks
from fifo_diffusion.testing import TOLERANCE, distance, same


def temporal_layers(fifo):
    return [layer for block in temporal_blocks(fifo.pipe.unet) for layer in attention_of(block)]


def own(method, **options):
    return {name: value for name, value in options.items() if name in BASELINES[method].options}


# ---------------------------------------------------------------------------- one window


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("method", BASELINES)
def test_on_one_window_a_baseline_is_base_sampling(fifo, method, eta):
    base = fifo.stream("a red ball", num_frames=4, num_partitions=1, eta=eta, window=4, seed=3, guidance_scale=3.0)
    assert same(video(fifo, method, 4, eta=eta), np.stack(list(base)))


@pytest.mark.parametrize("method", BASELINES)
def test_shorter_than_a_window(fifo, method):
    assert video(fifo, method, 3).shape == (3, 16, 16, 3)


def test_methods_differ_on_more_than_one_window(fifo):
    """So that the tests of one window can fail."""
    videos = {m: latents(fifo, m, 10, **own(m, stride=2)) for m in BASELINES}
    for a in BASELINES:
        for b in BASELINES:
            assert a == b or distance(videos[a], videos[b]) > 100 * TOLERANCE, (a, b)


# ---------------------------------------------------------------------------- windows


@pytest.mark.parametrize(("count", "size", "stride"), [(4, 4, 1), (3, 4, 2), (12, 4, 4), (11, 4, 3), (33, 16, 4)])
def test_windows_cover_every_frame(count, size, stride):
    found = windows.sliding(count, size, stride)
    assert {frame for window in found for frame in window} == set(range(count))
    assert {len(window) for window in found} == {min(size, count)}
    weights = torch.zeros(count)
    for window, weight in zip(found, freenoise.fusion_weights(found), strict=True):
        weights[window.start : window.stop] += weight
    assert torch.allclose(weights, torch.ones(count))


def test_fusion_favours_the_middle_of_a_window():
    (alone,) = freenoise.fusion_weights([range(6)])
    assert alone.tolist() == [1] * 6
    first, second = freenoise.fusion_weights([range(4), range(2, 6)])
    assert first.tolist() == pytest.approx([1, 1, 2 / 3, 1 / 3])
    assert second.tolist() == pytest.approx([1 / 3, 2 / 3, 1, 1])


# ---------------------------------------------------------------------------- FreeNoise


def test_noise_is_that_of_the_first_window_shuffled_in_stretches():
    order = freenoise.noise_order(count=34, window=8, stride=4, seed=1)
    assert order[:8] == list(range(8))
    for start in range(8, 34, 4):
        stretch = order[start : start + 4]
        assert set(stretch) <= set(order[start - 8 : start - 4])
        assert len(set(stretch)) == len(stretch)
    assert order[8:12] + order[12:16] != order[:8]  # it is shuffled
    assert freenoise.noise_order(34, 8, 4, seed=2) != order
    assert freenoise.noise_order(20, 8, 4, seed=1) == order[:20]


def test_only_what_frames_begin_with_is_rescheduled():
    noise = SeededNoise([5], (1, 2, 2))
    other = freenoise.rescheduled(noise, top=7, count=12, window=4, stride=2, seed=5)
    order = freenoise.noise_order(12, 4, 2, 5)
    for frame in range(12):
        assert torch.equal(other(frame, 7), noise(order[frame], 7))
        assert torch.equal(other(frame, 6), noise(frame, 6))


def test_fused_attention_is_the_weighted_mean_of_windows(fifo):
    """Against the stock processor, window by window. Another stride misses it by far."""
    layer = temporal_layers(fifo)[0]
    hidden = torch.randn(3, 11, layer.query_dim, generator=torch.Generator().manual_seed(0))
    found = windows.sliding(11, 4, 3)
    expected = torch.zeros_like(hidden)
    for window, weight in zip(found, freenoise.fusion_weights(found), strict=True):
        part = slice(window.start, window.stop)
        expected[:, part] += weight[:, None] * layer(hidden[:, part])
    with torch.no_grad():
        assert distance(freenoise.FusedAttention(found)(layer, hidden), expected) < TOLERANCE
        wrong = freenoise.FusedAttention(windows.sliding(11, 4, 2))(layer, hidden)
    assert distance(wrong, expected) > 100 * TOLERANCE


def test_the_fused_pass_leaves_nothing_behind(fifo):
    """Also where a second prompt is encoded in the middle, and streams take turns."""
    before = video(fifo, "plain", 6)
    processors = [layer.processor for layer in temporal_layers(fifo)]
    changed = video(fifo, "freenoise", 11, prompt={0: "a red ball", 6: "a cat"}, stride=2)
    assert changed.shape == (11, 16, 16, 3)
    assert [layer.processor for layer in temporal_layers(fifo)] == processors
    assert np.array_equal(video(fifo, "plain", 6), before)


# ---------------------------------------------------------------------------- Gen-L-Video


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_genl_averages_what_the_windows_step_to(fifo, eta):
    """The published form: every window takes its own step, then frames are averaged."""
    count, stride = 9, 2
    model, levels = fifo.model, fifo.model.levels(STEPS, eta=eta)
    noise = SeededNoise([3], model.latent_shape(16, 16))
    condition = model.condition(["a red ball"], height=16, width=16, guidance_scale=3.0)

    def draws(level):
        return torch.stack([noise(frame, STEPS + 1 + level) for frame in range(count)], -3)

    def run(found):
        x = draws(STEPS)
        for index in reversed(range(STEPS)):
            total, times = torch.zeros_like(x), torch.zeros(count)
            for window in found:
                part, level = slice(window.start, window.stop), torch.full((1, len(window)), index)
                predicted = model.predict(x[:, :, part], levels.timestep[level], condition)
                total[:, :, part] += levels.step(x[:, :, part], predicted, level, draws(index)[:, :, part])
                times[part] += 1
            x = total / times[:, None, None]
        return x

    found = windows.sliding(count, 4, stride)
    result = latents(fifo, "genl", count, stride=stride, eta=eta)
    assert distance(result, run(found)) < TOLERANCE
    assert distance(result, run([*found[:-1], range(4, 8), range(5, 9)])) > 100 * TOLERANCE


# ---------------------------------------------------------------------------- chunks


def test_chunks_stream_and_later_ones_change_nothing(fifo):
    endless = baseline_stream(fifo.model, "chunked", "a red ball", overlap=2, **SMALL)
    first = np.stack(list(islice(endless, 9)))
    assert np.array_equal(first, video(fifo, "chunked", 9, overlap=2))
    assert endless.frame_index == 9


@pytest.mark.parametrize("overlap", [1, 2, 3])
def test_a_chunk_is_what_replacement_says(fifo, overlap):
    """Known frames, the last that were shown, are noised to the level of the others in every step, with other draws
    each time. Three chunks: with an overlap of 3 the last one is given frames that the second was given too."""
    model, levels, new = fifo.model, fifo.model.levels(STEPS), 4 - overlap
    noise = SeededNoise([3], model.latent_shape(16, 16))
    condition = model.condition(["a red ball"], height=16, width=16, guidance_scale=3.0)
    whole = latents(fifo, "chunked", 4 + 2 * new, overlap=overlap)

    def run(known, frames):
        x = torch.stack([noise(frame, 2 * STEPS + 1) for frame in frames], -3)
        for index in reversed(range(STEPS)):
            level = torch.full((1, 4), index)
            fresh = torch.stack([noise(frame, index) for frame in frames[:overlap]], -3)
            x[:, :, :overlap] = levels.renoise(known, fresh, level[:, :overlap])
            x = levels.step(x, model.predict(x, levels.timestep[level], condition), level)
        return x[:, :, overlap:]

    for start in (new, 2 * new):
        known, made = whole[:, :, start : start + overlap], whole[:, :, start + overlap : start + 4]
        frames = range(start, start + 4)
        assert distance(made, run(known, frames)) < TOLERANCE
        assert distance(made, run(known + 1, frames)) > 100 * TOLERANCE
