"""Saving a running video and going on with it."""

import copy
from itertools import islice

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fifo_diffusion import FIFO, QueueState
from fifo_diffusion.testing import frames, tiny, tiny_wan
from streams import SMALL, pictures


@pytest.mark.parametrize("at", [0, 1, 3, 4, 5, 9])
@pytest.mark.parametrize(
    "setting",
    [
        {},
        {"start": "noise", "eta": 0.5},
        {"frames_per_level": 2},
        {"lookahead": False},
        {"lookahead": "banded"},
        {"lookahead": "banded", "start": "noise", "frames_per_level": 2, "eta": 0.5},
    ],
    ids=str,
)
def test_interrupted_and_resumed_is_uninterrupted(fifo, tmp_path, at, setting):
    """Invariant 5, bit for bit, through a file."""
    whole = frames(fifo.stream("a cat", seed=3, num_frames=12, **SMALL | setting))
    stream = fifo.stream("a cat", seed=3, **SMALL | setting)
    first = list(islice(stream, at))
    stream.state().save(tmp_path / "run.safetensors")
    stream.close()
    resumed = fifo.stream(start=QueueState.load(tmp_path / "run.safetensors"), num_frames=12)
    assert resumed.frame_index == at
    assert np.array_equal(np.stack(first + list(resumed)), whole)


def test_a_state_keeps_prompts_batches_and_given_frames(fifo, tmp_path):
    def make():
        return fifo.stream(
            ["a cat", "a dog"], seed=3, start=pictures(5), include_start=True, negative_prompt="sand", **SMALL
        )

    whole = make()
    expected = frames(whole, 6)
    whole.prompt = "a red ball"
    expected = np.concatenate([expected, frames(whole, 12)])
    stream = make()
    first = list(islice(stream, 6))
    stream.prompt = "a red ball"
    first += list(islice(stream, 2))
    stream.state().save(tmp_path / "run.safetensors")
    resumed = fifo.stream(start=str(tmp_path / "run.safetensors"), num_frames=18)
    assert np.array_equal(np.stack(first + list(resumed)), expected)


def test_taking_a_state_changes_nothing(fifo):
    stream = fifo.stream("a cat", seed=3, num_frames=9, **SMALL)
    watched = []
    for frame in stream:
        stream.state()
        watched.append(frame)
    assert np.array_equal(np.stack(watched), frames(fifo.stream("a cat", seed=3, num_frames=9, **SMALL)))


def test_a_state_does_not_fit_another_model_or_setting(fifo, tmp_path):
    stream = fifo.stream("a cat", seed=3, **SMALL)
    next(stream)
    state = stream.state()
    with pytest.raises(ValueError, match="another model"):
        FIFO(tiny.pipeline(seed=5, **tiny.LIGHT)).stream(start=state)
    for name, value in {
        "num_partitions": 3,
        "guidance_scale": 5.0,
        "eta": 0.5,
        "height": 32,
        "lookahead": False,
    }.items():
        with pytest.raises(ValueError, match=f"saved with {name}="):
            fifo.stream(start=state, **{name: value})
    with pytest.raises(ValueError, match="seed"):
        fifo.stream(start=state, seed=4)
    next(stream)
    with pytest.raises(ValueError, match="counts the whole video"):
        fifo.stream(start=stream.state(), num_frames=1)


def test_a_state_knows_what_stood_around_the_weights(monkeypatch):
    def pipe(ratio=0.6):
        found = tiny_wan.two_transformers()
        found.register_to_config(boundary_ratio=ratio)
        return found

    call = tiny_wan.SIZE | {"num_partitions": 1, "lookahead": False, "seed": 3, "window": 3}
    stream = FIFO(pipe()).stream("a cat", **call)
    next(stream)
    state = stream.state()
    assert np.array_equal(frames(FIFO(pipe()).stream(start=state), 3), frames(stream, 3))
    with pytest.raises(ValueError, match=r"saved with pipe.config.boundary_ratio=0.6, not 0.9: put back"):
        FIFO(pipe(0.9)).stream(start=state)
    other = pipe()
    monkeypatch.setattr(tiny, "TEXT", " ".join(reversed(tiny.TEXT.split())))
    other.tokenizer = tiny.tokenizer()
    with pytest.raises(ValueError, match=r"saved with another pipe.tokenizer: put back"):
        FIFO(other).stream(start=state)
    del state.counters["around"]  # as in files of earlier versions
    FIFO(other).stream(start=state)


def test_a_damaged_state_is_named(tmp_path, fifo):
    path = tmp_path / "run.safetensors"
    with pytest.raises(FileNotFoundError, match="no state file"):
        fifo.stream(start=str(path))
    path.write_bytes(b"nonsense" * 10)
    with pytest.raises(ValueError, match="damaged or no queue state"):
        fifo.stream(start=str(path))
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="not a queue state of this version"):
        fifo.stream(start=str(path))


def test_an_interrupted_save_leaves_the_old_state(fifo, tmp_path, monkeypatch):
    stream = fifo.stream("a cat", seed=3, **SMALL)
    path = tmp_path / "run.safetensors"
    next(stream)
    stream.state().save(path)
    before = path.read_bytes()

    def full(*_a, **_k):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fifo_diffusion.files.os.replace", full)
    with pytest.raises(OSError, match="No space"):
        stream.state().save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_state_file_may_have_any_name(fifo, tmp_path):
    stream = fifo.stream("a cat", seed=0, **SMALL)
    expected = frames(stream, 6)
    again = fifo.stream("a cat", seed=0, **SMALL)
    next(again)
    again.state().save(tmp_path / "day.state")
    assert np.array_equal(frames(fifo.stream(start=tmp_path / "day.state", num_frames=6)), expected[1:])


WRONG = {"another kind": {"x": [1]}, "far below": -(10**30), "far above": 10**30, "None": None, "missing": ...}
MAY_BE_NONE = {"negative_prompt", "compat", "shown"}
MAY_BE_MISSING = {"around", "lags", "opening", "unwanted", "continues"}


@pytest.fixture(scope="module")
def saved(fifo):
    with fifo.stream("a cat", seed=3, **SMALL) as stream:
        next(stream)
        return stream.state()


def _altered(saved: QueueState, part: str, name: str, value: object) -> QueueState:
    state = copy.deepcopy(saved)
    if value is ...:
        del getattr(state, part)[name]
    else:
        getattr(state, part)[name] = value
    return state


def test_no_value_of_a_file_is_believed(saved, tmp_path):
    """Each value missing, of another kind or far out of range: one line that names the file."""
    path = tmp_path / "run.state"
    tried = 0
    for part in ("settings", "counters"):
        for name in getattr(saved, part):
            for wrong, value in WRONG.items():
                if (wrong == "None" and name in MAY_BE_NONE) or (wrong == "missing" and name in MAY_BE_MISSING):
                    continue
                _altered(saved, part, name, value).save(path)
                with pytest.raises(ValueError, match="is damaged, or of another version") as told:
                    QueueState.load(path)
                assert str(path) in str(told.value), (part, name, wrong)
                assert len(str(told.value)) < 300 + len(str(path))
                tried += 1
    assert tried > 100
    saved.save(path)
    assert QueueState.load(path).counters == saved.counters


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("counters", "first_new", 10**6),  # would compute for ever
        ("counters", "unwanted", 10**6),
        ("settings", "num_partitions", 3),  # a queue of another length
        ("settings", "seeds", [1, 2]),
        ("settings", "prompts", [[0, [[["a cat", "a dog"], 1.0]]]]),
        ("settings", "prompts", []),
        ("settings", "prompts", [[0, [[["a cat"], float("nan")]]]]),
        ("settings", "guidance_scale", float("inf")),
        ("settings", "frames_per_level", 3),
        ("settings", "unheard_of", 1),
        ("tensors", "queue", torch.zeros(1, 4, 3, 8, 8)),
        ("tensors", "queue", torch.full((1, 4, 4, 8, 8), float("nan"))),
        ("tensors", "known", torch.zeros(1, dtype=torch.int32)),
        ("tensors", "queue", ...),
        ("tensors", "ready", torch.zeros(1, 3, 2, 16, 16)),
    ],
)
def test_values_that_do_not_go_together(saved, tmp_path, part, name, value):
    path = tmp_path / "run.state"
    _altered(saved, part, name, value).save(path)
    with pytest.raises(ValueError, match="is damaged, or of another version"):
        QueueState.load(path)


@pytest.mark.parametrize("name", ["queue", "known", "latents"])
@pytest.mark.parametrize("channels", [3, 8])
def test_latents_that_are_not_the_models(fifo, saved, name, channels):
    """Channels that are missing would be read from others, silently where nothing is computed from them yet."""
    state = copy.deepcopy(saved)
    shape = list(state.tensors.get(name, state.tensors["known"]).shape)
    state.tensors[name] = torch.zeros([shape[0], channels, *shape[2:]])
    with pytest.raises(ValueError, match=f"damaged, or of another model .its {name} is"):
        fifo.stream(start=state)


@pytest.mark.parametrize("meta", [None, "", "7", "[]", "{", "null", '{"settings": {}}', "[" * 100_000])
def test_files_without_their_values(saved, tmp_path, meta):
    path = tmp_path / "run.state"
    head = {"format": "fifo-diffusion queue state 1"} | ({} if meta is None else {"meta": meta})
    save_file(saved.tensors, path, metadata=head)
    with pytest.raises(ValueError, match="damaged"):
        QueueState.load(path)
