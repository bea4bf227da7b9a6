"""VideoCrafter checkpoints on the command line: converted to a folder of diffusers, and made videos with."""

import re
import shutil
import signal
from pathlib import Path

import pytest
import torch

from fifo_diffusion import FIFO
from fifo_diffusion.cli.main import main
from fifo_diffusion.jobs.locks import locked
from fifo_diffusion.models.loading.source import find_model
from fifo_diffusion.testing import published, same
from fifo_diffusion.video import count_frames
from videocrafter_files import ONE, SMALL, UNET, files_behind, hollow, without, write

pytestmark = pytest.mark.usefixtures("no_traces")


@pytest.fixture(scope="module")
def converted(videocrafter_folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("converted") / "videocrafter2"
    assert main(["convert", str(videocrafter_folder / "model.ckpt"), str(path)]) == 0
    return path


def test_a_converted_folder_is_the_same_model(videocrafter, converted):
    with FIFO.from_pretrained(converted, device="cpu") as found:
        assert type(found.pipe).__name__ == "VideoCrafterPipeline"
        assert found.model.fingerprint() == videocrafter.model.fingerprint()
        assert found.model.fps_condition == videocrafter.model.fps_condition
        assert found.model.defaults == videocrafter.model.defaults
        streams = [one.stream("a red ball!", **SMALL) for one in (videocrafter, found)]
        for _ in range(6):
            before, after = (next(stream) for stream in streams)
            assert same(before, after)
    assert not [path.name for path in converted.parent.iterdir() if path != converted]


def test_a_converted_folder_may_be_told_another_frame_rate(converted):
    with FIFO.from_pretrained(converted, device="cpu", fps_condition=12) as fifo:
        assert fifo.model.fps_condition == 12


def test_a_converted_folder_is_mapped_and_keeps_the_precision(converted):
    pipe = find_model(converted).load(dtype=torch.float16)
    assert not list(converted.rglob("*.bin"))
    for name, module in (("unet", pipe.unet), ("vae", pipe.vae), ("text_encoder", pipe.text_encoder)):
        (file,) = files_behind(module)
        assert Path(file).parent == converted / name


def test_nothing_of_the_libraries_is_said(converted, caplog, capfd):
    find_model(converted).load(dtype=torch.float16)
    said = caplog.text + capfd.readouterr().err
    assert "not expected" not in said
    assert "Expected types" not in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{ckpt}", "{there}"], "exists already: give a new folder, or delete it first"),
        (["{ckpt}", "{new}/deeper"], "choose a folder that exists"),
        (["{there}", "{new}"], "no diffusers pipeline"),
        (["{pipeline}", "{new}"], "is a diffusers pipeline already: use it as it is"),
        (["toybox", "{new}"], "is a diffusers pipeline already"),
        (["nonsense", "{new}"], "unknown model 'nonsense'"),
        (["nonsense.ckpt", "{new}"], "there is no file nonsense.ckpt"),
        (["{broken}", "{new}"], "not a VideoCrafter checkpoint"),
        (["{ckpt}"], "Missing argument .*see fifo-diffusion convert --help"),
    ],
)
def test_what_is_not_converted(videocrafter_folder, converted, tmp_path, capsys, arguments, message):
    there, new = tmp_path / "there", tmp_path / "new"
    there.mkdir()
    broken = write(tmp_path / "broken.ckpt", {"a": ONE})
    names = {
        "ckpt": videocrafter_folder / "model.ckpt",
        "there": there,
        "new": new,
        "pipeline": converted,
        "broken": broken,
    }
    assert main(["convert", *(word.format(**names) for word in arguments)]) in (1, 2)
    said = capsys.readouterr().err.strip().splitlines()
    assert re.search(message, said[-1]), said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.ckpt", "there"]
    assert not list(there.iterdir())


@pytest.mark.parametrize("how", ["disk full", "Ctrl-C", "no space"])
def test_a_failed_conversion_leaves_nothing(videocrafter_folder, tmp_path, capsys, monkeypatch, how):
    from fifo_diffusion.models.unet3d.pipeline import VideoCrafterPipeline

    def fail(self, path, **_):
        Path(path).mkdir()
        (Path(path) / "model_index.json").touch()
        if how == "Ctrl-C":
            signal.raise_signal(signal.SIGINT)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(VideoCrafterPipeline, "save_pretrained", fail)
    if how == "no space":
        usage = shutil.disk_usage(tmp_path)._replace(free=1000)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    code = main(["convert", str(videocrafter_folder / "model.ckpt"), str(tmp_path / "new")])
    assert code == (130 if how == "Ctrl-C" else 1)
    message = {"disk full": "No space left", "Ctrl-C": "stopped by Ctrl-C: nothing was written", "no space": "GB free"}
    assert message[how] in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# -- the command line --------------------------------------------------------------------------------------------------


def generate(model: Path, *more: str) -> int:
    command = ["generate", "a red ball", "--model", str(model), "--height", "32", "--width", "32", "--window", "4"]
    return main([*command, "--num-partitions", "1", "--no-lookahead", "--guidance-scale", "1", "--seed", "0", *more])


def test_frames_from_a_checkpoint_file(videocrafter_folder, tmp_path, capsys):
    output = tmp_path / "ball.mp4"
    assert (
        generate(videocrafter_folder / "model.ckpt", "--num-frames", "12", "--fps-condition", "12", "-o", str(output))
        == 0
    )
    assert count_frames(output) == 12
    assert main(["info", str(output)]) == 0
    told = capsys.readouterr().out
    assert "--fps-condition 12" in told
    assert str(videocrafter_folder / "model.ckpt") in told


def test_what_a_killed_conversion_left_is_removed(videocrafter_folder, tmp_path):
    """It has one name, so that it does not pile up; and a conversion that is at work is not disturbed."""
    left = tmp_path / ".out.partial"
    (left / "unet").mkdir(parents=True)
    (left / "unet" / "half.safetensors").write_bytes(b"x")
    with locked(tmp_path / "out"):
        assert main(["convert", str(videocrafter_folder / "model.ckpt"), str(tmp_path / "out")]) == 1
    assert left.exists()
    assert main(["convert", str(videocrafter_folder / "model.ckpt"), str(tmp_path / "out")]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert not list((tmp_path / "out").rglob("half.safetensors"))


def test_dry_run_of_a_file_and_of_a_folder(videocrafter_folder, converted, capsys):
    said = []
    for model in (videocrafter_folder / "model.ckpt", converted):
        assert generate(model, "--dry-run", "-o", "-") == 0
        said.append([line for line in capsys.readouterr().out.splitlines() if not line.startswith("model")])
    assert said[0] == said[1]
    assert "million parameters" in " ".join(said[0])


def test_errors_on_the_command_line_are_one_line(tmp_path, capsys):
    path = write(tmp_path / "model.ckpt", {"state_dict": without(f"{UNET}out.2.bias")})
    assert generate(path, "-o", str(tmp_path / "x.mp4")) == 2
    assert capsys.readouterr().err.count("\n") == 1
    state = write(tmp_path / "old.ckpt", {"state_dict": hollow("vc1_512")})
    published.tokenizer().save_pretrained(tmp_path / "tokenizer")
    assert generate(state, "--fps-condition", "8", "-o", str(tmp_path / "x.mp4")) == 2
    assert "takes no frame rate: leave --fps-condition out" in capsys.readouterr().err
