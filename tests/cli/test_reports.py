"""What the command line tells without making videos: the dry run, its cost, the models, the doctor, the progress."""

from pathlib import Path

import pytest
import torch

from command_runs import BALL
from fifo_diffusion.cli.main import main
from fifo_diffusion.jobs.cost import Cost
from fifo_diffusion.toybox import PIPELINE_FOLDER
from layouts import queue_layout

pytestmark = pytest.mark.usefixtures("in_a_folder_of_its_own")


def test_dry_run_counts_and_makes_nothing(capsys):
    assert main(["generate", BALL, "--dry-run", "--seed", "1", "--num-frames", "100"]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    for part in (
        "f = 16 frames per window, n = 4 partitions, b = 1 frames per level: 64 slots, 64 levels",
        "8 context slots",
        "-8 to 7 -> 0 to 7",
        "256 frame-forwards per frame (guidance makes it twice as many)",
        "2048 for the clip",
        "given after frame 16, seen after at most: tail 63 frames",
        "100 frames of 64x64",
        "seed 1",
        "MB",
    ):
        assert part in output.out
    rows = [line.split()[0] for line in output.out.splitlines() if line[:1].strip()]
    assert rows[:2] == ["model", "video"]  # what people want to know comes before how it works
    assert rows.index("memory") < rows.index("queue") < rows.index("windows")
    assert not list(Path().iterdir())


def test_dry_run_says_what_enters_at_the_tail(capsys):
    words = ["--coherent-tail", "0.5", "--tail-adain", "0.25", "--tail-draws", "3", "--tail-every", "8"]
    assert main(["generate", BALL, "--dry-run", "--num-frames", "100", *words]) == 0
    output = capsys.readouterr().out
    assert "0.5 of the newest frame's low frequencies; their colours moved to the first frame's by 0.25" in output
    assert "the best of 3 draws for every 8 latents: 12 of the frame-forwards" in output  # 2 * (128 + 3 * 16 / 8)
    assert "268 frame-forwards per frame (guidance makes it twice as many)" in output
    assert main(["generate", BALL, "--dry-run", "--tail-adain", "0.5"]) == 2
    assert "--tail-adain 0.5: it does nothing without --coherent-tail" in capsys.readouterr().err


def test_dry_run_of_banded_lookahead(capsys):
    assert main(["generate", BALL, "--dry-run", "--banded-lookahead", "--num-frames", "100"]) == 0
    output = capsys.readouterr().out
    assert "none: 72 slots at once, each sees 16 neighbours, itself among them" in output
    assert "144 frame-forwards per frame (guidance makes it twice as many)" in output
    assert main(["generate", BALL, "--dry-run", "--banded-lookahead", "--no-lookahead"]) == 2
    assert "--no-lookahead and --banded-lookahead exclude each other" in capsys.readouterr().err
    assert main(["generate", BALL, "--dry-run", "--banded-lookahead", "--compat", "published"]) == 2
    assert "--banded-lookahead: --compat published has none; use --lookahead" in capsys.readouterr().err


def test_dry_run_does_not_need_the_weights(capsys):
    for file in PIPELINE_FOLDER.rglob("*.json"):
        copy = Path("model") / file.relative_to(PIPELINE_FOLDER)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    assert main(["generate", BALL, "--dry-run", "--model", "model"]) == 0
    assert "weights" in capsys.readouterr().out


@pytest.mark.parametrize("start", ["clip", "noise", 4, 1, 3])
@pytest.mark.parametrize(("n", "lookahead"), [(1, False), (2, True), (2, "banded")])
def test_cost_is_what_is_computed(start, n, lookahead, pipe):
    from fifo_diffusion import FIFO

    with FIFO(pipe) as fifo:
        forwards = []

        def predict(latents_BCFHW, *_, **_banding):
            forwards.append(latents_BCFHW.shape[0] * latents_BCFHW.shape[2])
            return torch.zeros_like(latents_BCFHW)

        fifo.model.predict = fifo.model.predict_banded = predict
        count = 0 if isinstance(start, str) else start
        given = torch.zeros(1, *_shape(fifo))[:, :, :count] if count else start
        stream = fifo.stream(
            "a cat", seed=0, start=given, window=4, num_partitions=n, lookahead=lookahead, guidance_scale=1
        )
        cost = Cost(queue_layout(4, n, lookahead), 1, start if isinstance(start, str) else "known", given=count)
        for frame in range(1, 8):
            next(stream)
            assert sum(forwards) == pytest.approx(cost.until(frame), abs=cost.fill / 4 if frame <= 4 else 0)


def _shape(fifo):
    channels, height, width = fifo.model.latent_shape(fifo.model.defaults["height"], fifo.model.defaults["width"])
    return channels, 4, height, width


def test_models_lists_what_is_supported(capsys):
    assert main(["models"]) == 0
    output = capsys.readouterr().out
    assert "TextToVideoSDPipeline" in output
    assert "cerspense/zeroscope_v2_576w" in output
    assert "verified" in output
    assert max(map(len, output.splitlines())) <= 80


def test_doctor_is_content_here(capsys):
    code = main(["doctor"])
    output = capsys.readouterr().out
    assert "torch" in output
    assert "libx264" in output
    assert "MB, works" in output
    assert code == (1 if "FIX" in output else 0)


def doctor_says(capsys):
    assert main(["doctor"]) == 1
    return {line.split()[1]: line for line in capsys.readouterr().out.splitlines()}


def test_doctor_tries_what_it_vouches_for(monkeypatch, capsys):
    """As with a version of a library that cannot read the embedded tokenizer."""
    from transformers import CLIPTokenizer

    def broken(*_args, **_kwargs):
        raise TypeError("missing 2 required arguments:\n'vocab_file' and 'merges_file'")

    monkeypatch.setattr(CLIPTokenizer, "from_pretrained", broken)
    toybox = doctor_says(capsys)["toybox"]
    assert toybox.startswith("FIX")
    assert "missing 2 required" in toybox
    assert "pip install -U" in toybox


def test_doctor_knows_what_is_too_old(monkeypatch, capsys):
    from importlib.metadata import version

    monkeypatch.setattr("fifo_diffusion.cli.doctor.requires", lambda _name: ["typer>=0.16", "av>=999", "numpy"])
    found = doctor_says(capsys)
    assert found["av"].startswith("FIX")
    assert f"{version('av')}, not >=999" in found["av"]
    assert found["av"].endswith('pip install -U "av>=999"')
    assert found["typer"].startswith("ok")
    assert "not tried" in found["toybox"]


def test_plain_progress(capsys, monkeypatch):
    from fifo_diffusion.cli.progress import Progress
    from fifo_diffusion.text import duration, real_time

    now = [0.0]
    monkeypatch.setattr("fifo_diffusion.cli.progress.time.monotonic", lambda: now[0])
    progress = Progress(100, fps=0.4)
    for seconds in (30, 31, 32, 41):
        now[0] = seconds
        progress.advance()
    progress.close()
    # The first frame takes long and says nothing about the others.
    assert capsys.readouterr().err.splitlines() == [
        "frame 1 of 100",
        "frame 4 of 100, about 5 min 52 s left (0.27 frames/s, 0.68x real time)",
        "4 frames in 41 s (0.10 frames/s, 0.24x real time)",
    ]
    assert [real_time(rate, 10) for rate in (0.5, 21, 99.4, 99.6, 1234)] == [
        f"{times}x real time" for times in ("0.05", "2.1", "9.9", "10", "123")
    ]
    assert [duration(s) for s in (3, 12, 200, 7500)] == ["3.0 s", "12 s", "3 min 20 s", "2 h 05 min"]
