"""Odd and bad media files, each with what reading it must give. `python tests/odd_media.py FOLDER` writes them all."""

import os
import socket
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import av

from odd_patterns import Case
from odd_pictures import ANIMATIONS, PICTURES, folder, picture, write_png
from odd_videos import VIDEOS, encoded_tone


def bytes_of(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content)


def huge_png(side: int) -> Callable[[Path], None]:
    return lambda path: write_png(path, side, side, 8, 0, zlib.compress(bytes(64)))


def cut_off(make: Callable[[Path], None], share: float) -> Callable[[Path], None]:
    def make_less(path: Path) -> None:
        make(path)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    return make_less


def empty_gif(path: Path) -> None:
    """A huge screen and thousands of frames of one pixel."""
    frame = b"!\xf9\x04\0\0\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0"
    path.write_bytes(b"GIF89a" + struct.pack("<HH", 9000, 9000) + b"\x80\0\0\0\0\0\xff\xff\xff" + frame * 3000 + b";")


def socket_file(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # names of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name)
    finally:
        os.chdir(here)


PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n"
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\n%%EndComments\nshowpage\n"
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)
REFUSED = {
    "PostScript called .png": Case(bytes_of(POSTSCRIPT), "x.png", refused="is PostScript, which is not read here"),
    "PostScript called .mp4": Case(bytes_of(POSTSCRIPT), "x.mp4", refused="is PostScript, which is not read here"),
    "HEIC": Case(bytes_of(HEIC), "photo.heic", refused="is HEIC, which is not read here: give a PNG, JPEG or WebP"),
    "400 megapixels": Case(huge_png(20_000), "huge.png", refused="megapixels|too large"),
    "169 megapixels": Case(huge_png(13_000), "huge.png", refused="is 13000x13000: .* more than 100 megapixels"),
    "GIF of thousands of large frames": Case(empty_gif, "bomb.gif", refused="claims 3000 frames of 9000x9000"),
    "truncated PNG": Case(cut_off(picture(), 0.6), "half.png", refused="cannot read .*half.png"),
    "truncated JPEG": Case(cut_off(picture(), 0.5), "half.jpg", refused="cannot read .*half.jpg"),
    "nothing in it": Case(bytes_of(b""), "none.mp4", refused="cannot read"),
    "noise": Case(bytes_of(bytes(range(256)) * 20), "noise.mp4", refused="cannot read|no whole frame"),
    "text called .gif": Case(bytes_of(b"hello"), "text.gif", refused="cannot read"),
    "playlist": Case(bytes_of(PLAYLIST), "list.m3u8", refused="cannot read"),
    "playlist called .mp4": Case(bytes_of(PLAYLIST), "list.mp4", refused="cannot read"),
    "list of files": Case(bytes_of(b"ffconcat version 1.0\nfile /etc/passwd\n"), "list.mkv", refused="cannot read"),
    "sound only": Case(lambda p: _sound_only(p), "sound.mp4", refused="holds no video"),
    "empty folder": Case(folder(), "empty", refused="holds no images"),
    "folder without images": Case(folder("a.txt"), "texts", refused="holds no images"),
    "missing": Case(lambda p: None, "missing.mp4", refused="there is no file"),
}
if hasattr(os, "mkfifo"):
    REFUSED |= {
        "pipe": Case(os.mkfifo, "pipe.mp4", refused="is a pipe, not a file"),
        "pipe called .png": Case(os.mkfifo, "pipe.png", refused="is a pipe, not a file"),
        "socket": Case(socket_file, "s.mp4", refused="is a socket, not a file"),
        "device": Case(lambda p: p.symlink_to("/dev/zero"), "zero.mp4", refused="is a device, not a file"),
    }
CASES = VIDEOS | PICTURES | ANIMATIONS | REFUSED


def _sound_only(path: Path) -> None:
    with av.open(str(path), "w") as container:
        container.mux(encoded_tone(container.add_stream("aac", rate=48000), 0.2))


def write_all(target: Path) -> None:
    """Every case in a folder of its own."""
    for name, case in CASES.items():
        place = target / name.replace(" ", "-").replace(",", "")
        place.mkdir(parents=True)
        case.make(place / case.name)


if __name__ == "__main__":
    write_all(Path(sys.argv[1]))
