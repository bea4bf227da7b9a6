"""README's table of presets, and what files say of their streams."""

import json
from pathlib import Path

import pytest

import fifo_diffusion
from fifo_diffusion import FIFO
from fifo_diffusion.cli.main import main
from fifo_diffusion.settings.fitting import preset_values
from fifo_diffusion.settings.presets import PRESETS
from fifo_diffusion.testing import tiny
from fifo_diffusion.video import read_metadata
from layouts import queue_layout

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def costs():
    """Rows of README's table of presets: {preset: {column: cell}}."""
    lines = README.splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith("| preset |"))
    names, _, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines[start : start + 2 + len(PRESETS)]
    )
    return {row[0].strip("`"): dict(zip(names, row, strict=True)) for row in rows}


@pytest.mark.parametrize("name", PRESETS)
def test_the_table_of_presets_counts_their_work(name):
    """Frame-forwards for a frame of video, those of guidance's second pass too, at f 16 and at Wan's f."""
    preset, row = PRESETS[name], costs()[name]
    for frames, column in ((16, "frame-forwards at f 16"), (21, "at Wan's f 21")):
        values = {"window": frames} | preset_values(preset, frames)
        keys = ("window", "num_partitions", "lookahead", "frames_per_level")
        layout = queue_layout(**{key: values[key] for key in keys})
        cost = layout.frame_forwards_per_frame * (1 if preset.unguided else 2)
        window = f" (windows of {values['window']})" if values["window"] != frames else ""
        assert row[column] == f"{cost:g}{window}"


@pytest.mark.parametrize(
    ("name", "measured"),
    [
        ("paper", "32-on-guided"),
        ("quality", "32-on-guided-coherent"),
        ("fast", "16-off-guided"),
        ("live", "4-on-unguided"),
    ],
)
def test_the_table_of_presets_has_the_scores_that_were_measured(name, measured):
    scores = json.loads((ROOT / "docs" / "results" / "study_levels.json").read_text())["rows"][measured]
    digits = {"score": ("score", 3), "FVD": ("FVD to real clips", 2), "flicker": ("flicker", 2)}
    for column, (key, places) in digits.items():
        mean, error = scores[key]
        assert costs()[name][column] == f"{mean:.{places}f} ± {error:.{places}f}"


def test_a_file_says_how_its_stream_was_made(tmp_path, monkeypatch, capsys):
    """And `info` shows it."""
    monkeypatch.chdir(tmp_path)
    fifo = FIFO(tiny.pipeline(**tiny.LIGHT))
    small = {"window": 4, "num_partitions": 1, "lookahead": False, "height": 16, "width": 16}
    prompts = {0: "a cat", 2: "a dog"}
    fifo_diffusion.write_video("cat.mp4", fifo.stream(prompts, num_frames=3, seed=7, guidance_scale=2, **small))
    facts = read_metadata("cat.mp4")
    assert facts["software"] == f"fifo-diffusion {fifo_diffusion.__version__}"
    assert (facts["prompt"], facts["seed"]) == ('{"0": "a cat", "2": "a dog"}', "7")
    assert (facts["model"], facts["guidance_scale"], facts["window"]) == (type(fifo.pipe).__name__, "2", "4")
    assert main(["info", "cat.mp4"]) == 0
    assert "a dog" in capsys.readouterr().out
    fifo_diffusion.write_video("own.mp4", fifo.stream("a cat", num_frames=1, **small), metadata={"title": "mine"})
    assert read_metadata("own.mp4") == {"title": "mine"}
