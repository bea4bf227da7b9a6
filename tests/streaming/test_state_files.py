"""States as files: all is kept, files of format 1 are read as those of today, no value is believed."""

import copy
import json
from dataclasses import MISSING, fields, is_dataclass, replace

import pytest
import torch
from safetensors.torch import save_file

import fifo_diffusion
from fifo_diffusion import RunState
from fifo_diffusion.settings import FifoSettings, specs
from fifo_diffusion.settings.spec import IN_SETTINGS, REQUIRED
from fifo_diffusion.streaming.settings import RunSettings
from fifo_diffusion.streaming.state import OutletState, Position, ShownFrames
from fifo_diffusion.streaming.state_checks import HEADER, OUTLET, POSITION, SETTINGS
from fifo_diffusion.streaming.state_migration import FORMAT, format_name
from streams import SMALL

SHOWN = {
    "frames": ShownFrames(torch.randint(0, 256, (6, 9, 8, 3), dtype=torch.uint8), 6),
    "a file": ShownFrames("/films/given.mp4", 70, 12.5, "pad"),
}


@pytest.fixture(scope="module")
def saved(fifo):
    with fifo.stream("a cat", seed=3, **SMALL) as stream:
        next(stream)
        return stream.state()


@pytest.fixture(params=["frames", "a file"])
def full(saved, request):
    """A state that makes use of every field, but of anchors, which go with settings of their own."""
    videos, channels, _, *size = saved.queue.shape
    latents, ready = torch.randn(videos, channels, 2, *size), torch.rand(videos, 3, 3, 16, 16)
    return replace(
        saved,
        outlet=OutletState(2, latents, ready, {"past": torch.randn(1, 2, 3)}),
        embeds={"ab.prompt_embeds": torch.randn(7, 4), "ab.negative.cd.prompt_embeds": torch.randn(7, 4)},
        position=replace(saved.position, from_noise=True, opening=7, continues=True, custom_noise=True),
        shown=SHOWN[request.param],
        picture=torch.full((16, 16, 3), 7, dtype=torch.uint8),
        around={"pipe.config.boundary_ratio": 0.5, "pipe.tokenizer": "03e6"},
        notes={"mine": [1, {"a": None}]},
    )


def assert_same(found, expected):
    """All values of two states, down to the bits of their tensors."""
    assert type(found) is type(expected)
    if is_dataclass(expected):
        for each in fields(expected):
            assert_same(getattr(found, each.name), getattr(expected, each.name))
    elif isinstance(expected, torch.Tensor):
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)
    elif isinstance(expected, dict):
        assert set(found) == set(expected)
        for name, value in expected.items():
            assert_same(found[name], value)
    else:
        assert found == expected


def write(path, tensors, header, number=FORMAT):
    save_file(tensors, path, metadata={"format": format_name(number), "meta": json.dumps(header)})


def in_format_1(state):
    """The header that commit d078fb0 wrote of such a state, and all before it but for values that came in time."""
    header = state.header
    shown = header["shown"] or {"path": None, "count": 0}
    counters = header["position"] | header["outlet"] | {"around": header["around"]}
    counters |= {"shown": shown["path"], "shown_count": shown["count"]}
    if shown["path"] is not None:
        counters |= {"shown_fps": shown["fps"], "shown_fit": shown["fit"]}
    settings = header["settings"] | {"prompts": header["prompts"]}
    return {"settings": settings, "counters": counters, "fingerprint": state.fingerprint, "notes": state.notes}


# ---------------------------------------------------------------------- what is kept


def test_every_field_is_in_the_file(full, tmp_path):
    for part in (full, full.outlet):
        for each in fields(part):
            default = each.default if each.default_factory is MISSING else each.default_factory()
            used = default is MISSING or repr(getattr(part, each.name)) != repr(default)
            assert used or each.name == "anchors", each.name
    full.save(tmp_path / "run.state")
    assert RunState.is_state(tmp_path / "run.state")
    assert_same(RunState.load(tmp_path / "run.state"), full)


def test_every_value_has_its_check(full):
    assert set(POSITION) == {each.name for each in fields(Position)}
    assert set(OUTLET) == set(full.header["outlet"])
    assert set(HEADER) == set(full.header)
    assert set(SETTINGS) == set(full.settings) == {each.name for each in fields(RunSettings)}


def test_a_state_is_a_copy_of_its_own(fifo):
    with fifo.stream("a cat", seed=3, **SMALL) as stream:
        next(stream)
        expected = copy.deepcopy(stream.state())
        for tensor in stream.state().tensors.values():
            tensor.zero_()
        assert_same(stream.state(), expected)


def test_the_earlier_name_is_the_same_class():
    assert fifo_diffusion.QueueState is RunState


# ---------------------------------------------------------------------- earlier and later formats


def test_files_of_format_1_are_as_those_of_today(full, saved, tmp_path):
    path = tmp_path / "run.state"
    for state in (full, saved, replace(full, shown=None)):
        write(path, state.tensors, in_format_1(state), 1)
        assert RunState.is_state(path)
        assert_same(RunState.load(path), state)


def test_what_files_of_format_1_came_to_hold_in_time(full, tmp_path):
    """Without it they mean what they meant."""
    header = in_format_1(full)
    for name in ("opening", "unwanted", "continues", "around", "shown_fps", "shown_fit"):
        header["counters"].pop(name, None)
    header["counters"]["lags"] = False
    write(tmp_path / "run.state", full.tensors, header, 1)
    found = RunState.load(tmp_path / "run.state")
    assert found.position == replace(full.position, opening=full.position.first_new, continues=False)
    assert (found.outlet.unwanted, found.around) == (0, {})
    assert (found.shown.count, found.shown.fps, found.shown.fit) == (full.shown.count, None, "crop")


def test_settings_that_came_after_a_file(saved, tmp_path):
    """`older` counts, in the stream's settings and in the notes of the command line; other notes stay as they are."""
    notes = {"command": "fifo-diffusion generate x", "start_fit": "pad"}
    for number, header in ((1, in_format_1(saved)), (FORMAT, saved.header)):
        write(tmp_path / "run.state", saved.tensors, header | {"notes": notes}, number)
        found = RunState.load(tmp_path / "run.state").notes
        later = {"scheduler": None, "flow_shift": None, "lora": None, "quantize": None, "vae_tiling": False}
        assert found == notes | {"start_every_frame": True} | later
        write(tmp_path / "run.state", saved.tensors, header | {"notes": {"mine": 1}}, number)
        assert RunState.load(tmp_path / "run.state").notes == {"mine": 1}


def test_a_file_of_a_newer_version_is_refused(fifo, saved, tmp_path):
    path = tmp_path / "run.state"
    write(path, saved.tensors, {"unheard": "of"}, FORMAT + 1)
    told = f"saved by a newer version of this program .its format is {FORMAT + 1}, .* up to {FORMAT}.: update it$"
    with pytest.raises(ValueError, match=told):
        RunState.load(path)
    with pytest.raises(ValueError, match=told):
        fifo.stream(start=path)


# ---------------------------------------------------------------------- what is refused


def test_what_is_no_state_is_named(tmp_path, fifo, saved):
    path = tmp_path / "run.safetensors"
    with pytest.raises(FileNotFoundError, match="no state file"):
        fifo.stream(start=str(path))
    path.write_bytes(b"nonsense" * 10)
    with pytest.raises(ValueError, match="damaged or no state of a run"):
        fifo.stream(start=str(path))
    for name in (None, "pt", format_name(0), format_name(-1), format_name() + "x", format_name("")):
        save_file(saved.tensors, path, metadata=None if name is None else {"format": name})
        assert not RunState.is_state(path)
        with pytest.raises(ValueError, match="is no state of a run"):
            fifo.stream(start=str(path))


WRONG = {"another kind": {"x": [1]}, "far below": -(10**30), "far above": 10**30, "None": None, "missing": ...}
MAY_BE_NONE = {"shown", "path", "fps", "shown_fps"} | {n for n, spec in specs(FifoSettings).items() if spec.nullable}
LATER = {name for name, spec in specs(FifoSettings).items() if spec.saved == IN_SETTINGS and spec.older is not REQUIRED}
LATER.add("texts")
MAY_BE_MISSING = {
    1: LATER | {"opening", "unwanted", "continues", "around", "shown_fps", "shown_fit"},
    FORMAT: LATER,
}


@pytest.mark.parametrize(
    ("number", "parts"), [(1, ("settings", "counters")), (FORMAT, ("settings", "position", "outlet", "shown"))]
)
def test_no_value_of_a_file_is_believed(saved, tmp_path, number, parts):
    """Each value missing, of another kind or far out of range: one line that names the file."""
    path, state = tmp_path / "run.state", replace(saved, shown=SHOWN["a file"])
    whole = in_format_1(state) if number == 1 else state.header
    places = [(part, name) for part in parts for name in whole[part]] + [(name, None) for name in whole]
    tried = 0
    for part, name in places:
        for wrong, value in WRONG.items():
            changed = name or part
            if (wrong == "None" and changed in MAY_BE_NONE) or (
                wrong == "missing" and changed in MAY_BE_MISSING[number]
            ):
                continue
            if (changed, wrong) == ("notes", "another kind"):
                continue
            header = json.loads(json.dumps(whole))
            within = header if name is None else header[part]
            within[changed] = value
            if value is ...:
                del within[changed]
            write(path, state.tensors, header, number)
            with pytest.raises(ValueError, match="is damaged, or of another version") as told:
                RunState.load(path)
            assert str(path) in str(told.value), (part, name, wrong)
            assert len(str(told.value)) < 300 + len(str(path))
            assert "\n" not in str(told.value)
            tried += 1
    assert tried > 100
    write(path, state.tensors, whole, number)
    assert_same(RunState.load(path), state)


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("position", "first_new", 10**6),  # would compute for ever
        ("position", "opening", -1),
        ("position", "frame_index", -1),
        ("outlet", "unwanted", -1),
        ("outlet", "unwanted", 10**6),
        ("settings", "num_partitions", 3),  # a queue of another length
        ("settings", "seeds", [1, 2]),
        ("settings", "guidance_scale", float("inf")),
        ("settings", "frames_per_level", 99),
        ("settings", "unheard_of", 1),
        ("position", "unheard_of", 1),
        ("outlet", "unheard_of", 1),
        (None, "unheard_of", 1),
        (None, "prompts", [[0, [[["a cat", "a dog"], 1.0]]]]),
        (None, "prompts", []),
        (None, "prompts", [[0, [[["a cat"], float("nan")]]]]),
        (None, "shown", {"path": None, "count": 5, "fps": None, "fit": "crop"}),
        (None, "shown", {"path": "a.mp4", "count": 0, "fps": None, "fit": "crop"}),
        ("tensors", "queue", torch.zeros(1, 4, 3, 8, 8)),
        ("tensors", "queue", torch.full((1, 4, 4, 8, 8), float("nan"))),
        ("tensors", "known", torch.zeros(1, dtype=torch.int32)),
        ("tensors", "queue", ...),
        ("tensors", "ready", torch.zeros(1, 3, 2, 16, 16)),
        ("tensors", "shown", torch.zeros(5, 16, 16, 3, dtype=torch.uint8)),
        ("tensors", "unheard_of", torch.zeros(1)),
    ],
)
def test_values_that_do_not_go_together(saved, tmp_path, part, name, value):
    path, header, tensors = tmp_path / "run.state", saved.header, saved.tensors
    within = tensors if part == "tensors" else header
    if part in header:
        within = header[part] = dict(header[part])
    within[name] = value
    if value is ...:
        del within[name]
    write(path, tensors, header)
    with pytest.raises(ValueError, match="is damaged, or of another version"):
        RunState.load(path)


def test_given_frames_must_be_all_there(full, tmp_path):
    path = tmp_path / "run.state"
    for count in (0, 5, 7):
        header = full.header | {"shown": full.header["shown"] | {"count": count}}
        write(path, full.tensors, header)
        if count and isinstance(full.shown.source, str):
            assert RunState.load(path).shown.count == count
            continue
        with pytest.raises(ValueError, match="shown frames"):
            RunState.load(path)


@pytest.mark.parametrize("name", ["queue", "known", "latents"])
@pytest.mark.parametrize("channels", [3, 8])
def test_latents_that_are_not_the_models(fifo, saved, name, channels):
    """Channels that are missing would be read from others, silently where nothing is computed from them yet."""
    tensors = saved.tensors
    shape = tensors.get(name, saved.known).shape
    tensors[name] = torch.zeros([shape[0], channels, *shape[2:]])
    with pytest.raises(ValueError, match=f"damaged, or of another model .its {name} is"):
        fifo.stream(start=RunState.of(tensors, saved.header))


@pytest.mark.parametrize("meta", [None, "", "7", "[]", "{", "null", "{}", '{"settings": {}}', "[" * 100_000])
@pytest.mark.parametrize("number", [1, FORMAT])
def test_files_without_their_values(saved, tmp_path, number, meta):
    path = tmp_path / "run.state"
    head = {"format": format_name(number)} | ({} if meta is None else {"meta": meta})
    save_file(saved.tensors, path, metadata=head)
    with pytest.raises(ValueError, match="damaged"):
        RunState.load(path)
