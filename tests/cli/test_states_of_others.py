"""State files that somebody else wrote: nothing they say is believed, and no other video is overwritten."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from command_runs import BALL, generate
from fifo_diffusion.cli.main import main
from fifo_diffusion.settings import Settings, specs
from fifo_diffusion.settings.spec import REQUIRED
from fifo_diffusion.video import write_video

pytestmark = pytest.mark.usefixtures("in_a_folder_of_its_own")


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Path:
    """A folder with a run of four frames, its state, and the state of its beginning."""
    folder = tmp_path_factory.mktemp("begun")
    run = ["--state", f"{folder}/run.state", "--seed", "2", "-o", f"{folder}/part.gif", "--quiet"]
    assert generate(BALL, *run, "--num-frames", "4") == 0
    return folder


def crafted(begun: Path, **changes) -> None:
    """A copy of that folder's files here, with changes to the notes of the state, or to where it stands."""
    from fifo_diffusion.streaming.state import RunState

    state = RunState.load(begun / "run.state")
    position = {name: changes.pop(name) for name in asdict(state.position) if name in changes}
    state.position = replace(state.position, **position)
    state.notes |= changes
    state.save("run.state")
    Path("part.gif").write_bytes((begun / "part.gif").read_bytes())


@pytest.mark.parametrize("value", [..., {"x": 1}, 10**30, "", "-", "a\0b", float("nan"), -1])
def test_notes_of_a_state_are_not_believed(begun, capsys, value):
    from fifo_diffusion.jobs.continuing import NOTES
    from fifo_diffusion.streaming.state import RunState

    accepted = {("start", ""), ("start", "-"), ("prompt", ""), ("prompt", "-"), ("model", ""), ("model", "-")}
    accepted |= {("command", ""), ("command", "-")}
    # Texts, which are refused as what is typed.
    accepted |= {("scheduler", ""), ("scheduler", "-"), ("quantize", ""), ("quantize", "-")}
    for name in NOTES:
        older = value is ... and name in specs(Settings) and specs(Settings)[name].older is not REQUIRED
        if older or (isinstance(value, str) and (name, value) in accepted):
            continue
        crafted(begun)
        state = RunState.load("run.state")
        state.notes = {k: v for k, v in state.notes.items() if k != name} | ({} if value is ... else {name: value})
        state.save("run.state")
        before = Path("part.gif").read_bytes()
        assert main(["generate", "--state", "run.state", "--num-frames", "6", "--dry-run"]) == 2, (name, value)
        error = capsys.readouterr().err
        assert error.startswith("fifo-diffusion: run.state is damaged, or of another version")
        assert error.count("\n") == 1
        assert Path("part.gif").read_bytes() == before


@pytest.mark.parametrize("done", [0, 4])
def test_a_state_overwrites_no_other_video(begun, done, capsys, monkeypatch):
    monkeypatch.setattr("fifo_diffusion.cli.generate.load", lambda *_: pytest.fail("loaded"))
    Path("victims").mkdir()
    assert generate(BALL, "--num-frames", "9", "--seed", "8", "-o", "victims/", "--dry-run") == 0
    capsys.readouterr()
    other = [np.zeros((8, 8, 3), np.uint8)] * 9
    write_video("victims/", other)
    write_video("victim.gif", other)
    write_video("victim.mp4", other, metadata={"command": "fifo-diffusion generate x", "seed": "2"})
    Path("victim.webm").write_text("my notes")
    for victim in ("victims/", "victim.gif", "victim.mp4", "victim.webm"):
        crafted(begun, output=victim, frame_index=done)
        before = {path: path.read_bytes() for path in Path().rglob("victim*") if path.is_file()}
        assert main(["generate", "--state", "run.state", "--num-frames", "12"]) == 1
        error = capsys.readouterr().err
        assert "was not made by the run that run.state continues" in error
        assert {path: path.read_bytes() for path in before} == before
    for victim in (f"{Path.cwd()}/../victim.gif", "../my film.gif"):
        crafted(begun, output=victim, frame_index=done)
        assert main(["generate", "--state", "run.state", "--num-frames", "12"]) == 2
        assert "which is in another folder: if that is right, add -o" in capsys.readouterr().err


def test_a_state_does_not_go_on_with_a_video_of_another_size(begun, capsys):
    crafted(begun, scale=3)
    before = Path("part.gif").read_bytes()
    assert main(["generate", "--state", "run.state", "--num-frames", "12"]) == 1
    assert "part.gif is 32x32, which run.state does not go on with" in capsys.readouterr().err
    assert Path("part.gif").read_bytes() == before


@pytest.mark.parametrize("there", [b"", b"\0\0\0\x1cftypisom", b"GIF89a", "own", "gone"])
def test_an_output_that_the_state_does_not_count_is_nobodys(begun, there, capsys):
    """As a run leaves it that was killed before its first frame was in the file, or before the state counted it."""
    crafted(begun, frame_index=0)
    if isinstance(there, bytes):
        Path("part.gif").write_bytes(there)
    elif there == "gone":
        Path("part.gif").unlink()
    assert main(["generate", "--state", "run.state", "--num-frames", "6", "--dry-run"]) == 0
    Path("part.gif").write_bytes(b"\x89PNG, or whatever else is somebody's")
    assert main(["generate", "--state", "run.state", "--num-frames", "6", "--dry-run"]) == 1
    assert "was not made by the run that run.state continues" in capsys.readouterr().err
