"""`fifo-diffusion info` on files that somebody made to be a nuisance: one line each, at once, and nothing obeyed."""

import struct
import zlib

import pytest

from fifo_diffusion.cli.main import main


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def picture(path, *chunks):
    pixels = zlib.compress((b"\0" + bytes(12)) * 4)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))
    return str(path)


BOMB = zlib.compress(bytes(50_000_000))


@pytest.mark.parametrize(
    "chunks",
    [
        [chunk(b"zTXt", b"Comment\0\0" + BOMB)],
        [chunk(b"iTXt", b"Comment\0\1\0\0\0" + BOMB)],
        [chunk(b"iCCP", b"x\0\0" + BOMB)],
        [chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * 900_000))] * 100,
        [chunk(b"zTXt", b"Comment\0\7nonsense")],
        [chunk(b"zTXt", b"Comment\0\0nonsense")],
    ],
)
def test_bombs_and_nonsense(chunks, tmp_path, capsys):
    assert main(["info", picture(tmp_path / "x.png", *chunks)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "x.png" in line
    assert "unexpected" not in line


def test_no_name(capsys):
    assert main(["info", ""]) == 1
    assert "'' is no name of a file: give a video" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("comment", "shown"),
    [
        ("[" * 100_000, "comment              [[["),
        ('{"a":' * 100_000, 'comment              {"a":{"a"'),
        ('{"a":' + "[" * 900 + "]" * 900 + "}", "a                    [[["),
        ('{"prompt": ' + "9" * 5000 + "}", "comment "),
        ('{"prompt": "\\ud800", "\\udfff": "a"}', "prompt               \\ud800"),
        ('{"prompt": "\\u001b]0;title\\u0007"}', "prompt               \\x1b]0;title\\x07"),
        ("null", "comment              null"),
    ],
)
def test_comments_that_are_no_settings(comment, shown, tmp_path, capsys):
    assert main(["info", picture(tmp_path / "x.png", chunk(b"tEXt", b"Comment\0" + comment.encode()))]) == 0
    said = capsys.readouterr()
    assert shown in said.out
    assert said.out.isprintable() or set(said.out) - set("\n") <= set(map(chr, range(32, 127)))
    assert not said.err


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("info a.mp4 b.mp4", "too many arguments: leave out b.mp4 (see fifo-diffusion info --help)"),
        ("runs stop", "(see fifo-diffusion runs stop --help)"),
        ("models --all", "there is no option --all (see fifo-diffusion models --help)"),
        ("inf a.mp4", "Did you mean 'info'? (see fifo-diffusion --help)"),
    ],
)
def test_the_help_that_is_named_is_that_of_the_command(capsys, typed, said):
    assert main(typed.split()) == 2
    assert capsys.readouterr().err.strip().endswith(said)
