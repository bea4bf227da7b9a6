"""Streams of a model whose latents are several frames each, from Wan's decoder to the command line."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import WanPipeline

from fifo_diffusion import FIFO
from fifo_diffusion.cli.main import main
from fifo_diffusion.decoding.frames import to_uint8
from fifo_diffusion.jobs.cost import Cost
from fifo_diffusion.models import registry
from fifo_diffusion.testing import distance, frames, same
from fifo_diffusion.testing.contract.families import WanContract
from fifo_diffusion.testing.tiny_wan import FEW, VAE_2_2, components, pipeline
from fifo_diffusion.video import count_frames, read_frames


@pytest.fixture(scope="module")
def fifo():
    with FIFO(pipeline()) as fifo:
        yield fifo


CLIP = 9
"""Frames of a clip of 3 latents."""


def decoded_by_pipeline(fifo, latents):
    frames = WanContract().whole_decoding(fifo.pipe, latents)
    return to_uint8(frames)[0]


@pytest.mark.parametrize("start", ["clip", "noise"])
def test_a_stream_is_its_latents_decoded_as_a_whole(fifo, start):
    latents = fifo("a cat", seed=1, num_frames=21, start=start, output_type="latent", **FEW).frames
    assert latents.shape == (1, 4, 6, 4, 4)
    found = frames(fifo.stream("a cat", seed=1, num_frames=21, start=start, **FEW))
    assert same(found, decoded_by_pipeline(fifo, latents))


@pytest.mark.parametrize("count", [1, 4, 9, 14])
def test_any_number_of_frames(fifo, count):
    stream = fifo.stream("a cat", seed=1, num_frames=count, **FEW)
    found = frames(stream)
    assert (len(found), stream.frame_index) == (count, count)
    assert np.array_equal(found, frames(fifo.stream("a cat", seed=1, num_frames=21, **FEW), count))


def test_a_video_that_ends_in_its_clip_fills_no_queue(fifo, monkeypatch):
    windows = []
    predict = type(fifo.model).predict
    monkeypatch.setattr(type(fifo.model), "predict", lambda *a, **k: windows.append(len(a[1])) or predict(*a, **k))
    frames(fifo.stream("a cat", seed=1, num_frames=CLIP, **FEW))
    assert sum(windows) == 6  # L steps of one window
    windows.clear()
    stream = fifo.stream("a cat", seed=1, **FEW)
    work = [sum(windows[: [next(stream), len(windows)][1]]) for _ in range(CLIP)]
    assert work[0] == 6
    assert 0 < work[4] - work[0] < work[-1] - work[0]  # the queue fills while the clip is shown


def test_cost_is_counted_in_latents(fifo, monkeypatch):
    """What the command line says a video costs is what it costs."""
    predict, rows = type(fifo.model).predict, []
    monkeypatch.setattr(type(fifo.model), "predict", lambda *a, **k: rows.append(a[1].shape[2]) or predict(*a, **k))
    layout = fifo.layout(window=3, num_partitions=2)
    for start, given, count in (("clip", 0, 21), ("known", 1, 21), ("known", 30, 17), ("noise", 0, 10)):
        rows.clear()
        begin = pictures(given) if given else start
        frames(fifo.stream("a cat", seed=1, num_frames=count, start=begin, include_start=bool(given), **FEW))
        cost = Cost(layout, 1, start, count, given, given, fifo.model.timing)
        assert sum(rows) == cost.until(count), (start, given)


def pictures(count):
    return np.random.default_rng(0).integers(0, 255, (count, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize(("given", "used"), [(1, 1), (2, 1), (7, 5), (9, 9), (30, 9)])
def test_given_frames_are_encoded_and_the_video_goes_on_from_them(fifo, given, used):
    """As many as fill latents; their own frames are decoded before those of the new ones, which are four each."""
    past = pictures(given)
    known = fifo.model.encode(past[-min(used, CLIP) :])
    assert known.shape[2] == 1 + (used - 1) // 4
    stream = fifo.stream("a cat", seed=1, num_frames=10, start=past, **FEW)
    hidden, opened = frames(stream), stream.state()
    shown = frames(fifo.stream("a cat", seed=1, num_frames=given + 10, start=past, include_start=True, **FEW))
    if given >= CLIP:
        assert np.array_equal(shown[:given], past)
    else:
        assert same(shown[given - used : given], decoded_by_pipeline(fifo, known))
        assert np.array_equal(shown[: given - used], past[: given - used])
    if used < CLIP:  # the clip that the model made of them, and what follows it
        clip = opened.known
        assert torch.equal(clip[:, :, : known.shape[2]], known)
        whole = decoded_by_pipeline(fifo, clip)
        assert same(hidden[: CLIP - used], whole[used:][:10])
        other = frames(fifo.stream("a cat", seed=1, num_frames=CLIP - used, start=255 - past, **FEW))
        assert not same(other, hidden[: CLIP - used], 3)
    latents = fifo("a cat", seed=1, num_frames=10, start=past, output_type="latent", **FEW).frames
    assert latents.shape[2] == 3
    together = decoded_by_pipeline(fifo, torch.cat([known, latents], 2))
    assert same(together[known.shape[2] * 4 - 3 :][:10], hidden)


def test_latents_of_ones_own_are_a_past_too(fifo):
    latents = torch.randn(1, 4, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    made = fifo("a cat", seed=1, num_frames=5, start=latents, output_type="latent", **FEW).frames
    found = frames(fifo.stream("a cat", seed=1, num_frames=5, start=latents, **FEW))
    expected = decoded_by_pipeline(fifo, torch.cat([latents[:, :, -3:], made], 2))
    assert same(expected[CLIP:][:5], found)


@pytest.mark.parametrize("done", [0, 3, 11, 18])
@pytest.mark.parametrize("start", ["clip", "picture"])
def test_interrupted_is_uninterrupted(fifo, done, start, tmp_path):
    """Also between the frames of one latent; and the state holds latents, not the autoencoder's caches."""
    arguments = {"seed": 2, "num_frames": 25, "start": "clip" if start == "clip" else pictures(1)} | FEW
    expected = frames(fifo.stream("a cat", **arguments))
    stream = fifo.stream("a cat", **arguments)
    first = [next(stream) for _ in range(done)]
    next(fifo.stream("a dog", seed=0, **FEW))  # another decoder in between
    stream.state().save(tmp_path / "state")
    rest = fifo.stream(start=tmp_path / "state", num_frames=25)
    assert rest.state().header == stream.state().header
    assert np.array_equal([*first, *rest], expected)
    past = stream.state().tensors.get("decoder.past", torch.empty(0))
    assert past.numel() <= 32 * 4 * 4 * 4


def test_a_schedule_counts_frames_of_the_video(fifo):
    """A key means the latent that its frame comes from."""
    subject = WanContract()
    subject.current = fifo.pipe
    with subject.without_frame_mixing():

        def latents(prompt):
            return fifo(prompt, seed=2, num_frames=29, output_type="latent", **FEW).frames

        plain = latents("a cat")
        for key, first in ((13, 4), (15, 4), (16, 4), (17, 5)):
            changed = latents({0: "a cat", key: "a red dog by night"})
            assert distance(changed[:, :, :first], plain[:, :, :first]) < 1e-5
            assert distance(changed[:, :, first], plain[:, :, first]) > 1e-3
        grown = fifo.stream({0: "a cat", 12: "a dog"}, seed=2, start=pictures(6), include_start=True, **FEW)
        assert [key for key, _ in grown.state().prompts] == [2, 4]  # frames 10 to 13 come from latent 4


def test_batches_and_windows_at_once(fifo):
    alone = frames(fifo.stream("a dog", seed=5, num_frames=13, **FEW))
    both = frames(fifo.stream(["a cat", "a dog"], seed=4, num_frames=13, windows_per_batch=4, **FEW))
    assert same(both[:, 1], alone)
    clip = fifo("a dog", seed=5, num_frames=13, output_type="np", **FEW)
    assert type(clip).__name__ == "WanPipelineOutput"
    assert same((clip.frames[0] * 255).round().astype(np.uint8), alone)


@pytest.mark.parametrize("changes", [{}, VAE_2_2], ids=["2.1", "2.2"])
def test_streamed_is_whole(changes):
    """Up to rounding: the pipeline takes some layers over all latents at once."""
    pipe = WanPipeline(**components(vae_changes=changes))
    latents = torch.randn(2, 4, 12, 2, 2, generator=torch.Generator().manual_seed(0))
    model, whole = registry.wrap(pipe), WanContract().whole_decoding(pipe, latents)
    decoder, late = model.decoder(), model.decoder()
    streamed = torch.cat([decoder.push(piece) for piece in latents.split([1, 4, 1, 6], 2)], 1)
    assert distance(streamed, whole) < 1e-5
    assert distance(late.push(latents[:, :, 4:])[:, -28:], whole[:, -28:]) > 1e-3  # without the past


def test_the_decoder_passes_over_frames_that_nobody_sees(fifo):
    """As ranks do that do not write; what comes after is the same."""
    latents = torch.randn(1, 4, 40, 2, 2, generator=torch.Generator().manual_seed(0))
    whole, skipping = fifo.model.decoder(), fifo.model.decoder()
    frames_of = whole.push(latents[:, :, :37]).shape[1]
    assert skipping.skip(latents[:, :, :1]) + skipping.skip(latents[:, :, 1:37]) == frames_of == 145
    assert torch.equal(skipping.push(latents[:, :, 37:]), whole.push(latents[:, :, 37:]))
    short = fifo.model.decoder()  # the reach is not wildly too long either
    short.skip(latents[:, :, 24:37])
    assert not torch.allclose(short.push(latents[:, :, 37:]), whole.push(latents[:, :, 37:]), atol=1e-3)


@pytest.mark.parametrize("latents", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_a_folder_through_the_command_line(latents, tmp_path, monkeypatch, capsys):
    """A prompt change in mid-run, as many frames as the decoder promises, and memory that does not grow."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pipeline().save_pretrained("model")
    count = 1 + 4 * (latents - 1)
    (tmp_path / "schedule.txt").write_text(f"0: a red ball\n{count // 2}: a blue dog by night\n")
    run = ["generate", "--schedule", "schedule.txt", "--model", "model", "--device", "cpu", "--seed", "3"]
    run += ["--num-partitions", "1", "--window", "4", "--height", "32", "--width", "32"]
    assert main([*run, "--num-frames", str(count), "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "a latent frame is 4 frames, the first 1" in told
    assert "16 frames/s" in told
    resident = []
    monkeypatch.setattr("fifo_diffusion.cli.progress.Progress.advance", lambda self: resident.append(resident_mb()))
    output = "out/" if latents == 20 else "out.mp4"
    assert main([*run, "--num-frames", str(count), "-o", output]) == 0
    assert count_frames(output) == count == len(resident)
    if latents == 200:
        assert max(resident[count // 2 :]) - max(resident[100 : count // 2]) < 8
        return
    with FIFO.from_pretrained("model", device="cpu") as fifo:
        stream = {"seed": 3, "window": 4, "num_partitions": 1, "height": 32, "width": 32, "num_frames": count}
        schedule = {0: "a red ball", count // 2: "a blue dog by night"}
        expected = frames(fifo.stream(schedule, **stream))
        assert np.array_equal(read_frames(output), expected)
        assert not same(expected, frames(fifo.stream("a red ball", **stream)), 3)


def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


@pytest.mark.parametrize("how", ["tail", "queue", "blend"])
@pytest.mark.parametrize("start", ["clip", "pictures"])
def test_a_live_change_is_a_schedule_in_frames(fifo, how, start):
    """Frames as the viewer counts them, though the queue holds latents of four."""
    arguments = {"seed": 1, "include_start": start != "clip", **FEW}
    arguments["start"] = pictures(5) if start != "clip" else start
    stream = fifo.stream("a cat", **arguments)
    first, state = frames(stream, CLIP + 1), stream.state()
    at = stream.change_prompt("a dog", how=how)
    plan = {0: "a cat", at: {"prompt": "a dog", "change": how}}
    assert stream.schedule == (plan if how != "tail" else {0: "a cat", at: "a dog"})
    live = np.concatenate([first, frames(stream, 30)])
    assert np.array_equal(live, frames(fifo.stream(plan, num_frames=CLIP + 31, **arguments)))
    assert np.array_equal(live[CLIP + 1 :], frames(fifo.stream(plan, start=state, num_frames=CLIP + 31)))
    assert not np.array_equal(live, frames(fifo.stream("a cat", num_frames=CLIP + 31, **arguments)))
    assert stream.preview() is None
    next(stream)
    frames(stream, 4)
    assert stream.preview().shape[0] == stream.slots == len(stream.queue_frames)
    assert {b - a for a, b in pairwise(stream.queue_frames)} == {4}
