"""The nodes in `comfyui/`, by the contract that ComfyUI has with custom nodes. ComfyUI itself is not here: three thin
stand-ins take the places of its modules, and nodes run in inference mode, as it runs them."""

import importlib.util
import inspect
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from fifo_diffusion import FIFO
from fifo_diffusion.testing import frames
from fifo_diffusion.video import count_frames, read_fps, read_frames, read_metadata
from streams import SMALL, pictures

FOLDER = Path(__file__).resolve().parents[1] / "comfyui"


class Interrupted(Exception):
    pass


class ProgressBar:
    def __init__(self, total):
        self.told, comfy.bars = [], [*comfy.bars, self]
        assert isinstance(total, int)

    def update_absolute(self, value, total=None, preview=None):
        kind, picture, longest = preview
        assert (kind, longest) == ("JPEG", 512)
        self.told.append((value, total, np.array(picture)))


def throw_if_asked():
    if comfy.stop_after is not None and len(comfy.bars[-1].told) >= comfy.stop_after:
        raise Interrupted


comfy = types.ModuleType("comfy")


@pytest.fixture
def nodes(monkeypatch, tmp_path):
    """The pack as ComfyUI imports it: a folder, under a name of ComfyUI's."""
    comfy.utils, comfy.model_management = types.ModuleType("comfy.utils"), types.ModuleType("comfy.model_management")
    folder_paths = types.ModuleType("folder_paths")
    comfy.bars, comfy.stop_after = [], None
    comfy.utils.ProgressBar = ProgressBar
    comfy.model_management.throw_exception_if_processing_interrupted = throw_if_asked
    folder_paths.get_output_directory = lambda: str(tmp_path)
    for module in (comfy, comfy.utils, comfy.model_management, folder_paths):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    name = "custom_nodes_fifo"
    spec = importlib.util.spec_from_file_location(
        name, FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
    )
    pack = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, pack)
    monkeypatch.delitem(sys.modules, f"{name}.nodes", raising=False)
    spec.loader.exec_module(pack)
    yield pack
    sys.modules.pop(f"{name}.nodes", None)


@pytest.fixture
def model(nodes, fifo, monkeypatch):
    """A tiny model as the load node gives it, whose streams are small."""
    asked, stream = {}, FIFO.stream
    monkeypatch.setattr(FIFO, "from_pretrained", lambda name, **more: asked.update(more, name=name) or fifo)

    def small(self, prompt=None, **arguments):
        return stream(self, prompt, **({} if prompt is None or is_state(arguments) else SMALL) | arguments)

    (loaded,) = call(nodes, "FifoLoad", model="tiny", dtype="float16", device="cpu", preset="the model's own")
    assert asked == {"name": "tiny", "dtype": torch.float16, "device": "cpu"}
    monkeypatch.setattr(FIFO, "stream", small)
    return loaded


def is_state(arguments):
    return type(arguments.get("start")).__name__ == "RunState"


def call(nodes, name, **arguments):
    node = nodes.NODE_CLASS_MAPPINGS[name]
    with torch.inference_mode():
        found = getattr(node(), node.FUNCTION)(**arguments)
    result = found["result"] if isinstance(found, dict) else found
    assert len(result) == len(node.RETURN_TYPES)
    return result


def as_image(made):
    return torch.from_numpy(np.array(made)).float() / 255


def test_the_contract(nodes):
    assert nodes.NODE_CLASS_MAPPINGS.keys() == nodes.NODE_DISPLAY_NAME_MAPPINGS.keys()
    for node in nodes.NODE_CLASS_MAPPINGS.values():
        inputs = node.INPUT_TYPES()
        assert inputs.keys() <= {"required", "optional"}
        taken = inspect.signature(getattr(node, node.FUNCTION)).parameters
        given = {name for part in inputs.values() for name in part}
        assert {n for n, p in taken.items() if p.kind is p.POSITIONAL_OR_KEYWORD} - {"self"} <= given
        assert given <= set(taken) or any(p.kind is p.VAR_KEYWORD for p in taken.values())
        assert len(node.RETURN_TYPES) == len(node.RETURN_NAMES)
        for part in inputs.values():
            for kind, *options in part.values():
                default = options[0].get("default") if options else None
                assert not isinstance(kind, list) or default is None or default in kind


def test_frames_are_those_of_the_stream(nodes, model, fifo):
    image, state = call(nodes, "FifoRun", model=model, prompt="a cat", num_frames=5, seed=2)
    made = frames(FIFO.stream(fifo, "a cat", seed=2, num_frames=5))
    assert (image.dtype, image.shape, image.is_inference()) == (torch.float32, (5, 16, 16, 3), False)
    assert torch.equal(image, as_image(made))
    told = comfy.bars[-1].told
    assert [(value, total) for value, total, _ in told] == [(k, 5) for k in range(1, 6)]
    assert all(np.array_equal(picture, frame) for (_, _, picture), frame in zip(told, made, strict=True))
    assert state.frame_index == 5


def test_going_on(nodes, model):
    whole, _ = call(nodes, "FifoRun", model=model, prompt="a cat", num_frames=7, seed=2)
    first, state = call(nodes, "FifoRun", model=model, prompt="a cat", num_frames=4, seed=2)
    (path,) = call(nodes, "FifoSaveState", state=state, filename_prefix="cat")
    more, after = call(nodes, "FifoContinue", model=model, num_frames=3, state=state)
    again, _ = call(nodes, "FifoContinue", model=model, num_frames=3, state_file=path)
    assert torch.equal(torch.cat([first, more]), whole)
    assert torch.equal(more, again)
    assert after.frame_index == 7
    other, _ = call(nodes, "FifoContinue", model=model, num_frames=3, state=after, prompt="a dog")
    assert other.shape[0] == 3
    with pytest.raises(ValueError, match="one of them"):
        call(nodes, "FifoContinue", model=model, num_frames=3)
    changed = nodes.NODE_CLASS_MAPPINGS["FifoContinue"].IS_CHANGED
    before = changed(state_file=path, model=model, num_frames=3)
    after.save(path)
    assert changed(state_file=path) != before
    assert changed() == changed(state_file="gone") == ""


def test_a_schedule_and_a_start(nodes, model, fifo):
    schedule = "0: a cat\n3: a dog\n"
    image, _ = call(nodes, "FifoRun", model=model, prompt="x", num_frames=5, seed=2, schedule=schedule)
    assert torch.equal(image, as_image(frames(FIFO.stream(fifo, {0: "a cat", 3: "a dog"}, seed=2, num_frames=5))))
    given = as_image(pictures(4))
    image, _ = call(
        nodes, "FifoRun", model=model, prompt="a cat", num_frames=5, seed=2, start=given, include_start=True
    )
    assert torch.equal(image[:4], given)
    for wrong, message in ((given[0], "give an IMAGE"), (given[..., :1], "give an IMAGE"), (None, "include_start")):
        with pytest.raises(ValueError, match=message):
            call(nodes, "FifoRun", model=model, prompt="a cat", num_frames=5, seed=2, start=wrong, include_start=True)


def test_a_file(nodes, model, fifo, tmp_path):
    wanted = {"model": model, "prompt": "a cat", "num_frames": 4, "seed": 2, "format": "mp4"}
    path, state = call(nodes, "FifoStreamToFile", filename_prefix="cats/cat", **wanted)
    assert path == str(tmp_path / "cats" / "cat_00001.mp4")
    assert (count_frames(path), read_fps(path), state.frame_index) == (4, 8, 4)
    assert "a cat" in read_metadata(path)["prompt"]
    assert read_frames(path).shape == (4, 16, 16, 3)
    node = nodes.NODE_CLASS_MAPPINGS["FifoStreamToFile"]
    assert node.OUTPUT_NODE
    with torch.inference_mode():
        shown = node().write(filename_prefix="cats/cat", **wanted)["ui"]["images"]
    assert shown == [{"filename": "cat_00002.mp4", "subfolder": "cats", "type": "output"}]
    for prefix in ("../cat", "", "/cat"):
        with pytest.raises(ValueError, match="give a name in the output folder"):
            call(nodes, "FifoStreamToFile", filename_prefix=prefix, **wanted)


def test_the_cancel_button(nodes, model, tmp_path):
    comfy.stop_after = 3
    wanted = {"model": model, "prompt": "a cat", "num_frames": 9, "seed": 2}
    with pytest.raises(Interrupted):
        call(nodes, "FifoRun", **wanted)
    with pytest.raises(Interrupted):
        call(nodes, "FifoStreamToFile", filename_prefix="cat", format="mp4", **wanted)
    assert count_frames(tmp_path / "cat_00001.mp4") == 3


def test_presets_are_passed_on(nodes, fifo, monkeypatch):
    asked = {}
    monkeypatch.setattr(FIFO, "from_pretrained", lambda name, **more: asked.update(more) or fifo)
    (loaded,) = call(nodes, "FifoLoad", model="tiny", dtype="auto", device="auto", preset="fast")
    assert (asked, loaded.preset) == ({}, "fast")
    _, state = call(nodes, "FifoRun", model=loaded, prompt="a cat", num_frames=1, seed=0)
    assert state.settings["preset"] == "fast"
