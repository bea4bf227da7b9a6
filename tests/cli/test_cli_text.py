"""What the command prints: nothing that a terminal obeys, commands that can be typed, words of our own only."""

import logging
import os
import shlex
import signal
import subprocess
import sys

import pytest

from fifo_diffusion.cli.interrupts import Interrupts
from fifo_diffusion.cli.main import generate, main
from fifo_diffusion.errors import ARGUMENTS, checking, explain, in_shell_words
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
    told = one_line(HOSTILE)
    assert _is_harmless(told)
    assert "\\x1b]0;title\\x07" in told
    assert "\\u202e" in told
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
    monkeypatch.setattr("fifo_diffusion.cli.generate.run", lambda request: given.update(request.given) or 0)
    assert main(words[1:]) == 0
    assert given == request.given | {"seed": 1, "overwrite": True}


def test_words_of_the_shell_for_our_messages_only():
    assert in_shell_words("unknown model 'seed=5/none/x'") == "unknown model 'seed=5/none/x'"
    assert in_shell_words('a folder "num_frames", not num_frames=3') == 'a folder "num_frames", not --num-frames 3'
    assert in_shell_words("torch.load(x, weights_only=False)") == "torch.load(x, weights_only=False)"
    assert in_shell_words("pass trust_remote_code=True") == "pass trust_remote_code=True"
    assert (
        in_shell_words("the model's num_frames, the frames' window=4")
        == "the model's --num-frames, the frames' --window 4"
    )
    assert in_shell_words("negative_prompt='two words'") == "--negative-prompt 'two words'"
    assert "num_frames=3" in str(explain(_raised("num_frames=3 is wrong", RuntimeError)))  # raised here, not by us
    with pytest.raises(Exception, match="num_frames=3"), checking():
        raise ValueError("num_frames=3")
    import inspect

    assert set(ARGUMENTS) <= set(inspect.signature(generate).parameters)


def _raised(message: str, kind: type[Exception]) -> Exception:
    try:
        raise kind(message)
    except kind as error:
        return error


@pytest.mark.parametrize(
    ("error", "told"),
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
def test_any_error_is_one_line(error, told):
    assert told in str(explain(error))
    assert explain(error).code == 1


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
    with Interrupts() as interrupts:
        with pytest.raises(Stopped), interrupts.at_once():
            signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
        assert (interrupts.why, interrupts.exit_code, ended) == ("SIGHUP", 129, [])
        signal.raise_signal(signal.SIGTERM)
        assert ended == [143]
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
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
        logger.info("nothing")
        return 0

    monkeypatch.setattr("fifo_diffusion.cli.generate.run", run)
    before = logging.getLogger("fifo_diffusion").handlers[:]
    assert main(["generate", "x", *quiet]) == 0
    told = "note: the words 'x y' are not seen: --num-frames 3\\x1b[31m and more\n"
    assert capsys.readouterr().err == ("" if quiet else told)
    assert logging.getLogger("fifo_diffusion").handlers == before


def test_times_that_cannot_be():
    assert duration(-151200.0) == "0.0 s"
    assert duration(float("inf")) == "years"
    assert duration(3 * 24 * 3600) == "3.0 days"
