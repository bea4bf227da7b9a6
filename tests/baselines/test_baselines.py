"""The baselines: on one window the base model's own sampling; on more, what their papers say, step by step."""

import json
import sys
from itertools import islice

import numpy as np
import pytest
import torch

from fifo_diffusion import FIFO
from fifo_diffusion.baselines import BASELINES, freenoise, windows
from fifo_diffusion.baselines.stream import baseline_stream
from fifo_diffusion.cli.main import main
from fifo_diffusion.decoding.timing import LatentTiming
from fifo_diffusion.method import SeededNoise
from fifo_diffusion.method_list import Method
from fifo_diffusion.models.banded.passes import attention_of, temporal_blocks
from fifo_diffusion.study import worker
from fifo_diffusion.study.config import default_rows
from fifo_diffusion.testing import TOLERANCE, distance, same, tiny
from fifo_diffusion.video import count_frames, read_frames, read_metadata

STEPS, SMALL = 4, {"num_inference_steps": 4, "guidance_scale": 3.0, "window": 4, "seed": 3}
BALL = "a red ball moving right on a navy background"


@pytest.fixture(scope="module")
def fifo():
    with FIFO(tiny.pipeline(**tiny.LIGHT)) as fifo:
        yield fifo


def video(fifo, method, count, prompt="a red ball", **changes):
    return np.stack(list(baseline_stream(fifo.model, method, prompt, num_frames=count, **SMALL | changes)))


def latents(fifo, method, count, prompt="a red ball", **changes):
    """Clean latents instead of frames."""
    stream = baseline_stream(fifo.model, method, prompt, num_frames=count, **SMALL | changes)
    parts = []
    with torch.no_grad():
        while stream._made < count:
            parts.append(stream._next_part())
    return torch.cat(parts, 2)[:, :, :count]


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


# ---------------------------------------------------------------------------- errors


class Fails:
    """A function whose calls of these numbers fail."""

    def __init__(self, function, numbers, error):
        self.function, self.numbers, self.error, self.calls = function, numbers, error, 0

    def __call__(self, *args, **kwargs):
        self.calls += 1
        if self.calls in self.numbers:
            raise self.error
        return self.function(*args, **kwargs)


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt(), StopIteration()], ids=repr)
@pytest.mark.parametrize(
    ("method", "calls"), [("chunked", {2, 7, 9}), ("genl", {3}), ("freenoise", {2}), ("plain", {4})]
)
def test_after_an_error_the_stream_goes_on(fifo, monkeypatch, method, calls, error):
    """With the same frames, wherever the model or the decoder failed."""
    expected = video(fifo, method, 9)
    stream = baseline_stream(fifo.model, method, "a red ball", num_frames=9, **SMALL)
    monkeypatch.setattr(fifo.model, "predict", Fails(fifo.model.predict, calls, error))
    monkeypatch.setattr(stream._outlet.decoder, "push", Fails(stream._outlet.decoder.push, {2, 5}, error))
    kind, found, errors = RuntimeError if isinstance(error, StopIteration) else type(error), [], 0
    while len(found) < 9:
        try:
            found.append(next(stream))
        except kind:
            errors += 1
            assert errors < 9
    assert errors == len(calls) + 2
    assert np.array_equal(np.stack(found), expected)
    with pytest.raises(StopIteration):
        next(stream)


@pytest.mark.parametrize("where", ["model", "decoder"])
def test_what_is_no_number_is_no_frame(fifo, monkeypatch, where):
    """The frames before are handed out; asked again, the stream says the same again."""
    expected = video(fifo, "chunked", 4)
    stream = baseline_stream(fifo.model, "chunked", "a red ball", num_frames=8, **SMALL)
    found = [next(stream) for _ in range(4)]
    kind, name = (fifo.model, "predict") if where == "model" else (stream._outlet.decoder, "push")
    plain = getattr(kind, name)
    monkeypatch.setattr(kind, name, lambda *args: plain(*args) * torch.nan)
    for _ in range(2):
        with pytest.raises(FloatingPointError, match=r"frame 4 is not finite .*: the 4 frames before are kept"):
            next(stream)
    assert np.array_equal(np.stack(found), expected)
    assert stream.frame_index == 4


def test_one_thread_at_a_time(fifo, monkeypatch):
    stream, predict = baseline_stream(fifo.model, "plain", "a red ball", num_frames=4, **SMALL), fifo.model.predict

    tried = []

    def meanwhile(*args):
        if not tried:
            with pytest.raises(RuntimeError, match="at work in another thread"):
                next(stream)
            tried.append(stream.close())  # what it has is freed when the frame is done
        return predict(*args)

    monkeypatch.setattr(fifo.model, "predict", meanwhile)
    assert next(stream).shape == (16, 16, 3)
    assert tried
    assert not stream._outlet.ready
    with pytest.raises(StopIteration):
        next(stream)


# ---------------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("method", "arguments", "words"),
    [
        ("best", {"num_frames": 8}, "method='best'"),
        ("genl", {"num_frames": None}, "Gen-L-Video"),
        ("genl", {"stride": 9}, "stride=9"),
        ("chunked", {"overlap": 4}, "overlap=4"),
        ("chunked", {"stride": 2}, "stride=2"),
        ("plain", {"num_frames": 0}, "num_frames"),
        ("plain", {"height": 15}, "height 15"),
    ],
)
def test_what_does_not_fit_is_named(fifo, method, arguments, words):
    with pytest.raises(ValueError, match=words):
        baseline_stream(fifo.model, method, "a red ball", **{"num_frames": 8} | SMALL | arguments)


def test_models_with_several_frames_per_latent_are_refused(fifo, monkeypatch):
    monkeypatch.setattr(fifo.model, "timing", LatentTiming(1, 4))
    with pytest.raises(ValueError, match="chunked autoregression counts a frame per latent, which UNet3D has not"):
        baseline_stream(fifo.model, "chunked", "a red ball", num_frames=9)


def test_a_batch_is_its_videos_one_by_one(fifo):
    both = list(baseline_stream(fifo.model, "genl", ["a red ball", "a cat"], num_frames=6, stride=2, **SMALL))
    alone = video(fifo, "genl", 6, prompt="a cat", stride=2, seed=4)
    assert np.abs(np.stack(both)[:, 1].astype(int) - alone).max() <= 1


# ---------------------------------------------------------------------------- command line


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def generate(*arguments):
    return main(["generate", BALL, *arguments])


@pytest.mark.parametrize("method", BASELINES)
def test_generate_with_each_method(folder, method, capsys):
    small = ["--window", "4", "--num-inference-steps", "2", "--height", "32", "--width", "32", "--seed", "1"]
    assert generate("--method", method, "--num-frames", "6", "-o", "ball.mp4", *small) == 0
    assert count_frames("ball.mp4") == 6
    facts = read_metadata("ball.mp4")
    assert facts["method"] == method
    assert f"--method {method}" in facts["command"]
    assert f"{method}, 2 steps" in capsys.readouterr().err


def test_the_frames_are_those_of_the_stream(folder):
    small = ["--window", "4", "--num-inference-steps", "2", "--height", "32", "--width", "32", "--seed", "1"]
    assert generate("--method", "genl", "--num-frames", "6", "-o", "frames/", *small) == 0
    with FIFO.from_pretrained("toybox", device="cpu") as fifo:
        call = {"window": 4, "num_inference_steps": 2, "height": 32, "width": 32, "seed": 1, "num_frames": 6}
        assert np.array_equal(np.stack(list(baseline_stream(fifo.model, "genl", BALL, **call))), read_frames("frames/"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--method freenoise", "--num-frames N"),
        ("--method plain --forever", "--num-frames N"),
        ("--method genl --num-frames 20 --num-partitions 2", "--num-partitions belongs to FIFO-Diffusion"),
        ("--method genl --num-frames 20 --no-lookahead", "--no-lookahead belongs to FIFO-Diffusion"),
        ("--method freenoise --num-frames 20 --compile", "--compile belongs to FIFO-Diffusion"),
        ("--method plain --num-frames 20 --stride 3", "--stride goes with --method freenoise or genl"),
        ("--num-frames 20 --overlap 3", "--overlap goes with --method chunked"),
        ("--method chunked --overlap 16", "--overlap 16: it does not fit windows of 16"),
        ("--method chunked --state run.state", "--state belongs to FIFO-Diffusion"),
        ("--method best --num-frames 20", "best"),
    ],
)
def test_options_that_do_not_apply_are_refused(folder, arguments, words, capsys):
    assert generate(*arguments.split()) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1


def test_dry_run_counts(folder, capsys):
    assert generate("--method", "genl", "--num-frames", "24", "--dry-run") == 0
    told = capsys.readouterr().out
    assert "Gen-L-Video: 50 steps, windows of 16 frames, stride 4" in told
    assert f"{3 * 16 * 50 * 2} in all" in told


# ---------------------------------------------------------------------------- one more

TOY = """
from fifo_diffusion.baselines.sampler import Sampler


class Slow(Sampler):
    def part(self, made, memory):
        clip = self.sample(range(self.settings.window))
        return clip[:, :, [frame // self.settings.stride for frame in range(self.count)]], None

    @staticmethod
    def frames_per_step(settings):
        return settings.window
"""


@pytest.fixture
def toy(folder, tmp_path, monkeypatch):
    """A baseline that is in one file, and in the list."""
    (tmp_path / "slow_motion.py").write_text(TOY)
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = Method("Slow motion", "a clip, slower", "slow_motion:Slow", options={"stride": 3}, steps=2)
    monkeypatch.setitem(BASELINES, "toy", entry)
    yield
    sys.modules.pop("slow_motion", None)


def test_a_file_and_an_entry_are_a_baseline_on_the_command_line(toy, capsys):
    small = ["--method", "toy", "--num-frames", "6", "--window", "4", "--height", "32", "--width", "32", "--seed", "1"]
    assert generate(*small, "-o", "frames/") == 0
    assert "toy, 2 steps" in capsys.readouterr().err
    frames = read_frames("frames/")
    assert len(np.unique(frames.reshape(6, -1), axis=0)) == 2  # each is shown for three frames
    assert (frames[0] == frames[2]).all()
    assert read_metadata("frames/")["stride"] == "3"

    assert generate(*small, "--stride", "2", "--dry-run") == 0
    told = capsys.readouterr().out
    assert "Slow motion: 2 steps, windows of 4 frames, stride 2" in told
    assert f"{4 * 2 * 2} in all" in told

    assert generate(*small, "--overlap", "2") == 2
    assert "--overlap goes with --method chunked" in capsys.readouterr().err
    assert generate("--stride", "2") == 2
    assert "--method freenoise or genl or toy" in capsys.readouterr().err
    assert generate("--method", "toy") == 2
    assert "--method toy computes all frames at once" in capsys.readouterr().err


def test_it_is_a_row_of_an_evaluation_too(toy, tmp_path, monkeypatch):
    def here(task, result):
        assert worker.work(task | {"result": str(result)}) == 0
        return json.loads(result.read_text())

    monkeypatch.setattr("fifo_diffusion.study.run.run_task", here)
    tiny.pipeline(**tiny.LIGHT).save_pretrained(tmp_path / "model")
    row = {"method": "toy", "window": 4}
    config = {"model": str(tmp_path / "model"), "tables": ["quality", "cost"], "rows": {"slow": row}}
    config |= {"prompts": ["a red ball"], "num_frames": 9, "base_clips": 1, "base_steps": 1, "cost_frames": [5]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    main(["evaluate", "--config", "config.json", "-o", "report"])
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["results"]["quality"]["slow"]["frames"] == 9
    assert default_rows(2, None)["toy"] == {"method": "toy"}
    assert report["results"]["cost"][0]["frames"] == 5
    assert len(np.unique(read_frames("report/videos/slow/000").reshape(9, -1), axis=0)) == 3
