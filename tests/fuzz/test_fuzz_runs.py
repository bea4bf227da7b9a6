"""Folders of runs with damaged or made-up files: what they say is plain values of the right kinds, or one line."""

import json
import shutil

import pytest
from hypothesis import strategies as st

from fifo_diffusion.errors import ArgumentError, UserError
from fifo_diffusion.jobs.runs.commands import COMMANDS as COMMANDS_TAKE
from fifo_diffusion.jobs.runs.commands import checked_command
from fifo_diffusion.jobs.runs.lines import append, read
from fifo_diffusion.jobs.runs.requests import checked, names
from fifo_diffusion.jobs.runs.run import Run, Runs
from fifo_diffusion.jobs.runs.status import COMPLETED, FAILED, IN_PROGRESS, QUEUED
from fifo_diffusion.jobs.runs.timeline import pending, prompts_of
from fuzzing import altered, damaged, examples, holds, refused, texts, values

EVENTS = [
    {"at": 1.0, "event": "queued"},
    {"at": 2.0, "event": "started", "frame": 0, "resumed": False, "num_frames": 40, "fps": 8.0, "width": 16,
     "height": 16, "seed": 3, "slots": 4, "model_fps": 8, "model": "toybox"},
    {"at": 3.0, "event": "snapshot", "frame": 8, "change_frame": 12},
    {"at": 4.0, "event": "prompt", "text": "a blue ball", "frame": 9, "change": "tail", "control": 40,
     "schedule": {"0": "a red ball", "12": {"prompt": "a blue ball", "change": "queue"}}},
    {"at": 5.0, "event": "planned", "frame": 30, "text": "a green ball", "change": None, "control": 90},
    {"at": 6.0, "event": "stopped", "frame": 16, "why": "the user"},
]  # fmt: skip
COMMANDS = [
    {"at": 3.5, "do": "prompt", "text": "a blue ball", "change": "tail"},
    {"at": 4.5, "do": "extend", "num_frames": 60},
    {"at": 5.5, "do": "schedule", "keys": {"20": "a green ball"}},
    {"at": 6.5, "do": "stop"},
]
TICK = {"frames": 9, "at": 1.0, "queue": [9, 10]}


@pytest.fixture
def run(tmp_path):
    run = Runs(tmp_path / "runs").create({"prompt": "a red ball", "num_frames": 40, "seed": 3})
    for event in EVENTS:
        append(run.folder / "events.jsonl", event)
    for command in COMMANDS:
        append(run.folder / "control.jsonl", command)
    (run.folder / "live" / "tick").write_text(json.dumps(TICK))
    (run.folder / "at").write_text("16")
    run.place = 3.0
    return run


def lines(records):
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def look(folder):
    """All that a run says of itself, as faces ask it."""
    run = Run(folder)
    status, _ = refused(lambda: run.status, UserError)
    if status is not None:
        assert status.state in (QUEUED, IN_PROGRESS, COMPLETED, FAILED)
        assert type(status.frames) is int
        assert status.frames >= 0
        assert status.num_frames is None or type(status.num_frames) is int
        assert 0 <= status.progress <= 100
        assert status.eta_seconds is None or status.eta_seconds >= 0
        assert type(status.control) is int
        assert all(isinstance(flag, bool) for flag in (status.stopped, status.paused, status.over))
        json.dumps(vars(status), allow_nan=False)
    record, _ = refused(lambda: run.record, UserError)
    if record is not None:
        assert isinstance(run.created_at, int | float)
        assert run.parent is None or isinstance(run.parent, dict)
        assert isinstance(run.place, float | int)
        refused(lambda: prompts_of(run), UserError)
    with_kinds = refused(lambda: run.events()[0], ())[0]
    assert all(isinstance(event["event"], str) for event in with_kinds)
    refused(lambda: pending(with_kinds, 3), ())
    refused(run.written_status, UserError)
    for command in refused(lambda: run.commands()[0], ())[0]:
        fields = {name: value for name, value in command.items() if name in COMMANDS_TAKE[command["do"]]}
        assert isinstance(checked_command(command["do"], fields), dict)
    assert type(run.died_at()) is int
    assert type(run.tick()) is int
    assert all(type(frame) is int for frame in run.queue_frames())
    runs = Runs(folder.parent)
    assert len(refused(runs.list, ())[0]) == (record is not None)
    refused(runs.queue, ())
    refused(lambda: runs.find("last"), UserError)


FILES = ("run.json", "status.json", "events.jsonl", "control.jsonl", "live/tick", "at", "place")


@examples(40, 4000)
def test_damaged_files(count, run):
    whole = {name: (run.folder / name).read_bytes() for name in FILES}
    content = st.sampled_from([b"", b"\0" * 100, b"[" * 5000, b"9" * 5000, b"-1", b"nan", b"inf", b"null", b"\xff"])
    changes = st.sampled_from(FILES).flatmap(lambda name: st.tuples(st.just(name), damaged(whole[name]) | content))

    @holds(count, st.lists(changes, min_size=1, max_size=2))
    def check(changes):
        for name, data in changes:
            (run.folder / name).write_bytes(data)
        look(run.folder)
        for name, data in whole.items():
            (run.folder / name).write_bytes(data)


@examples(40, 4000)
def test_altered_values(count, run):
    status = json.loads((run.folder / "status.json").read_text()) | {"state": "in_progress", "frames": 9, "rate": 2.0}
    status |= {"error": {"code": "x", "message": "y"}, "fps": 8.0, "width": 16, "height": 16, "pid": 1, "host": "here"}
    status |= {"started_at": 1.0, "completed_at": 2.0}
    request = json.loads((run.folder / "run.json").read_text())
    request["request"]["schedule"] = {"0": "a red ball", "90s": {"prompt": "a blue ball", "change": "queue"}}
    made = st.one_of(
        altered(status).map(lambda found: ("status.json", json.dumps(found).encode())),
        altered(request).map(lambda found: ("run.json", json.dumps(found).encode())),
        altered(EVENTS).map(lambda found: ("events.jsonl", lines(found))),
        altered(COMMANDS).map(lambda found: ("control.jsonl", lines(found))),
        altered(TICK).map(lambda found: ("live/tick", json.dumps(found).encode())),
    )
    whole = {name: (run.folder / name).read_bytes() for name in FILES}

    @holds(count, made, st.booleans())
    def check(changed, without_status):
        name, data = changed
        (run.folder / name).write_bytes(data)
        if without_status:
            (run.folder / "status.json").unlink()
        look(run.folder)
        for name, data in whole.items():
            (run.folder / name).write_bytes(data)


@examples(20, 1000)
def test_records_are_read_back(count, tmp_path):
    """Whatever is in them, from wherever one begins, and after what a killed process left."""
    record = st.dictionaries(st.text(max_size=9), values.filter(lambda value: value == value), max_size=4)

    @holds(count, st.lists(record, max_size=5), st.binary(max_size=20).filter(lambda torn: b"\n" not in torn))
    def check(records, torn):
        path = tmp_path / "events.jsonl"
        path.unlink(missing_ok=True)
        kept, ends = [], [0]
        for each in records:
            try:
                text = json.dumps(each, ensure_ascii=False).encode()
                json.loads(text)
            except (UnicodeEncodeError, ValueError):  # a lone surrogate, a number of thousands of digits
                continue
            ends.append(append(path, each))
            kept.append(json.loads(text))
        with open(path, "ab") as file:
            file.write(torn)
        for number, end in enumerate(ends):
            found, after = read(path, end)
            assert repr(found) == repr(kept[number:])
            assert after == ends[-1]


@examples(40, 4000)
def test_whatever_is_asked_for(count, tmp_path, monkeypatch):
    """A request is made whole, and stays so when it is read and checked again; or it is refused."""
    monkeypatch.chdir(tmp_path)
    fields = st.dictionaries(st.sampled_from(names()) | texts, values, max_size=4)

    @holds(count, fields | fields.map(lambda found: found | {"prompt": "a red ball"}))
    def check(asked):
        found, _ = refused(lambda: checked(asked), UserError, ArgumentError)
        if found is not None:
            again = json.loads(json.dumps(found))
            assert json.dumps(checked(again)) == json.dumps(found)


@pytest.fixture(autouse=True)
def _clean(tmp_path):
    yield
    shutil.rmtree(tmp_path, ignore_errors=True)
