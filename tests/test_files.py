"""Files that are there whole or not at all."""

import os

import pytest

from fifo_diffusion import files
from fifo_diffusion.files import beside, written_whole


def test_a_file_takes_its_name_when_it_is_written_and_on_the_disk(tmp_path, monkeypatch):
    path, done = tmp_path / "a.json", []
    path.write_text("old")
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, name=name, real=real: done.append(name) or real(*a))
    with written_whole(path) as partial:
        partial.write_text("new")
        assert (path.read_text(), partial.suffix, partial.parent) == ("old", ".json", tmp_path)
    assert path.read_text() == "new"
    assert done == ["fsync", "replace", "fsync"]  # the file, its name, the folder that holds the name
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")

    def fails():
        with written_whole(path) as partial:
            partial.write_text("half")
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fails()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_does_not_get_into_the_file(tmp_path):
    path = tmp_path / "a.json"
    beside(path).write_text("left by a killed process, and longer")
    with written_whole(path) as partial, partial.open("a") as file:
        file.write("new")
    assert path.read_text() == "new"


def test_two_who_write_the_same_file_do_not_tear_it(tmp_path):
    path = tmp_path / "place"
    with written_whole(path, alone=False) as one, written_whole(path, alone=False) as other:
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one"  # who ended last
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_being_read_is_replaced_a_moment_later(tmp_path, monkeypatch):
    """As on Windows, where that is refused meanwhile."""
    path, refused, real = tmp_path / "status.json", [], os.replace

    def replace(source, target):
        if len(refused) < 3:
            refused.append(target)
            raise PermissionError(13, "Access is denied", str(target))
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(PermissionError), written_whole(path) as partial:
        partial.write_text("1")
    monkeypatch.setattr(files, "REPLACE_SECONDS", 1.0)
    with written_whole(path) as partial:
        partial.write_text("2")
    assert path.read_text() == "2"
