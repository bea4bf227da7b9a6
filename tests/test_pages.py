"""What README and docs/ tell readers to type: every block of every page, one after the other, in a folder of its own.

Python runs as it stands, with tiny random models in place of those that it names, and fewer frames. Commands are read
by a real shell. `generate` and `runs` run for fewer frames, in the slow test with the embedded model and else with a
tiny one in its place; with other models they go as far as the dry run. All others are read by their own parser.
"""

import os
import re
import runpy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    AnimateDiffPipeline,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    ModularPipeline,
    MotionAdapter,
)
from PIL import Image
from safetensors.torch import save_file

from fifo_diffusion import FIFO
from fifo_diffusion.cli.main import main
from fifo_diffusion.models.loading import source
from fifo_diffusion.models.registry import family_of
from fifo_diffusion.testing import (
    tiny,
    tiny_allegro,
    tiny_animatediff,
    tiny_anyflow,
    tiny_cogvideox,
    tiny_easyanimate,
    tiny_hunyuan_video,
    tiny_hunyuan_video15,
    tiny_kandinsky,
    tiny_latte,
    tiny_ltx,
    tiny_ltx2,
    tiny_minimax_h3,
    tiny_mochi,
    tiny_modular,
    tiny_motif,
    tiny_sana_video,
    tiny_videocrafter,
    tiny_wan,
)
from fifo_diffusion.video import count_frames
from page_snippets import PAGES, ROOT, blocks, taken, typed

EMBEDDED = ("toybox", "toybox-diagonal")
CANNOT = {
    ("adding-a-model.md", "class MyPipeline"): "tests/test_package.py runs it, in an environment of its own",
    ("adding-a-model.md", "class TestMyModel"): "tests/test_package.py runs it, in an environment of its own",
    (
        "adding-a-model.md",
        "class CogVideoXModel",
    ): "a sketch of src/fifo_diffusion/models/cogvideox/model.py",
    ("ecosystem.md", "subprocess.Popen("): "a process of the whole command: tests/cli/test_json_lines.py has some",
    ("ecosystem.md", "stream.show(100)"): "it wants a notebook: tests/test_notebook.py runs one",
    ("ecosystem.md", "stream.show(100, queue=True)"): "it wants a notebook: tests/test_notebook.py runs one",
    ("ecosystem.md", "stream.watch()"): "it wants a notebook, and does not end: tests/streaming/test_shown.py",
    ("http.md", "openai.OpenAI("): "it wants the server: tests/studio/test_openai.py says the same to one",
    ("http.md", "curl http"): "it wants the server: tests/studio/test_openai.py says the same to one",
    ("prompts.md", "runs prompt last"): "it wants a run that is being made: tests/cli/test_cli_of_runs.py has one",
}
"""Blocks that are not run, by a page and something that stands in them: why."""
READ_ONLY = {
    "bench": "it measures for minutes; tests/cli/test_bench.py",
    "convert": "it wants a whole checkpoint; tests/models/test_videocrafter_commands.py",
    "doctor": "it tells of this machine; tests/cli/test_cli.py",
    "evaluate": "it makes videos for hours; tests/study/",
    "models": "tests/cli/test_cli_text.py",
    "serve": "it does not end; tests/studio/",
    "studio": "it does not end; tests/studio/",
    "runs watch": "it does not end; tests/cli/test_cli_of_runs.py",
    "runs list --dir": "that folder is not here",
    "work runs/ --workers": "processes of its own; tests/studio/test_workers.py",
}
"""Beginnings of commands that are read by their parser and not run: why."""


def _shifted_alike(make):
    """Tiny autoencoders squeeze space less: more tokens than schedulers that shift by their number are made for."""

    def made():
        pipe = make()
        pipe.scheduler = FlowMatchEulerDiscreteScheduler()
        return pipe

    return made


STAND_INS = {
    "cerspense/": lambda: tiny.pipeline(**tiny.LIGHT),
    "VideoCrafter/": tiny_videocrafter.light,
    "model.ckpt": tiny_videocrafter.light,
    "jiachenli-ucsb/": tiny_videocrafter.light,
    "ucf101.pt": tiny_latte.class_pipeline,
    "Wan-AI/Wan2.2-TI2V": tiny_wan.picture,
    "Wan-AI/Wan2.2-I2V": tiny_wan.told_picture_twice,
    "Wan-AI/": tiny_wan.pipeline,
    "Skywork/SkyReels-V2-I2V": tiny_wan.skyreels_told_picture,
    "Skywork/": tiny_wan.skyreels_plain,
    "nvidia/AnyFlow": tiny_anyflow.pipeline,
    "THUDM/CogVideoX1.5": tiny_cogvideox.pipeline,
    "THUDM/": tiny_cogvideox.pipeline,
    "rhymes-ai/": tiny_allegro.pipeline,
    "alibaba-pai/": tiny_easyanimate.pipeline,
    "hunyuanvideo-community/HunyuanVideo-1.5": tiny_hunyuan_video15.pipeline,
    "hunyuanvideo-community/": tiny_hunyuan_video.pipeline,
    "Motif-Technologies/": _shifted_alike(tiny_motif.pipeline),
    "kandinskylab/": tiny_kandinsky.pipeline,
    "Lightricks/LTX-2": _shifted_alike(tiny_ltx2.pipeline),
    "Lightricks/": _shifted_alike(tiny_ltx.pipeline),
    "genmo/": tiny_mochi.pipeline,
    "Efficient-Large-Model/": tiny_sana_video.pipeline,
    "MiniMaxAI/": tiny_minimax_h3.pipeline,
    "FOLDER": tiny_wan.pipeline,
}
"""Beginnings of the names of models: tiny pipelines of their families."""
BY_DIFFUSERS = {
    "cerspense/": STAND_INS["cerspense/"],
    "wangfuyun/": tiny_animatediff.motion_adapter,
    "emilianJR/": lambda: tiny_animatediff.pipeline(**tiny_animatediff.LIGHT),
    "Wan-AI/": tiny_modular.wan,
}
"""The same of what a reader loads with diffusers."""

SMALL = {"window": 4, "num_partitions": 1, "guidance_scale": 1, "lookahead": False, "height": 16, "width": 16}
SMALLER_CLIPS = ["--window", "4", "--height", "32", "--width", "32", "--guidance-scale", "1"]
SMALLER = [*SMALLER_CLIPS, "--num-partitions", "1", "--no-lookahead"]
TENTH = ("--num-frames", "--at", "--frames")
"""Options that count frames; a tenth of them will do."""
LORAS = ("lightx2v.safetensors", "style.safetensors")


class StandIn(source.ModelSource):
    """A tiny pipeline under the name of a model."""

    def __init__(self, name, make):
        self.name, self.hub, self._make = name, {}, make
        self.is_original = False

    @property
    def family(self):
        return family_of(type(_made(self._make)).__name__)

    def _load(self, **_):
        return self._make()

    def _empty(self):
        return {}


@cache
def _made(make):
    return make()


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """A folder as a reader has it, with the pictures and LoRAs that pages name; tiny models under all names, real
    commands, short videos."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("FIFO_DIFFUSION_RUNS", "runs")
    Image.fromarray(np.full((32, 32, 3), 128, np.uint8)).save("dog.png")
    for name in LORAS:
        save_file({"no.layer": torch.zeros(1)}, name)
    for name in ("examples", "benchmarks"):
        os.symlink(ROOT / name, name)
    return tmp_path


@pytest.fixture
def stand_ins(monkeypatch):
    """Tiny models under the names of all but the embedded ones; of these too unless `with_toybox()` is called."""
    found, real = source.find_model, dict.fromkeys(EMBEDDED, STAND_INS["cerspense/"])

    def find_model(name, hub=None):
        if not isinstance(name, source.ModelSource):
            for beginning, make in (STAND_INS | real).items():
                if str(name).startswith(beginning):
                    return StandIn(str(name), make)
        return found(name, hub)

    monkeypatch.setattr(source, "find_model", find_model)
    monkeypatch.setattr("fifo_diffusion.pipeline.find_model", find_model)
    return real.clear


@pytest.fixture
def python(stand_ins, monkeypatch):
    """Runs blocks of Python, one after the other in one session, as the only rank of torchrun."""
    whole, names = FIFO.stream, {}

    def stream(self, *given, num_frames=None, start="clip", **more):
        if Path(str(start)).suffix != ".safetensors":
            more = SMALL | more
            if "num_inference_steps" in more:
                more["num_partitions"] = more["num_inference_steps"] // more["window"]
        return whole(self, *given, num_frames=num_frames and min(num_frames, 45), start=start, **more)

    def pretrained(name, **options):
        assert options.keys() <= {"dtype", "motion_adapter"}
        return next(make for beginning, make in BY_DIFFUSERS.items() if name.startswith(beginning))()

    def run(block):
        with monkeypatch.context() as patch:
            for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "0"}.items():
                patch.setenv(name, value)
            patch.setattr(FIFO, "stream", stream)
            for kind in (DiffusionPipeline, AnimateDiffPipeline, ModularPipeline, MotionAdapter):
                patch.setattr(kind, "from_pretrained", pretrained)
            for kind in (DiffusionPipeline, ModularPipeline):
                patch.setattr(kind, "to", lambda pipe, device: pipe)  # "cuda"
            patch.setattr(AnimateDiffPipeline, "load_lora_weights", lambda pipe, name, weight_name: None)
            patch.setattr(ModularPipeline, "load_components", lambda pipe, dtype: None)
            exec(compile("\n" * (block.line - 1) + block.text, str(PAGES[block.page]), "exec"), names)

    run.names = names
    yield run
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def shorter(arguments):
    """The same command, for a tenth of the frames, in small windows where it begins a video."""
    made = list(arguments)
    for option in TENTH:
        if option in made:
            k = made.index(option) + 1
            made[k] = str(max(1, int(made[k]) // 10))
    if "--forever" in made:
        made[made.index("--forever")] = "--num-frames=4"
    if made[0] == "generate" and not ("--state" in made and Path(made[made.index("--state") + 1]).exists()):
        made += SMALLER_CLIPS if "--method" in made else SMALLER
    return made


def on_a_cpu(arguments):
    """Without offloading, which is refused there."""
    if "--offload" not in arguments:
        return arguments
    k = arguments.index("--offload")
    return arguments[:k] + arguments[k + 2 :]


def read(words):
    """A command of a page is one that there is, with options that it has. Returns those of `fifo-diffusion`."""
    program, *arguments = words
    if program == "torchrun":
        arguments = arguments[arguments.index("-m" if "-m" in arguments else "--no-python") + 2 :]
        program = "fifo-diffusion"
    if program == "fifo-diffusion":
        taken(arguments)
        return arguments
    if program == "make":
        assert set(arguments) <= set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    elif program == "pip":
        extras = re.findall(r"\[(\w+)\]", arguments[-1])
        assert all(f"\n{extra} = [" in (ROOT / "pyproject.toml").read_text("utf-8") for extra in extras)
    else:
        assert program in ("curl", "mpv", "docker") or any(Path(word).is_file() for word in arguments), words
    return None


def run(arguments):
    """As much of a command as can be, in this process."""
    line = " ".join(arguments)
    if any(line.startswith(beginning) for beginning in READ_ONLY):
        return
    if arguments[0] == "generate" and model_of(arguments) not in EMBEDDED:
        arguments = [*on_a_cpu(arguments), *([] if "--dry-run" in arguments else ["--dry-run"])]
    elif arguments[0] == "work":
        arguments = [*arguments, *([] if "--once" in arguments else ["--once"])]
    assert main(shorter(arguments) if "--dry-run" not in arguments else arguments) == 0, line


def model_of(arguments):
    return next((arguments[k + 1] for k, word in enumerate(arguments) if word == "--model"), "toybox")


def cannot(block):
    return next((why for (page, words), why in CANNOT.items() if page == block.page and words in block.text), None)


def read_through(name, folder, python, run):
    """Everything on a page, from top to bottom; `run` does the commands."""
    for block in blocks(name):
        if block.language == "bash":
            commands = [arguments for words in typed(block, folder) if (arguments := read(words)) is not None]
            for arguments in [] if cannot(block) else commands:
                run(arguments)
        elif not cannot(block):
            python(block)


MADE = {
    "README.md": ["ball.mp4"],
    "quick-start.md": ["ball.mp4"],
    "prompts.md": ["day-and-night.mp4", "video-0.mp4", "video-1.mp4"],
    "starting.md": ["sunset.mp4", "ball.mp4", "ball-goes-on.mp4"],
    "long-video.md": ["corgi.mp4"],
    "models.md": ["rocket.mp4"],
    "toybox.md": ["robot.mp4"],
}
"""Videos that the Python of a page writes."""
WITH_BLOCKS = [name for name in PAGES if blocks(name)]


@pytest.mark.parametrize("name", WITH_BLOCKS)
def test_python_runs_and_commands_are_read(name, reader, python, capsys):
    read_through(name, reader, python, lambda arguments: None)
    made = {path.name: count_frames(path) for path in Path().glob("*.mp4") if path.stat().st_size}
    assert made == dict.fromkeys(MADE.get(name, ()), 45) | ({"ball.mp4": 40} if name == "starting.md" else {})
    if name == "quick-start.md":
        assert len(python.names["video"]) == 45
        assert "40 (16, 16, 3)" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_BLOCKS)
def test_a_page_is_true_from_top_to_bottom(name, reader, python):
    read_through(name, reader, python, run)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gallery.md", "prompts.md", "quick-start.md", "runs.md", "starting.md"])
def test_the_embedded_model_does_what_a_page_says(name, reader, python, stand_ins):
    stand_ins()
    read_through(name, reader, python, run)


def test_the_pictures_of_the_gallery_are_made_by_the_commands_above_them(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    page = PAGES["gallery.md"].read_text("utf-8")
    entries = runpy.run_path(str(ROOT / "benchmarks" / "gallery.py"))["entries"](page)
    assert sorted(entries) == sorted(re.findall(r"images/gallery-([\w-]+)", page))
    commands = [block.text for block in blocks("gallery.md") if block.language == "bash"]
    assert list(entries.values()) == commands
    assert all((ROOT / "docs" / "images" / f"gallery-{name}.webp").is_file() for name in entries)


def test_what_cannot_run_is_there():
    every = [block for name in PAGES for block in blocks(name)]
    assert all(sum(page == b.page and words in b.text for b in every) == 1 for page, words in CANNOT)
    text = "\n".join(path.read_text("utf-8") for path in PAGES.values())
    assert all(f"fifo-diffusion {beginning.split(' --')[0]}" in text for beginning in READ_ONLY)


@pytest.mark.parametrize("words", ["generate a b", "runs no", "", "work --twice runs", "generate a --num-frames many"])
def test_a_command_that_is_wrong_is_seen(words):
    with pytest.raises(Exception, match=r"(?i)unexpected extra|no such|missing|valid integer"):
        taken(words.split())
