"""`--json`: what the command tells programs. Every line of standard output is one JSON object, and nothing else is."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from command_runs import BALL, generate
from fifo_diffusion.cli import doctor, json_lines
from fifo_diffusion.cli.main import main
from fifo_diffusion.jobs.runs.run import Runs
from fifo_diffusion.video import count_frames

pytestmark = pytest.mark.usefixtures("in_a_folder_of_its_own")


@pytest.fixture
def told(capsys):
    """Reads standard output since the last call."""

    def read():
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return read


def kinds(events):
    return [event["event"] for event in events]


def test_a_video_from_its_loading_to_its_end(told):
    Path("day.txt").write_text("0: a red ball\n3: a blue ball\n9: a green ball\n")
    names = ["--schedule", "day.txt", "-o", "a.mp4", "--seed", "5", "--state", "a.state", "--state-every", "2"]
    assert generate(*names, "-n", "5", "--json") == 0
    events = told()
    without = [event for event in events if event["event"] not in ("snapshot", "note")]
    assert kinds(without) == ["loading", "loaded", "started", *["frame"] * 3, "prompt", "frame", "frame", "completed"]
    started, completed = without[2], without[-1]
    assert started["num_frames"] == 5
    assert (started["output"], started["seed"], started["width"], started["fps"]) == ("a.mp4", 5, 32, 10)
    assert started["prompt"] == {"0": "a red ball", "3": "a blue ball", "9": "a green ball"}
    assert [event["frame"] for event in events if event["event"] == "frame"] == [1, 2, 3, 4, 5]
    assert [(event["frame"], event["text"]) for event in events if event["event"] == "prompt"] == [(3, "a blue ball")]
    assert [event["frame"] for event in events if event["event"] == "snapshot"][-1] == 5
    assert (completed["frame"], completed["made"], completed["output"]) == (5, 5, "a.mp4")
    times = [event["at"] for event in events]
    assert times == sorted(times)
    assert main(["info", "a.mp4", "--json"]) == 0
    assert "--json" not in told()[0]["made"]["command"]

    assert generate("--state", "a.state", "-n", "7", "--json") == 0
    events = told()
    assert (events[2]["event"], events[2]["frame"], events[2]["resumed"]) == ("started", 5, True)
    assert (events[-1]["frame"], events[-1]["made"]) == (7, 2)
    assert generate("--state", "a.state", "-n", "7", "--json") == 0
    assert [(event["event"], event["frame"], event["made"]) for event in told()] == [("completed", 7, 0)]


def test_notes_are_events_and_progress_is_not(capsys):
    assert generate("a red dragon", "-o", "a.mp4", "-n", "1", "--json") == 0
    captured = capsys.readouterr()
    notes = [event["text"] for event in map(json.loads, captured.out.splitlines()) if event["event"] == "note"]
    assert [note for note in notes if "toybox does not know dragon" in note] == notes
    assert len(notes) == 1
    assert "loading toybox" in captured.err
    assert '"event"' not in captured.err
    assert generate("a red dragon", "-o", "b.mp4", "-n", "1", "--json", "--quiet") == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert json.loads(captured.out.splitlines()[-1])["event"] == "completed"


def test_a_stop(told, monkeypatch):
    tell = json_lines.EventLines.tell

    def and_stop(self, event, **fields):
        tell(self, event, **fields)
        if (event, fields.get("frame")) == ("frame", 2):
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(json_lines.EventLines, "tell", and_stop)
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.default_int_handler)
    assert generate(BALL, "-o", "a.mp4", "-n", "9", "--json") == 130
    last = told()[-1]
    assert (last["event"], last["why"], last["frame"], last["output"]) == ("interrupted", "Ctrl-C", 2, "a.mp4")


@pytest.mark.parametrize(
    ("arguments", "code", "kind", "message"),
    [
        (["generate", BALL, "-o", "-", "--json"], 2, "invalid_request", "--json and -o - both write to standard"),
        (["generate", BALL, "--jsno", "--json"], 2, "invalid_request", "did you mean --json?"),
        (["generate", BALL, "--window", "x", "--json"], 2, "invalid_request", "--window must be a whole number, not x"),
        (["generate", BALL, "--height", "33", "--json"], 2, "invalid_request", "height 33 and width 64"),
        (["generate", "--json", "--state", "no.state"], 2, "invalid_request", "there is no state file no.state"),
        (["info", "--json", "no.mp4"], 1, "error", "no.mp4"),
    ],
)
def test_refusals(arguments, code, kind, message, told):
    assert main(arguments) == code
    (event,) = told()
    assert (event["event"], event["code"], event["exit_code"]) == ("failed", kind, code)
    assert message in event["message"]


def test_a_word_that_is_no_option(capsys):
    assert main(["generate", "--", "--json", "more"]) == 2
    assert capsys.readouterr().out == ""


def test_a_failure_on_the_way(told, monkeypatch):
    from fifo_diffusion.video.writers import FrameWriter

    def full(self, frame):
        raise OSError(28, "No space left on device", "a.mp4")

    monkeypatch.setattr(FrameWriter, "write", full)
    assert generate(BALL, "-o", "a.mp4", "-n", "3", "--json") == 1
    events = told()
    assert kinds(events) == ["loading", "loaded", "started", "failed"]
    assert (events[-1]["code"], events[-1]["exit_code"]) == ("disk_full", 1)
    assert "No space left on device" in events[-1]["message"]


def test_nobody_reads_any_more(monkeypatch, capfd):
    reads, writes = os.pipe()
    os.close(reads)
    with os.fdopen(writes, "w") as gone:
        monkeypatch.setattr("sys.stdout", gone)
        assert generate(BALL, "-o", "a.mp4", "-n", "3", "--json") == 1
    assert count_frames("a.mp4") == 3
    assert capfd.readouterr().err.count("standard output cannot take what --json tells") == 1


def test_many_videos(told):
    Path("prompts.txt").write_text(f"{BALL}\n{BALL.replace('red', 'blue')}\n")
    assert generate("--prompts", "prompts.txt", "-o", "v.mp4", "-n", "2", "--json") == 0
    events = told()
    each = ["started", "frame", "frame", "completed"]
    assert kinds(events) == ["loading", "loaded", *each, *each]
    Path("v_001.mp4").unlink()
    assert generate("--prompts", "prompts.txt", "-o", "v.mp4", "-n", "2", "--json") == 0
    events = told()
    assert kinds(events) == ["loading", "loaded", "completed", *each]
    assert (events[2]["output"], events[2]["frame"], events[2]["made"]) == ("v_000.mp4", 2, 0)
    assert generate("--prompts", "prompts.txt", "-o", "v.mp4", "-n", "2", "--json") == 0
    assert kinds(told()) == ["completed", "completed"]


def test_a_run_tells_its_log(told, monkeypatch):
    tell = json_lines.EventLines.tell

    def and_order(self, event, **fields):
        tell(self, event, **fields)
        if (event, fields.get("frame")) == ("frame", 2):
            Runs("runs").find("last").command("prompt", text=BALL.replace("red", "blue"))

    monkeypatch.setattr(json_lines.EventLines, "tell", and_order)
    assert generate(BALL, "--run", "runs", "-n", "5", "--json") == 0
    run, events = Runs("runs").find("last"), told()
    listed = [event for event in events if event["event"] not in ("loading", "loaded", "frame")]
    logged = [event | {"output": str(run.folder)} for event in run.events()[0] if event["event"] != "queued"]
    assert listed == logged
    assert {"started", "prompt", "snapshot", "completed"} <= set(kinds(listed))
    assert [event["frame"] for event in events if event["event"] == "frame"] == [1, 2, 3, 4, 5]


def test_the_dry_run(told, capsys):
    assert generate(BALL, "-n", "6", "--seed", "3", "-o", "-", "--dry-run", "--json") == 0
    (plan,) = told()
    assert plan["videos"] == [{"output": "-", "seed": 3, "prompt": BALL}]
    assert (plan["num_frames"], plan["size"], plan["slots"], plan["forwards"]) == (6, "32x32", 4, 36)
    assert generate(BALL, "-n", "6", "--seed", "3", "-o", "-", "--dry-run") == 0
    plain = capsys.readouterr().out
    assert all(text in plain for _, text in plan["rows"])
    assert main(["generate", BALL, "--method", "freenoise", "-n", "32", "--dry-run", "--json"]) == 0
    (plan,) = told()
    assert (plan["method"], plan["slots"], plan["levels"]) == ("freenoise", None, None)
    one = plan["forwards"], plan["memory"]["queue"]
    Path("prompts.txt").write_text("a red ball\na blue ball\na green ball\n")
    assert (
        main(["generate", "--prompts", "prompts.txt", "--method", "freenoise", "-n", "64", "--dry-run", "--json"]) == 0
    )
    (plan,) = told()
    assert plan["memory"]["queue"] == 2 * one[1]  # all frames are computed at once
    assert plan["forwards"] > 5 * one[0]


def test_other_answers(told, monkeypatch):
    from fifo_diffusion import write_video
    from fifo_diffusion.models.loading.checkpoints import CHECKPOINTS

    assert main(["models", "--json"]) == 0
    (models,) = told()
    assert [model["id"] for model in models["models"]] == list(CHECKPOINTS)
    assert models["models"][0]["presets"] == {"paper": 128, "quality": 128, "fast": 16, "live": 8}
    found = doctor.Finding("av", "missing", "install it")
    monkeypatch.setattr(doctor, "report", lambda: ([found], False))
    assert main(["doctor", "--json"]) == 1
    finding = {"what": "av", "found": "missing", "fix": "install it", "required": True}
    assert told() == [{"well": False, "findings": [finding]}]
    write_video("a.mp4", np.zeros((3, 16, 16, 3), "uint8"), metadata={"prompt": "a ball"})
    assert main(["info", "a.mp4", "--json"]) == 0
    assert told() == [{"file": "a.mp4", "frames": 3, "made": {"prompt": "a ball"}}]
