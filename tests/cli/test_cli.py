"""The command line without making videos: help, and what is typed wrongly."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from command_runs import BALL
from fifo_diffusion import __version__
from fifo_diffusion.cli.errors import exit_code, told
from fifo_diffusion.cli.main import main
from fifo_diffusion.jobs.explained import explain
from fifo_diffusion.jobs.prompt_files import read_prompts, read_schedule
from fifo_diffusion.jobs.request import numbered, slug
from fifo_diffusion.jobs.speed import known_speed, remember_speed, speed_file

pytestmark = pytest.mark.usefixtures("in_a_folder_of_its_own")


def test_help_and_usage_errors_come_without_pytorch():
    code = """
import sys
from fifo_diffusion.cli.main import main
from fifo_diffusion.jobs.explained import explain
assert main(["--help"]) == 0 and main(["generate", "--help"]) == 0 and main(["--version"]) == 0
assert main(["models"]) == 0
assert main(["generate"]) == main(["generate", "x", "--seed", "y"]) == main(["generate", "x", "-o", "x.avi"]) == 2
print(sorted({"torch", "diffusers", "transformers"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("[]")


def test_version_and_help(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"fifo-diffusion {__version__}\n"
    assert main([]) == 0
    assert "generate" in capsys.readouterr().out
    assert main(["generate", "--help"]) == 0
    assert "Examples" in capsys.readouterr().out


def test_as_a_module():
    done = subprocess.run([sys.executable, "-m", "fifo_diffusion", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"fifo-diffusion {__version__}\n")


# ---------------------------------------------------------------------- typed wrongly


def _files() -> None:
    """What the bad commands below find in their folder."""
    Path("there.mp4").write_bytes(b"mine")
    Path("folder").mkdir()
    Path("folder/note.txt").write_text("no pipeline")
    Path("other").mkdir()
    Path("other/model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    Path("checkpoint.ckpt").write_bytes(b"")
    Path("empty.txt").write_text("\n# only a comment\n\n")
    Path("binary.txt").write_bytes(b"\xff\xfe\x00a")
    Path("no0.txt").write_text("10: a red ball\n")
    Path("words.txt").write_text("0: a red ball\nthen a blue one\n")
    Path("twice.txt").write_text("0: a red ball\n0: a blue ball\n")
    Path("broken.json").write_text('{"0": "a red ball",\n "10" "a blue ball"}')
    Path("list.json").write_text('["a red ball"]')
    Path("number.json").write_text('{"0": 7}')
    Path("junk.state").write_bytes(b"junk")
    Path("prompts.txt").write_text("a red ball\n")


BAD = {
    "no prompt": ([], 2, "a prompt is missing"),
    "empty prompt": ([" "], 2, "the prompt is empty"),
    "no command": (None, 2, "type fifo-diffusion generate 'a red ball'"),
    "misspelt option": ([BALL, "--num-frame", "3"], 2, "--num-frames"),
    "prompt without quotes": (["a", "red", "ball"], 2, "put the whole prompt in quotes: after it comes red ball"),
    "another's option": ([BALL, "--cfg", "7"], 2, "there is no option --cfg: here it is --guidance-scale"),
    "another's steps": ([BALL, "--steps", "30"], 2, "--num-partitions: each adds"),
    "underscores": ([BALL, "--num_frames", "3"], 2, "there is no option --num_frames: type --num-frames"),
    "nearest": ([BALL, "--num-partition", "3"], 2, "did you mean --num-partitions?"),
    "unknown model": ([BALL, "--model", "toybx"], 2, "unknown model 'toybx': give 'toybox', a folder, or a hub id"),
    "no pipeline": ([BALL, "--model", "folder"], 2, "folder is no diffusers pipeline"),
    "other pipeline": ([BALL, "--model", "other"], 2, "StableDiffusionPipeline is not a supported pipeline"),
    "a file": ([BALL, "--model", "checkpoint.ckpt"], 2, "give a diffusers folder"),
    "odd height": ([BALL, "--height", "65"], 2, "must be multiples of 8: use 64 and 64"),
    "no partition": (
        [BALL, "--num-partitions", "0"],
        2,
        "--num-partitions must be a whole number of at least 1, not 0",
    ),
    "small window": ([BALL, "--window", "1"], 2, "--window must be a whole number of at least 2, not 1"),
    "frames per level": ([BALL, "--frames-per-level", "65"], 2, "--frames-per-level 65: the queue has 4 x 16 = 64"),
    "steps": ([BALL, "--num-inference-steps", "50"], 2, "use --num-partitions 3 (48 steps), or --num-partitions 4"),
    "few steps": ([BALL, "--num-inference-steps", "4"], 2, "use --frames-per-level 4 and --num-partitions 1"),
    "timesteps": (
        [BALL, "--timesteps", "999,x"],
        2,
        "--timesteps must be a list of numbers from 0 to 1e+06, not 999,x",
    ),
    "too few timesteps": ([BALL, "--timesteps", "999,499"], 2, "--timesteps 999,499: they make 2 steps, and the queue"),
    "eta": ([BALL, "--eta", "1.5"], 2, "--eta must be a number from 0 to 1, not 1.5"),
    "published": ([BALL, "--compat", "published"], 2, "no published FIFO code for UNet3D"),
    "negative frames": ([BALL, "--num-frames", "-5"], 2, "--num-frames must be a whole number of at least 1, not -5"),
    "seconds": ([BALL, "--seconds", "0"], 2, "--seconds must be a number above 0"),
    "two lengths": ([BALL, "--num-frames", "5", "--forever"], 2, "--num-frames and --forever exclude each other"),
    "seed": ([BALL, "--seed", "lucky"], 2, "--seed must be a whole number, not lucky"),
    "frames, the last": ([BALL, "-n", "20", "-n1e3"], 2, "--num-frames must be a whole number, not 1e3"),
    "no name for the hub": ([BALL, "--model", "toybox/"], 2, "model 'toybox/' cannot be loaded: it is no folder here"),
    "negative seed": ([BALL, "--seed", "-1"], 2, "--seed must be a whole number of at least 0, not -1"),
    "dtype": ([BALL, "--dtype", "int8"], 2, "--dtype 'int8' is not one of"),
    "device": ([BALL, "--device", "tpu"], 2, "--device tpu: there is no such device here; use --device"),
    "fps": ([BALL, "--fps", "0"], 2, "--fps must be a number above 0"),
    "start": ([BALL, "--start", "missing.png"], 2, "--start missing.png: there is no such file"),
    "start of a long name": ([BALL, "--start", "x" * 300], 2, "there is no such file; give clip"),
    "start is a state": ([BALL, "--start", "a.safetensors"], 2, "--state a.safetensors"),
    "include what": ([BALL, "--include-start"], 2, "--include-start goes with a file as --start"),
    "prompt and schedule": ([BALL, "--schedule", "no0.txt"], 2, "the prompt and --schedule exclude each other"),
    "no file": (["--prompts", "missing.txt"], 2, "there is no file missing.txt"),
    "empty file": (["--prompts", "empty.txt"], 2, "empty.txt holds no prompt"),
    "no text": (["--prompts", "binary.txt"], 2, "binary.txt is not a text file in UTF-8"),
    "without frame 0": (["--schedule", "no0.txt"], 2, "no0.txt has no prompt for frame 0 (its first is frame 10)"),
    "words": (["--schedule", "words.txt"], 2, "words.txt line 2: 'then a blue one' is not of the form FRAME: prompt"),
    "twice": (["--schedule", "twice.txt"], 2, "twice.txt line 2: frame 0 has two prompts"),
    "bad json": (["--schedule", "broken.json"], 2, "broken.json line 2: not valid JSON"),
    "json list": (["--schedule", "list.json"], 2, "is not of the form"),
    "json number": (["--schedule", "number.json"], 2, "is not of the form"),
    "prompts to a pipe": (["--prompts", "prompts.txt", "-o", "-"], 2, "--prompts needs a file as output"),
    "state to a pipe": ([BALL, "--state", "s", "-o", "-"], 2, "--state needs a file as output"),
    "state every": ([BALL, "--state-every", "5"], 2, "--state-every goes with --state"),
    "no such state": (["--state", "missing.state"], 2, "there is no state file missing.state"),
    "damaged state": (["--state", "junk.state"], 2, "junk.state is damaged"),
    "state and overwrite": ([BALL, "--state", "junk.state", "--overwrite"], 2, "leave --overwrite out"),
    "state folder": ([BALL, "--state", "missing/s.state"], 1, "cannot write missing/s.state"),
    "exists": ([BALL, "-o", "there.mp4"], 1, "there.mp4 exists already: add --overwrite"),
    "no folder": ([BALL, "-o", "missing/ball.mp4"], 1, "there is no folder missing"),
    "suffix": ([BALL, "-o", "ball.avi"], 2, "must end in .mp4, .webm or .gif"),
    "a device file": ([BALL, "-o", "/dev/null/ball.mp4"], 1, "/dev/null"),
}
HUGE = "9" * 5000
TOO_LARGE = {
    "--seconds": [
        ("1e308", "at most 1e+09"),
        ("inf", "at most 1e+09"),
        ("nan", "a number above 0"),
        ("9e8", "at most 1e+08"),
    ],
    "--fps": [("1e308", "at most 1000"), ("inf", "at most 1000"), ("1e-300", "fps")],
    "--num-frames": [(HUGE, "whole number"), ("9" * 30, "at most 1000000000"), ("1e3", "whole number")],
    "--window": [("1_000_000", "at most 4096, not 1000000"), (HUGE, "whole number")],
    "--num-partitions": [("1000000", "at most 4096")],
    "--frames-per-level": [("1000000", "at most 65536")],
    "--num-inference-steps": [("1000000", "at most 65536")],
    "--scale": [("9" * 23, "at most 1024"), ("300", "--scale 300: it makes pictures of 19200x19200; use at most 256")],
    "--height": [(str(2**31), "at most 16384"), ("-16", "at least 1")],
    "--width": [(str(2**31), "at most 16384")],
    "--guidance-scale": [
        ("1e308", "from -1000 to 1000"),
        ("nan", "from -1000 to 1000"),
        ("-inf", "from -1000 to 1000"),
    ],
    "--seed": [(str(2**64), f"at most {2**64 - 1}"), (HUGE, "whole number")],
    "--eta": [("nan", "from 0 to 1")],
    "--fps-condition": [("1e308", "at most 1000")],
    "--windows-per-batch": [("9" * 20, "at most 65536")],
    "--state-every": [("9" * 20, "at most 1000000000")],
}


@pytest.mark.parametrize("option", TOO_LARGE)
def test_numbers_beyond_all_sense_are_refused_before_loading(option, capsys, monkeypatch):
    monkeypatch.setattr("fifo_diffusion.cli.generate.load", lambda *_: pytest.fail("loaded"))
    for value, words in TOO_LARGE[option]:
        assert main(["generate", BALL, option, value, "--state", "s.state"]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
        assert len(error) < 250
    assert not list(Path().iterdir())


def test_sizes_beyond_the_memory_are_refused_with_the_largest_that_fits(capsys, monkeypatch):
    monkeypatch.setattr("fifo_diffusion.jobs.memory._total_bytes", lambda _: 2**30)
    size = ["--height", "16384", "--width", "8192", "--num-partitions", "1"]
    assert main(["generate", BALL, "--dry-run", *size]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    found = re.search(r"use at most --height (\d+) --width (\d+)", error)
    assert main(["generate", BALL, "--dry-run", "--height", found[1], "--width", found[2], *size[4:]]) == 0


def test_seeds_count_up_no_further_than_they_may(capsys):
    Path("p.txt").write_text("a\nb\nc\n")
    assert main(["generate", "--prompts", "p.txt", "--seed", str(2**64 - 2), "--dry-run"]) == 2
    assert f"give at most {2**64 - 3}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", ['{"x": 1e308}', '{"x": 1e999}', '{"x": -1.0}', "[1]", "[" * 100_000, "", '{"x": NaN}']
)
def test_a_damaged_cache_of_speeds_is_no_matter(content, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path.cwd()))
    speed_file().parent.mkdir()
    speed_file().write_text(content)
    assert known_speed("x") is None
    remember_speed("x", 2.0)
    assert known_speed("x") == 2.0


@pytest.mark.parametrize("cache", ["~nosuch", "/dev/null", "a\0b"])
def test_a_cache_in_an_odd_place_is_no_matter(cache, monkeypatch):
    monkeypatch.setattr("os.environ", os.environ | {"XDG_CACHE_HOME": cache})
    remember_speed("x", 2.0)
    assert known_speed("x") is None


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(name, capsys):
    _files()
    before = {path: path.stat().st_size for path in Path().rglob("*")}
    arguments, code, message = BAD[name]
    assert main(["a red ball"] if arguments is None else ["generate", *arguments]) == code
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("fifo-diffusion: ")
    assert output.err.count("\n") == 1, output.err
    assert message in output.err
    assert {path: path.stat().st_size for path in Path().rglob("*")} == before


def test_missing_codec(monkeypatch, capsys):
    import av

    monkeypatch.setattr(av, "codecs_available", av.codecs_available - {"libx264"})
    assert main(["generate", BALL, "-o", "ball.mp4"]) == 1
    error = capsys.readouterr().err
    assert "no encoder libx264" in error
    assert error.count("\n") == 1
    assert main(["doctor"]) == 1
    assert "FIX   libx264" in capsys.readouterr().out


def test_debug_shows_where_an_error_arose(capsys):
    assert main(["generate", BALL, "--model", "toybx", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_out_of_memory_comes_with_advice():
    cpu = RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory")
    for error in (
        torch.OutOfMemoryError("CUDA out of memory. Tried to"),
        RuntimeError("MPS backend out of memory"),
        cpu,
    ):
        for advice in ("--offload model", "--vae-tiling", "--quantize int8", "--windows-per-batch 1", "--device cpu"):
            assert advice in told(explain(error))
        assert exit_code(explain(error)) == 1


# ---------------------------------------------------------------------- files of prompts, names


def test_prompts_file():
    Path("p.txt").write_text("\ufeffa red ball\n\n  # later\n  a blue ball  \r\n", encoding="utf-8")
    assert read_prompts(Path("p.txt")) == ["a red ball", "a blue ball"]


def test_schedule_in_lines_and_in_json():
    Path("s.txt").write_text("# day\n20: a blue ball: two\n\n0:a red ball\n")
    assert read_schedule(Path("s.txt")) == {0: "a red ball", 20: "a blue ball: two"}
    Path("s.json").write_text('{"20": "a blue ball", "0": "a red ball"}')
    assert read_schedule(Path("s.json")) == {0: "a red ball", 20: "a blue ball"}


def test_names_of_outputs():
    assert slug('A "big" red/ball,\nbouncing!') == "a-big-red-ball-bouncing"
    assert len(slug("word " * 100)) <= 51
    assert slug("???") == "video"
    assert numbered("out.webm", 7, "a ball") == "out_007.webm"
    assert numbered("out/", 7, "a ball") == "out/007-a-ball.mp4"
