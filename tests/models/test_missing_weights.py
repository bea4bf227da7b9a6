"""Model folders whose weights are not all there: the part and the tensor are named."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import CLIPTextModel, T5Config, T5EncoderModel, UMT5EncoderModel

from fifo_diffusion import FIFO
from fifo_diffusion.models.loading.parts import FolderError, load_part
from fifo_diffusion.testing import tiny, tiny_wan
from model_files import refused, rewrite, weights


def t5(kind=T5EncoderModel):
    if kind is UMT5EncoderModel:
        return tiny_wan.components()["text_encoder"]
    config = T5Config(d_model=24, d_kv=6, d_ff=32, num_layers=1, num_heads=2, vocab_size=64)
    return tiny.randomize(T5EncoderModel(config), 2)


def encoder(kind):
    return tiny.components()["text_encoder"] if kind is CLIPTextModel else t5(kind)


@pytest.mark.parametrize("kind", [CLIPTextModel, T5EncoderModel, UMT5EncoderModel])
def test_text_encoders_with_all_their_weights_in_any_published_form_load(kind, tmp_path):
    """Tied tables under either name or both, positions that older files have, prefixes of other versions."""
    module = encoder(kind)
    forms = {
        "plain": lambda tensors: tensors,
        "positions": lambda tensors: tensors | {"text_model.embeddings.position_ids": torch.arange(8)[None]},
    }
    if kind is CLIPTextModel:
        forms["prefix"] = lambda tensors: {
            f"text_model.{name.removeprefix('text_model.')}": value for name, value in tensors.items()
        }
    else:
        other = "encoder.embed_tokens.weight"
        forms["other"] = lambda tensors: {name.replace("shared.weight", other): v for name, v in tensors.items()}
        forms["both"] = lambda tensors: tensors | {other: tensors["shared.weight"].clone()}
    for name, form in forms.items():
        module.save_pretrained(tmp_path / name)
        rewrite(next((tmp_path / name).glob("*.safetensors")), form)
        loaded = load_part(kind, tmp_path / name)
        ours, theirs = module.state_dict(), loaded.state_dict()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), name


@pytest.mark.parametrize("kind", [CLIPTextModel, T5EncoderModel, UMT5EncoderModel])
@pytest.mark.parametrize("damage", ["renamed", "one", "table", "most", "shape"])
def test_text_encoders_that_lack_weights_are_refused(kind, damage, tmp_path):
    encoder(kind).save_pretrained(tmp_path)
    path = next(tmp_path.glob("*.safetensors"))
    names = sorted(load_file(path))
    table = next(name for name in names if "shared" in name or "token_embedding" in name)
    norm = next(name for name in names if "norm" in name)
    change_of = {
        "renamed": lambda tensors: {f"foo.{name}": value for name, value in tensors.items()},
        "one": lambda tensors: {name: value for name, value in tensors.items() if name != norm},
        "table": lambda tensors: {name: value for name, value in tensors.items() if name != table},
        "most": lambda tensors: {names[0]: tensors[names[0]]},
        "shape": lambda tensors: tensors | {norm: torch.zeros(7)},
    }
    rewrite(path, change_of[damage])
    with pytest.raises(FolderError, match=r"(missing|misshapen) tensor\(s\): ") as caught:
        load_part(kind, tmp_path)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    if damage in ("one", "shape"):
        assert norm in str(caught.value)


@pytest.mark.parametrize("part", ["text_encoder", "unet", "vae"])
@pytest.mark.parametrize("damage", ["missing", "renamed", "misshapen"])
def test_a_part_that_lacks_weights_is_named(folder, part, damage):
    path = weights(folder, part)
    name = sorted(load_file(path))[3]
    if damage == "missing":
        rewrite(path, lambda tensors: {key: value for key, value in tensors.items() if key != name})
    elif damage == "renamed":
        rewrite(path, lambda tensors: {f"foo.{key}": value for key, value in tensors.items()})
    else:
        rewrite(path, lambda tensors: tensors | {name: torch.zeros(7, 7)})
    text = refused(folder, f"{folder / part}: .* {'misshapen' if damage == 'misshapen' else 'missing'} tensor")
    assert damage == "renamed" or name in text


def test_a_part_of_wan_that_lacks_weights_is_named(tmp_path):
    tiny_wan.pipeline().save_pretrained(tmp_path)
    for part in ("text_encoder", "transformer", "vae"):
        path = weights(tmp_path, part)
        saved, names = path.read_bytes(), sorted(load_file(path))
        rewrite(path, lambda tensors, last=names[-1]: {k: v for k, v in tensors.items() if k != last})
        refused(tmp_path, f"{tmp_path / part}: .*missing tensor.*{names[-1]}")
        path.write_bytes(saved)
    FIFO.from_pretrained(tmp_path, device="cpu").close()
