"""Random damage to model folders and checkpoint files: each loads, or is refused in one line that names it."""

import json
import random
import shutil
from functools import partial

import pytest
import torch

from fifo_diffusion.cli.main import main
from fifo_diffusion.models import registry
from fifo_diffusion.models.loading.source import find_model
from fifo_diffusion.models.loading.weights import read_weights
from fifo_diffusion.testing import published, tiny, tiny_latte, tiny_wan
from fifo_diffusion.testing.tiny_opensora import published_folder

ODD = [
    None,
    True,
    -1,
    0,
    1,
    3,
    10**6,
    10**12,
    1e308,
    float("nan"),
    float("inf"),
    "x",
    "",
    [],
    {},
    [[]],
    ["x"],
    [0],
    [1, -1],
]


def damage(rng, folder):
    """Change one file of a folder; what was done."""
    file = rng.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
    kind = rng.choice(["cut", "flip", "delete", "fill", "value", "value", "value"])
    data = file.read_bytes()
    if kind == "delete":
        file.unlink()
    elif kind == "cut":
        file.write_bytes(data[: rng.randrange(len(data))])
    elif kind == "fill":
        file.write_bytes(rng.choice([b"", b"\0" * 100, b"version https://git-lfs.github.com/spec/v1\n", b"[" * 99999]))
    elif kind == "value" and file.suffix == ".json" and file.name != "tokenizer.json":
        values = json.loads(data)
        key = rng.choice(sorted(values))
        kind = f"{key} = {(odd := rng.choice(ODD))!r}"
        file.write_text(json.dumps(values | {key: odd}))
    else:
        changed = bytearray(data)
        for _ in range(rng.choice([1, 10, 100])):
            changed[rng.randrange(min(len(changed), 2000))] = rng.randrange(256)
        file.write_bytes(changed)
    return f"{file.relative_to(folder)}: {kind}"


def outcome(make, what, name):
    """Nothing where a model is made; else what is said, in one line, that has the name in it."""
    text = None
    try:
        make()
    except (ValueError, TypeError) as error:
        text = str(error)
    except BaseException as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    if text is not None:
        assert "\n" not in text.strip(), what
        assert "hf auth" not in text, what
        assert str(name) in text or "is not a supported pipeline" in text, f"{what}: {text}"
    return text


def load(name, **arguments):
    registry.wrap(find_model(name).load(**arguments)).close()


def mutated(whole, tmp_path, seeds, version=""):
    found = []
    for seed in seeds:
        copy = tmp_path / str(seed)
        shutil.copytree(whole, copy)
        done = damage(random.Random(seed), copy)
        found.append(outcome(partial(load, copy / version), f"{seed}, {done}", copy))
        shutil.rmtree(copy)
    return found


MAKERS = {"UNet3D": lambda: tiny.pipeline(**tiny.LIGHT), "Wan": tiny_wan.pipeline}


@pytest.fixture(scope="module", params=MAKERS)
def folder(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "model"
    MAKERS[request.param]().save_pretrained(path)
    return path


def test_some_damage_to_folders(folder, tmp_path):
    assert any(mutated(folder, tmp_path, [*range(6), 186, 227, 301, 367]))


@pytest.mark.slow
def test_much_damage_to_folders(folder, tmp_path):
    found = mutated(folder, tmp_path, range(100, 400))
    assert sum(text is not None for text in found) > 100


@pytest.fixture(scope="module")
def checkpoint():
    return {"state_dict": published.small_state_dict(torch.float16), "epoch": 3}


def mutated_files(data, path, seeds):
    found = []
    for seed in seeds:
        rng = random.Random(seed)
        changed = bytearray(data[: rng.randrange(len(data))] if rng.random() < 0.2 else data)
        where = [len(changed), 2000, 200][rng.randrange(3)]
        for _ in range(rng.choice([1, 3, 30])):
            place = rng.randrange(max(1, min(where, len(changed))))
            changed[-place if rng.random() < 0.5 else place - 1] = rng.randrange(256)
        path.write_bytes(changed)
        found.append(outcome(partial(read_weights, path), seed, path))
    return found


def saved(tmp_path, suffix):
    tensors = {f"blocks.{k}.weight": torch.full((3, k), float(k)) for k in range(1, 20)}
    path = tmp_path / f"whole{suffix}"
    if suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(tensors, path)
    else:
        torch.save({"state_dict": tensors}, path, _use_new_zipfile_serialization=suffix == ".ckpt")
    return path.read_bytes()


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".safetensors"])  # the second in PyTorch's older format
def test_some_damage_to_checkpoints(tmp_path, suffix):
    found = mutated_files(saved(tmp_path, suffix), tmp_path / f"model{suffix}", range(60))
    assert any(found)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".safetensors"])
def test_much_damage_to_checkpoints(tmp_path, suffix):
    found = mutated_files(saved(tmp_path, suffix), tmp_path / f"model{suffix}", range(1000, 3000))
    assert sum(text is not None for text in found) > 500


FOREIGN = {
    "text": b"root:x:0:0:root:/root:/bin/bash\n" * 30,
    "zip": b"PK\3\4" + b"\0" * 400,
    "pickle": b"\x80\2}q\0.",
    "mp4": b"\0\0\0 ftypisom" + b"\0" * 200,
    "one": b"(",
    "noise": bytes(range(256)) * 20,
}


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".safetensors", ""])
@pytest.mark.parametrize("kind", FOREIGN)
def test_files_that_are_no_checkpoints(tmp_path, kind, suffix, capsys):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(FOREIGN[kind])
    assert main(["generate", "a cat", "--model", str(path), "-o", str(tmp_path / "x.mp4"), "-n", "3"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(path) in line
    assert "unexpected" not in line
    assert main(["convert", str(path), str(tmp_path / "out")]) == 2
    assert str(path) in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def changed(tensors, rng):
    """One tensor less, more, of another shape or of another name; what was done."""
    name = rng.choice(sorted(tensors))
    kind = rng.choice(["shape", "less", "more", "rename", "number", "scalar"])
    value = tensors[name]
    if kind in ("less", "rename"):
        del tensors[name]
    if kind in ("more", "rename"):
        tensors[f"{name}.more"] = value.clone()
    elif kind == "number":
        tensors["model.diffusion_model.input_blocks.9999999.0.weight"] = value.clone()
    elif kind == "shape":
        tensors[name] = torch.zeros([rng.randrange(4) for _ in range(rng.randrange(1, 6))])
    elif kind == "scalar":
        tensors[name] = torch.zeros(())
    return f"{name}: {kind}"


@pytest.mark.parametrize("seeds", [range(5), pytest.param(range(100, 200), marks=pytest.mark.slow)])
def test_checkpoints_with_other_tensors(tmp_path, checkpoint, seeds):
    found = []
    for seed in seeds:
        tensors, path = dict(checkpoint["state_dict"]), tmp_path / "model.ckpt"
        done = changed(tensors, random.Random(seed))
        torch.save({"state_dict": tensors}, path)
        found.append(outcome(partial(load, path, tokenizer=published.tokenizer()), f"{seed}, {done}", path))
    assert sum(text is not None for text in found) > len(found) // 2


@pytest.mark.parametrize("seeds", [range(10), pytest.param(range(100, 200), marks=pytest.mark.slow)])
def test_class_conditional_latte_with_other_tensors(tmp_path, seeds):
    pipe, path, found = tiny_latte.class_pipeline(), tmp_path / "ucf101.pt", []
    pipe.vae.save_pretrained(tmp_path / "vae")
    for seed in seeds:
        tensors = dict(pipe.transformer.state_dict())
        done = changed(tensors, random.Random(seed))
        torch.save({"ema": tensors}, path)
        found.append(outcome(partial(load, path), f"{seed}, {done}", path))
    assert sum(text is not None for text in found) > len(found) // 2


@pytest.mark.parametrize("seeds", [range(5), pytest.param(range(100, 180), marks=pytest.mark.slow)])
def test_damage_to_folders_of_open_sora_plan(tmp_path, seeds):
    version = published_folder(tmp_path / "plan")
    assert any(mutated(version.parent, tmp_path, seeds, version.name))
