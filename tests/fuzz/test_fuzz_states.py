"""State files that are damaged or made up: a state, or one line that names the file."""

import json
from dataclasses import replace
from itertools import islice

import pytest
import torch
from hypothesis import strategies as st
from safetensors.torch import save_file

from fifo_diffusion import RunState
from fifo_diffusion.streaming.state import ShownFrames
from fifo_diffusion.streaming.state_migration import FORMAT, format_name
from fuzzing import altered, damaged, examples, holds, refused, texts, values
from streams import SMALL


@pytest.fixture(scope="module")
def saved(fifo):
    with fifo.stream({0: "a cat", 9: "a dog"}, seed=3, **SMALL) as stream:
        next(stream)
        return stream.state()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.state"


def tried(path, fifo, frames=0):
    """A state is loaded and goes on, or it is said why not; True where it goes on."""
    is_state, said = refused(lambda: RunState.is_state(path), ())
    assert isinstance(is_state, bool)
    assert said is None
    state, said = refused(lambda: RunState.load(path), ValueError, names=path)
    if state is None:
        return False
    assert is_state

    def goes_on():
        with fifo.stream(start=state) as stream:
            return list(islice(stream, frames))

    _, said = refused(goes_on, ValueError, TypeError)
    return said is None


@examples(15, 3000)
def test_damaged_bytes(count, saved, path, fifo):
    saved.save(path)
    whole = path.read_bytes()

    @holds(count, damaged(whole))
    def check(data):
        path.write_bytes(data)
        tried(path, fifo)


@examples(15, 3000)
def test_altered_heads_of_files(count, saved, path, fifo):
    """Names, types, shapes and places of tensors, as the file itself has them."""
    saved.save(path)
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    head = json.loads(whole[8 : 8 + length])

    @holds(count, altered(head))
    def check(head):
        text = json.dumps(head).encode("utf-8", "surrogatepass")
        path.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + length :])
        tried(path, fifo)


@examples(20, 3000)
def test_altered_values(count, saved, path, fifo):
    shown = {"path": "/films/a.mp4", "count": 7, "fps": 12.5, "fit": "pad"}

    @holds(count, altered(saved.header | {"shown": None}) | altered(saved.header | {"shown": shown}))
    def check(header):
        meta = {"format": format_name(FORMAT), "meta": json.dumps(header)}
        save_file(saved.tensors, path, metadata=meta)
        tried(path, fifo, frames=1 if count > 100 else 0)


@examples(15, 2000)
def test_tensors_that_are_missing_too_many_or_of_other_shapes(count, saved, path, fifo):
    names = [*saved.tensors, "latents", "ready", "shown", "picture", "anchors", "decoder.x", "embeds.x", "x"]
    shapes = st.lists(st.integers(0, 9), max_size=6) | st.sampled_from([list(t.shape) for t in saved.tensors.values()])
    kinds = st.sampled_from([torch.float32, torch.float16, torch.int64, torch.uint8, torch.bool])
    changes = st.lists(st.tuples(st.sampled_from(names), st.none() | st.tuples(shapes, kinds)), min_size=1, max_size=3)

    @holds(count, changes)
    def check(changes):
        tensors = saved.tensors
        for name, made in changes:
            tensors.pop(name, None)
            if made is not None:
                tensors[name] = torch.ones(made[0], dtype=made[1])
        save_file(tensors, path, metadata={"format": format_name(FORMAT), "meta": json.dumps(saved.header)})
        tried(path, fifo)


@examples(20, 500)
def test_what_is_saved_is_read_back(count, saved, path):
    whole = st.integers(0, 2**40)
    plain = st.dictionaries(texts, st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | texts)
    text = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
    prompts = st.lists(
        st.tuples(whole, text, st.sampled_from([(), ("queue",), ("blend",), ("tail",)])), min_size=1, max_size=3
    )
    shown = st.none() | st.builds(ShownFrames, text, st.integers(1, 2**40), st.floats(0.1, 1e3), st.just("crop"))

    @holds(count, prompts, whole, shown, plain, st.dictionaries(texts, values), st.floats(-1e6, 1e6))
    def check(prompts, iteration, shown, around, notes, value):
        state = replace(
            saved,
            queue=torch.full_like(saved.queue, value),
            prompts=[[frame, [[[said], 1.0]], *way] for frame, said, way in prompts],
            position=replace(saved.position, iteration=iteration),
            shown=shown,
            around=around,
            notes=notes,
        )
        state.save(path)
        found = RunState.load(path)
        assert torch.equal(found.queue, state.queue)
        assert json.dumps(found.header, sort_keys=True) == json.dumps(state.header, sort_keys=True)
