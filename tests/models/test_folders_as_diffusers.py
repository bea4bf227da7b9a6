"""Our loader goes through a folder part by part, so that it can name what is wrong. What it makes of a folder that is
right is what diffusers' own loader makes of it."""

from functools import partial
from pathlib import Path

import diffusers
import pytest
import torch
from torch import nn

from fifo_diffusion.models import registry
from fifo_diffusion.models.loading.source import find_model
from fifo_diffusion.testing import (
    tiny,
    tiny_allegro,
    tiny_animatediff,
    tiny_anyflow,
    tiny_cogvideox,
    tiny_easyanimate,
    tiny_hunyuan_video,
    tiny_hunyuan_video15,
    tiny_kandinsky,
    tiny_latte,
    tiny_ltx,
    tiny_ltx2,
    tiny_mochi,
    tiny_motif,
    tiny_opensora,
    tiny_sana_video,
    tiny_videocrafter,
    tiny_wan,
)

PIPELINES = {
    "UNet3D": partial(tiny.pipeline, **tiny.LIGHT),
    "VideoCrafter": tiny_videocrafter.light,
    "AnimateDiff": tiny_animatediff.pipeline,
    "AnimateDiff XL": partial(tiny_animatediff.pipeline, xl=True),
    "Wan": tiny_wan.pipeline,
    "Wan 2.2": tiny_wan.two_transformers,
    "Wan from a picture": tiny_wan.picture,
    "AnyFlow": tiny_anyflow.pipeline,
    "Wan told a picture": tiny_wan.told_picture,
    "SkyReels told a picture": tiny_wan.skyreels_told_picture,
    "SkyReels": tiny_wan.skyreels_plain,
    "SkyReels forcing": tiny_wan.skyreels,
    "Latte": tiny_latte.pipeline,
    "class-conditional Latte": tiny_latte.class_pipeline,
    "CogVideoX": tiny_cogvideox.pipeline,
    "Allegro": tiny_allegro.pipeline,
    "EasyAnimate": tiny_easyanimate.pipeline,
    "HunyuanVideo": tiny_hunyuan_video.pipeline,
    "HunyuanVideo 1.5": tiny_hunyuan_video15.pipeline,
    "Motif-Video": tiny_motif.pipeline,
    "Kandinsky 5": tiny_kandinsky.pipeline,
    "LTX-Video": tiny_ltx.pipeline,
    "Mochi": tiny_mochi.pipeline,
    "LTX-2": tiny_ltx2.pipeline,
    "SANA-Video": tiny_sana_video.pipeline,
    "Open-Sora Plan": tiny_opensora.pipeline,
}
SHAPES = {
    "plain": ({}, {}),
    "sharded": ({"max_shard_size": "30KB"}, {}),
    "variant": ({"variant": "fp16"}, {"variant": "fp16"}),
    "sharded variant": ({"variant": "fp16", "max_shard_size": "30KB"}, {"variant": "fp16"}),
    "pickled": ({"safe_serialization": False}, {}),
    "half": ({}, {"dtype": torch.float16}),
}
"""How a folder is saved, and how it is loaded."""
BY_ALL_WAYS = ("UNet3D", "VideoCrafter", "AnimateDiff", "Wan 2.2", "Latte", "class-conditional Latte", "Open-Sora Plan")
"""Families that differ in what their folders hold; of the others one way will do, but in the slow set."""


def stock(folder: Path, kind: type, **options: object) -> diffusers.DiffusionPipeline:
    """As diffusers loads it; our own pipeline classes are diffusers pipelines too."""
    return kind.from_pretrained(folder, **options)


def assert_the_same(ours: object, theirs: object) -> None:
    assert type(ours) is type(theirs)
    assert {k: v for k, v in ours.config.items() if k != "_name_or_path"} == {
        k: v for k, v in theirs.config.items() if k != "_name_or_path"
    }
    assert ours.components.keys() == theirs.components.keys()
    for name, part in theirs.components.items():
        mine = ours.components[name]
        assert type(mine) is type(part), name
        if isinstance(part, nn.Module):
            assert_same_module(name, mine, part)
        elif name.startswith("tokenizer") and part is not None:
            assert mine.get_vocab() == part.get_vocab()
            assert mine.special_tokens_map == part.special_tokens_map
            assert mine.model_max_length <= part.model_max_length
            assert mine("a red ball")["input_ids"] == part("a red ball")["input_ids"]
        elif part is not None:
            assert settings(mine) == settings(part), name


def assert_same_module(name: str, mine: nn.Module, part: nn.Module) -> None:
    assert mine.training == part.training
    assert settings(mine) == settings(part), name
    for kind in ("named_parameters", "named_buffers"):
        found, expected = dict(getattr(mine, kind)()), dict(getattr(part, kind)())
        assert found.keys() == expected.keys(), name
        for key, value in expected.items():
            assert found[key].dtype == value.dtype, f"{name}: {key}"
            assert torch.equal(found[key], value), f"{name}: {key}"


def settings(part: object) -> dict:
    config = getattr(part, "config", part)  # what makes pictures for CLIP has none beside itself
    values = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    return {key: value for key, value in values.items() if key != "_name_or_path"}


CASES = [
    pytest.param(family, shape, marks=() if family in BY_ALL_WAYS or shape == "plain" else pytest.mark.slow)
    for shape in SHAPES
    for family in PIPELINES
]


@pytest.mark.parametrize(("family", "shape"), CASES)
def test_a_folder_is_loaded_as_diffusers_loads_it(family, shape, tmp_path):
    saved, loaded = SHAPES[shape]
    pipe = PIPELINES[family]()
    if "variant" in saved:
        pipe.to(torch.float16)
    pipe.save_pretrained(tmp_path, **saved)
    files = [path.name for path in tmp_path.rglob("*model*") if path.suffix in (".safetensors", ".bin")]
    assert ("sharded" in shape) == any("-of-" in name for name in files)
    assert ("variant" in shape) == any("fp16" in name for name in files)
    source = find_model(tmp_path)
    theirs = dict(loaded)
    if "dtype" in theirs and source.family.wide:
        theirs["dtype"] = {"default": theirs["dtype"], **dict.fromkeys(source.family.wide, torch.float32)}
    assert_the_same(source.load(**loaded), stock(tmp_path, type(pipe), **theirs))


def test_every_family_is_compared():
    made = {type(make()).__name__ for make in PIPELINES.values()} | {"MiniMaxH3ModularPipeline"}  # test_modular_folders
    assert [family.name for family in registry.FAMILIES if not made & {*family.pipelines}] == []


def test_a_difference_is_seen(tmp_path):
    tiny.pipeline(**tiny.LIGHT).save_pretrained(tmp_path)
    for change in (
        lambda pipe: pipe.unet.conv_in.weight.data[0, 0, 0].add_(1),
        lambda pipe: pipe.vae.half(),
        lambda pipe: pipe.scheduler.register_to_config(steps_offset=1),
        lambda pipe: pipe.text_encoder.train(),
        lambda pipe: pipe.unet.register_to_config(sample_size=3),
    ):
        ours, theirs = find_model(tmp_path).load(), stock(tmp_path, tiny.TextToVideoPipeline)
        assert_the_same(ours, theirs)
        change(ours)
        with pytest.raises(AssertionError):
            assert_the_same(ours, theirs)
