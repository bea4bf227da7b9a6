"""Files of prompts and schedules, as people write them: read as they are meant, or refused in one line."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

from fifo_diffusion.cli.errors import told as in_words
from fifo_diffusion.cli.main import main
from fifo_diffusion.errors import UsageError, UserError
from fifo_diffusion.jobs.prompt_files import Time, in_frames, read_prompts, read_schedule
from fifo_diffusion.video import read_metadata, write_video

BALL = "a red ball moving right on a navy background"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def schedule(text: str | bytes, fps: float = 10) -> dict[int, str]:
    Path("s.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    return in_frames(read_schedule(Path("s.txt")), fps)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("0: A\n20: B", {0: "A", 20: "B"}),
        ("0:A\n20 :B: two", {0: "A", 20: "B: two"}),
        ("0:00: A\n1:30: B", {0: "A", 900: "B"}),
        ("0:00:A\n01:30:B", {0: "A", 900: "B"}),
        ("00:00:00: A\n1:02:03: B", {0: "A", 37230: "B"}),
        ("0s: A\n90s: B", {0: "A", 900: "B"}),
        ("0: A\n1.5 s: B\n1m30s: C\n2 min: D\n1h: E", {0: "A", 15: "B", 900: "C", 1200: "D", 36000: "E"}),
        ("0:00: A\n0:01.25: B", {0: "A", 12: "B"}),
        ("\ufeff# day\r\n0: A\r\n\r\n1:00: B: C\r\n", {0: "A", 600: "B: C"}),
        ("20: B\n0: A", {0: "A", 20: "B"}),
        ("0: A\n5: 3 balls", {0: "A", 5: "3 balls"}),
        ("0: two\u2028lines", {0: "two\u2028lines"}),
        ('{"20": "B", "0": "A"}', {0: "A", 20: "B"}),
        ('{"0": "A", "1:30": "B", "2s": "C"}', {0: "A", 20: "C", 900: "B"}),
        ('"0": "A",\n"24": "B, and C",\n', {0: "A", 24: "B, and C"}),
        ('"0": "A",\r\n"0:05": "B"', {0: "A", 50: "B"}),
    ],
)
def test_schedules_are_read_as_they_are_meant(typed, meant):
    assert schedule(typed) == meant
    assert list(schedule(typed)) == sorted(meant)


def test_times_follow_the_frame_rate():
    assert schedule("0: A\n1:30: B", fps=24) == {0: "A", 2160: "B"}
    assert read_schedule(Path("s.txt")) == {0: "A", Time(90): "B"}


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("0:00 A\n1:30 B", "may mean a frame or a time"),
        ("0: A\n1:30 B", "line 2: '1:30 B' may mean a frame or a time"),
        ("0: A\n1:30:45 B", "may mean a frame or a time"),
        ("0: A\n1: 30: B", "may mean a frame or a time"),
        ("0: 16:9 video", "a prompt that begins with such numbers in JSON"),
        ("00:00:00,000 --> 00:00:04,000\nA", "may mean a frame or a time"),
        ("5: A\n0.5s: B", "has no prompt for frame 0"),
        ("0: A\nthen B", "line 2: 'then B' is not of the form"),
        ("0: A\n-5: B", "is not of the form"),
        ("0: A\n" + "9" * 5000 + ": B", "is no frame number"),
        ("0: A\n" + "9" * 10 + "s: B", "s.txt line 2"),
        ("0: A\n0:00: B", "are the same frame"),
        ("0: A\n0.01s: B", "are the same frame at 10 frames/s"),
        ("0: A\n0: B", "frame 0 has two prompts"),
        ("0:", "the prompt of frame 0 is empty"),
        ("", "it is empty"),
        ("0: A --neg ugly", "--negative-prompt"),
        ('{"0": {"prompt": "A", "negative_prompt": "B"}}', "give --negative-prompt"),
        ('{"0": "A", "' + "9" * 5000 + '": "B"}', "is no frame number"),
        ('{"0": ' + "9" * 5000 + "}", "no JSON object"),
        ("[" * 100_000, "JSON"),
        ('{"0": ' * 100_000, "JSON"),
        ('{"0": "\\ud800"}', "is not UTF-8"),
        ('{"0": "A",}', "not valid JSON"),
        ("[0s: A] [3s: B]", "not valid JSON"),
        (b"\xff\xfe0\x00", "is not a text file in UTF-8"),
        (b"0: \xed\xa0\x80", "is not a text file in UTF-8"),
    ],
)
def test_what_may_mean_something_else_is_refused(typed, told):
    with pytest.raises(UserError) as error:
        schedule(typed)
    assert told in in_words(error.value)
    assert len(in_words(error.value)) < 250
    assert isinstance(error.value, UsageError)


@pytest.mark.parametrize("option", ["--schedule", "--prompts"])
@pytest.mark.parametrize("name", ["/dev/zero", "/dev/full", "pipe", "folder", "huge", "missing"])
def test_what_is_no_file_of_prompts_is_refused_at_once(option, name, capsys):
    os.mkfifo("pipe")
    Path("folder").mkdir()
    with open("huge", "wb") as file:
        file.truncate(2**40)  # takes no room
    assert main(["generate", option, name]) == 2
    error = capsys.readouterr().err
    assert name in error
    assert error.count("\n") == 1


def test_prompts_are_lines():
    Path("p.txt").write_bytes("\ufeffa red ball\r\n\r\n# no\r\na\u2028b\x0bc\n".encode())
    assert read_prompts(Path("p.txt")) == ["a red ball", "a\u2028b\x0bc"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["[0s: a red ball] [3s: a blue ball]"], "give it with --schedule"),
        (["a\udcff ball"], "is not UTF-8: a\\xff ball"),
        ([BALL, "--negative-prompt", "\udcff"], "the negative prompt is not UTF-8"),
    ],
)
def test_prompts_that_are_none(arguments, told, capsys):
    assert main(["generate", *arguments]) == 2
    assert told in capsys.readouterr().err


def test_a_prompt_after_the_end_is_told_once(capsys):
    Path("s.txt").write_text(f"0: {BALL}\n0:10: a blue ball\n2000: a green ball\n")
    small = ["--window", "4", "--num-partitions", "1", "--height", "32", "--width", "32"]
    assert main(["generate", *small, "--schedule", "s.txt", "--fps", "4", "--num-frames", "40", "--dry-run"]) == 0
    output = capsys.readouterr().out
    assert output.count("no frame is made under the prompt of frame 40, 2000: the video has 40 frames") == 1
    assert main(["generate", *small, "--schedule", "s.txt", "--fps", "4", "--num-frames", "2001", "--dry-run"]) == 0
    assert "no frame is made" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("0: a red ball\n100: a blue ball", "holds prompts by frame, of one video: give it with --schedule"),
        ("0:00: a red ball\n1:30: a blue ball", "give it with --schedule"),
        ('["a red ball",\n "a blue ball"]', "is JSON: write one prompt per line"),
        ('{"0": "a red ball"}', "is JSON: .* --schedule"),
    ],
)
def test_other_files_are_no_prompts(typed, told):
    Path("p.txt").write_text(typed)
    with pytest.raises(UserError) as error:
        read_prompts(Path("p.txt"))
    assert re.search(told, in_words(error.value))


def test_prompts_may_begin_with_numbers_and_brackets():
    lines = ["[a red ball]", "3: the sequel", "0: the beginning", "a blue ball"]
    Path("p.txt").write_text("\n".join(lines))
    assert read_prompts(Path("p.txt")) == lines


def test_how_a_file_was_taken_is_in_the_video(tmp_path):
    """So that the same batch with other frames of it is another batch."""
    write_video("old.mp4", np.zeros((6, 64, 64, 3), np.uint8), fps=10)
    Path("p.txt").write_text("a red ball")
    run = ["generate", "--prompts", "p.txt", "--window", "2", "--num-partitions", "1", "--start", "old.mp4", "-n", "1"]
    assert main([*run, "-o", "new.mp4", "--start-fit", "pad"]) == 0
    assert read_metadata("new_000.mp4")["start_fit"] == "pad"
    assert main([*run, "-o", "new.mp4"]) == 1


def test_a_video_of_given_frames_alone_is_noted(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_video("old.mp4", np.zeros((6, 64, 64, 3), np.uint8), fps=10)
    run = ["generate", "a red ball", "--num-partitions", "1", "--dry-run", "--start", "old.mp4"]
    for frames, options, noted in ((6, ["--include-start"], True), (7, ["--include-start"], False), (6, [], False)):
        assert main([*run, "-n", str(frames), *options]) == 0
        assert ("nothing new is made: the video has 6 frames" in capsys.readouterr().out) == noted
