"""README's Python snippets, one after the other in one session, as a reader tries them."""

import re
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline

import fifo_diffusion
from fifo_diffusion import FIFO
from fifo_diffusion.cli.main import main
from fifo_diffusion.settings.fitting import preset_values
from fifo_diffusion.settings.presets import PRESETS
from fifo_diffusion.testing import tiny
from fifo_diffusion.video import count_frames, read_metadata
from layouts import queue_layout

README = Path(__file__).parents[1].joinpath("README.md").read_text("utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.S)
SIZE = {"height": 16, "width": 16}
TOYBOX, HUB = "toybox", "cerspense/zeroscope_v2_576w"


@pytest.fixture
def session(tmp_path, monkeypatch):
    """An empty folder, tiny models in place of toybox and the one on the hub, and videos of 45 frames at most."""
    monkeypatch.chdir(tmp_path)
    loaded = []

    def load(name, **kwargs):
        assert name in (TOYBOX, HUB)
        assert kwargs.keys() <= {"dtype", "group"}
        loaded.append(name)
        pipe = tiny.pipeline(**tiny.LIGHT)
        pipe.to = lambda device: pipe  # "cuda"
        return pipe

    def stream(self, *given, num_frames=None, start="clip", **more):
        if Path(str(start)).suffix != ".safetensors":
            more = {
                "window": 4,
                "num_partitions": 1,
                "guidance_scale": 1,
                "lookahead": False,
                "height": 16,
                "width": 16,
            } | more
        return whole(self, *given, num_frames=num_frames and min(num_frames, 45), start=start, **more)

    whole = FIFO.stream
    monkeypatch.setattr(FIFO, "stream", stream)
    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", load)
    monkeypatch.setattr(FIFO, "from_pretrained", lambda name, group=None: FIFO(load(name), group=group))
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "0"}.items():
        monkeypatch.setenv(name, value)
    yield loaded
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def test_snippets_run_from_top_to_bottom(session, capsys):
    names = {}
    for snippet in SNIPPETS:
        exec(compile(snippet, "README.md", "exec"), names)
    assert session == [TOYBOX, HUB, HUB]
    assert len(names["video"]) == 45
    assert "40 (16, 16, 3)" in capsys.readouterr().out
    found = {path.name: count_frames(path) for path in Path().glob("*.mp4")}
    expected = ("ball.mp4", "day.mp4", "video-0.mp4", "video-1.mp4", "ball-goes-on.mp4", "corgi.mp4")
    assert found == dict.fromkeys(expected, 45)


@pytest.mark.parametrize("name", PRESETS)
def test_the_table_of_presets_counts_their_work(name):
    """Frame-forwards for a frame of video, those of guidance's second pass too, at f 16 and at Wan's f."""
    preset = PRESETS[name]
    row = next(line for line in README.splitlines() if line.startswith(f"| `{name}` |"))
    *_, small, large = (cell.strip() for cell in row.strip("|").split("|"))
    for frames, cell in ((16, small), (21, large)):
        values = {"window": frames} | preset_values(preset, frames)
        keys = ("window", "num_partitions", "lookahead", "frames_per_level")
        layout = queue_layout(**{key: values[key] for key in keys})
        cost = layout.frame_forwards_per_frame * (1 if preset.unguided else 2)
        window = f" (windows of {values['window']})" if values["window"] != frames else ""
        assert cell == f"{cost:g}{window}"


def test_a_file_says_how_its_stream_was_made(session, capsys):
    """And `info` shows it."""
    fifo = FIFO(tiny.pipeline(**tiny.LIGHT))
    prompts = {0: "a cat", 2: "a dog"}
    fifo_diffusion.write_video("cat.mp4", fifo.stream(prompts, num_frames=3, seed=7, guidance_scale=2))
    facts = read_metadata("cat.mp4")
    assert facts["software"] == f"fifo-diffusion {fifo_diffusion.__version__}"
    assert (facts["prompt"], facts["seed"]) == ('{"0": "a cat", "2": "a dog"}', "7")
    assert (facts["model"], facts["guidance_scale"], facts["window"]) == (type(fifo.pipe).__name__, "2", "4")
    assert main(["info", "cat.mp4"]) == 0
    assert "a dog" in capsys.readouterr().out
    fifo_diffusion.write_video("own.mp4", fifo.stream("a cat", num_frames=1), metadata={"title": "mine"})
    assert read_metadata("own.mp4") == {"title": "mine"}
