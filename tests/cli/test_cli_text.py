"""What the command prints: nothing that a terminal obeys, commands that can be typed, words of our own only."""

import logging
import os
import pickle
import shlex
import signal
import subprocess
import sys

import pytest

from fifo_diffusion.cli.errors import exit_code, in_shell, told
from fifo_diffusion.cli.interrupts import Interrupts
from fifo_diffusion.cli.main import main
from fifo_diffusion.errors import (
    ArgumentError,
    ArgumentTypeError,
    Message,
    Setting,
    UsageError,
    message_of,
    usage_errors,
)
from fifo_diffusion.jobs.explained import explain
from fifo_diffusion.jobs.request import Request
from fifo_diffusion.jobs.stop import Stopped
from fifo_diffusion.text import duration, one_line, shell_word, shortened
from fifo_diffusion.video import write_video

BALL = "a red ball moving right on a navy background"
HOSTILE = "a\x1b]0;title\x07b\x1b]52;c;Y2xpcA==\x07\x9b31m\rc\x7f\u202ed\u2066\u2028e\0"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def _is_harmless(text: str) -> bool:
    return all(c == "\n" or (c.isprintable() and c not in "\u202e\u2066\u2028") for c in text)


def test_text_is_one_line_that_no_terminal_obeys():
    line = one_line(HOSTILE)
    assert _is_harmless(line)
    assert "\\x1b]0;title\\x07" in line
    assert "\\u202e" in line
    assert one_line("two  blanks stay,\n  lines are joined\n") == "two  blanks stay, lines are joined"
    assert one_line("a\udcff.mp4 \ud800") == "a\\xff.mp4 \\ud800"
    assert one_line("日本語 é 👩‍🚀") == "日本語 é 👩‍🚀"
    assert len(shortened("x" * 100)) == 60


def test_info_and_errors_print_nothing_raw(capsys):
    import numpy as np

    frames = [np.zeros((16, 16, 3), np.uint8)] * 2
    write_video("x.gif", frames, metadata={f"key{HOSTILE}": HOSTILE, "command": f"rm {HOSTILE}"})
    assert main(["info", "x.gif"]) == 0
    assert _is_harmless(capsys.readouterr().out)
    for arguments in (["--model", HOSTILE[:-1]], ["--start", HOSTILE[:-1]], ["--schedule", HOSTILE[:-1]]):
        assert main(["generate", *([] if "--schedule" in arguments else [BALL]), *arguments]) == 2
        error = capsys.readouterr().err
        assert _is_harmless(error)
        assert error.count("\n") == 1


@pytest.mark.parametrize("word", ["plain.mp4", "my film.mp4", "it's", "$(x)", "a\nb", "\x1b]0;x\x07'\\", "a\udcff b"])
def test_suggested_words_can_be_typed(word):
    typed = shell_word(word)
    assert _is_harmless(typed)
    echoed = subprocess.run(["bash", "-c", f"printf %s {typed}"], capture_output=True, check=True).stdout
    assert echoed == word.encode(errors="surrogateescape")


def test_the_command_of_a_video_can_be_typed_again(monkeypatch):
    prompt = "-1 degrees, it's 'cold'"
    request = Request.from_options({"num_frames": 3, "prompt": prompt, "output": "my film.mp4", "lookahead": False})
    words = shlex.split(request.command(seed=1, overwrite=True))
    given = {}
    monkeypatch.setattr("fifo_diffusion.cli.generate.run", lambda request: given.update(request.settings.given) or 0)
    assert main(words[1:]) == 0
    assert given == request.settings.given | {"seed": 1, "overwrite": True}


@pytest.mark.parametrize(
    ("name", "value", "python", "shell"),
    [
        ("num_partitions", 3, "num_partitions=3", "--num-partitions 3"),
        ("compat", "published", "compat='published'", "--compat published"),
        ("lookahead", True, "lookahead=True", "--lookahead"),
        ("lookahead", False, "lookahead=False", "--no-lookahead"),
        ("lookahead", "banded", "lookahead='banded'", "--banded-lookahead"),
        ("overwrite", True, "overwrite=True", "--overwrite"),
        ("negative_prompt", "two words", "negative_prompt='two words'", "--negative-prompt 'two words'"),
        ("output", "a b.mp4", "output='a b.mp4'", "-o 'a b.mp4'"),
        ("fps", 8.0, "fps=8.0", "--fps 8"),
        ("callback_on_frame", 5, "callback_on_frame=5", "callback_on_frame=5"),
        ("guidance_scale_2", 5, "guidance_scale_2=5", "guidance_scale_2=5"),
    ],
)
def test_each_face_names_a_setting_in_its_own_way(name, value, python, shell):
    """What is no setting of the command stays as in Python, and so does text that looks like one."""
    message = Message("num_frames=3 of a file: ", Setting(name, value), " or ", Message("any ", Setting("window")))
    assert str(message) == f"num_frames=3 of a file: {python} or any window"
    assert message.worded(in_shell) == f"num_frames=3 of a file: {shell} or any --window"


@pytest.mark.parametrize("kind", [ArgumentError, ArgumentTypeError])
def test_an_argument_that_does_not_do(kind):
    error = kind("num_partitions", 0, "give 1 or more, or a larger ", Setting("window", 20))
    assert str(error) == "num_partitions=0: give 1 or more, or a larger window=20"
    assert told(error) == "--num-partitions 0: give 1 or more, or a larger --window 20"
    assert isinstance(error, ValueError)
    assert isinstance(error, TypeError) == (kind is ArgumentTypeError)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.name, again.value, told(again)) == (str(error), "num_partitions", 0, told(error))
    with pytest.raises(UsageError) as raised, usage_errors():
        raise error
    assert told(raised.value) == told(error)
    assert exit_code(raised.value) == 2
    assert told(pickle.loads(pickle.dumps(raised.value))) == told(error)


def test_errors_of_libraries_are_told_as_they_are():
    assert "num_frames=3" in told(explain(RuntimeError("num_frames=3 is wrong")))
    with pytest.raises(UsageError, match="num_frames=3"), usage_errors():
        raise ValueError("num_frames=3")
    assert str(message_of(KeyError("x"))) == "'x'"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "out of memory"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"), "--height"),
        (RuntimeError("can't start new thread"), "ulimit -u"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), "fifo-diffusion doctor"),
        (RecursionError("maximum recursion depth exceeded"), "unexpected RecursionError"),
        (OSError(28, "No space left on device", "x.mp4"), "No space left on device: x.mp4"),
        (KeyError(), "unexpected KeyError"),
    ],
)
def test_any_error_is_one_line(error, words):
    assert words in told(explain(error))
    assert exit_code(explain(error)) == 1


@pytest.mark.parametrize(
    ("typed", "code", "errors"),
    [
        ("--version >/dev/full", 1, ["No space left on device"]),
        ("--version >&-", 0, []),
        ("generate 2>/dev/full", 2, []),
        ("generate >&- 2>&-", 2, []),
        ("generate x -o - >&-", 1, ["standard output is closed, and -o - writes the video to it"]),
    ],
)
def test_standard_streams_that_are_closed_or_full(typed, code, errors):
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m fifo_diffusion {typed}"], stderr=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == code
    lines = done.stderr.splitlines()
    assert len(lines) == len(errors)
    assert all(words in line for line, words in zip(lines, errors, strict=True))


def test_ranks_without_numbers(monkeypatch, capsys):
    for name, value in {
        "RANK": "x",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "a",
        "MASTER_PORT": "1",
    }.items():
        monkeypatch.setenv(name, value)
    assert main(["generate", BALL]) == 2
    error = capsys.readouterr().err
    assert "RANK in the environment is 'x' and no number" in error
    assert error.count("\n") == 1


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no such signal here")
def test_a_closed_terminal_ends_a_run_in_order(monkeypatch):
    """And sends its signal twice; under nohup it sends none that counts."""
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
    with Interrupts() as interrupts:
        with pytest.raises(Stopped), interrupts.at_once():
            signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
        assert (interrupts.why, interrupts.exit_code, ended) == ("SIGHUP", 129, [])
        signal.raise_signal(signal.SIGTERM)
        assert ended == [143]
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts, interrupts.at_once():
            signal.raise_signal(signal.SIGHUP)
            assert interrupts.stop is None
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("quiet", [[], ["--quiet"], ["-q"]])
def test_warnings_of_the_package_are_notes_told_once(quiet, monkeypatch, capsys):
    logger = logging.getLogger("fifo_diffusion.models.anything")

    def run(request):
        for _ in range(2):
            logger.warning("the words %s are not seen: num_frames=3\x1b[31m\nand more", "'x y'")
            logger.warning(Message("use a larger ", Setting("num_frames", 4)))
        logger.info("nothing")
        return 0

    monkeypatch.setattr("fifo_diffusion.cli.generate.run", run)
    before = logging.getLogger("fifo_diffusion").handlers[:]
    assert main(["generate", "x", *quiet]) == 0
    notes = "note: the words 'x y' are not seen: num_frames=3\\x1b[31m and more\nnote: use a larger --num-frames 4\n"
    assert capsys.readouterr().err == ("" if quiet else notes)
    assert logging.getLogger("fifo_diffusion").handlers == before


def test_times_that_cannot_be():
    assert duration(-151200.0) == "0.0 s"
    assert duration(float("inf")) == "years"
    assert duration(3 * 24 * 3600) == "3.0 days"
