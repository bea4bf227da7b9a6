"""What Python users pass: misspelt names, numbers of NumPy, arguments that have no effect here."""

import inspect
import json

import diffusers
import numpy as np
import pytest
import torch

from fifo_diffusion import FIFO
from fifo_diffusion.models import family_list, registry
from fifo_diffusion.models.shared.arguments import EMBEDS, NEGATIVE_EMBEDS, OTHER_EMBEDS, REFUSED
from fifo_diffusion.models.shared.pipeline_calls import call_arguments
from fifo_diffusion.models.unet3d.pipeline import TextToVideoPipeline
from fifo_diffusion.testing import frames, tiny
from streams import SMALL

PASSED_ON = {
    "attention_kwargs",
    "complex_human_instruction",
    "clean_caption",
    "clip_skip",
    "cross_attention_kwargs",
    "crops_coords_top_left",
    "enable_temporal_attentions",
    "fps",
    "fps_condition",
    "frame_rate",
    "guidance_scale_2",
    "image",
    "image_embeds",
    "ip_adapter_image",
    "ip_adapter_image_embeds",
    "last_image",
    "mask_feature",
    "max_sequence_length",
    "motion_scale",
    "motion_speed",
    "negative_crops_coords_top_left",
    "negative_original_size",
    "negative_prompt_attention_mask",
    "negative_prompt_2",
    "negative_target_size",
    "original_size",
    "prompt_attention_mask",
    "prompt_template",
    "true_cfg_scale",
    "use_mean_velocity",
    "use_resolution_binning",
    "prompt_2",
    "target_size",
}
"""Arguments that reach the denoiser through what the pipeline gives it, or that a family looks at."""

PIPELINES = {name: family for family in family_list.FAMILIES for name in family.pipelines if "Modular" not in name}


@pytest.mark.parametrize("kind", PIPELINES)
def test_every_argument_of_every_pipeline_is_ours_or_passed_on_or_refused(kind):
    family, ours = PIPELINES[kind], tiny.pipeline_class(kind)
    made = getattr(diffusers, kind, ours)
    own = set(inspect.signature(FIFO.stream).parameters)
    by_family = {*REFUSED, *getattr(registry.find(family.model), "no_effect", ())}
    named = call_arguments(object.__new__(made))
    encoded = {*EMBEDS, *NEGATIVE_EMBEDS} | {name for name in named if OTHER_EMBEDS.fullmatch(name)}
    places = [own, by_family - own, PASSED_ON - by_family, encoded]
    for name in named:
        assert sum(name in place for place in places) == 1, name


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("num_partition", "num_partitions"),
        ("look_ahead", "lookahead"),
        ("negativ_prompt", "negative_prompt"),
        ("windows_per_bach", "windows_per_batch"),
        ("clipskip", "clip_skip"),
    ],
)
def test_a_misspelt_name_is_refused_with_the_right_one(fifo, typed, meant):
    with pytest.raises(TypeError, match=rf"^stream\(\) has no argument {typed}: did you mean {meant}\?$"):
        fifo.stream("a cat", **{typed: 1})
    with pytest.raises(TypeError, match=f"did you mean {meant}"):
        fifo("a cat", num_frames=2, **{typed: 1})


def test_a_call_that_swallows_everything_is_known_by_its_named_arguments():
    class Swallows(TextToVideoPipeline):
        def __call__(self, *args, extra=3, **kwargs):
            return super().__call__(*args, **kwargs)

    pipe = Swallows(**tiny.components(**tiny.LIGHT))
    assert {"extra", "prompt", "clip_skip"} <= call_arguments(pipe).keys()


@pytest.mark.parametrize(
    ("name", "value", "advice"),
    [
        ("callback_on_step_end", print, "use callback_on_frame"),
        ("callback_on_step_end_tensor_inputs", ["latents"], "use callback_on_frame"),
        ("callback", print, "use callback_on_frame"),
        ("num_videos_per_prompt", 2, "a list with one prompt for each video"),
        ("latents", torch.zeros(1), "start="),
    ],
)
def test_what_would_have_no_effect_is_refused_with_the_reason(fifo, name, value, advice):
    with pytest.raises(ValueError, match=f"^{name} cannot be passed on .*{advice}"):
        fifo.stream("a cat", **{name: value})


def test_arguments_as_by_default_are_left_out(fifo):
    stream = fifo.stream("a cat", seed=0, callback_on_step_end=None, return_dict=True, clip_skip=None, **SMALL)
    assert stream.settings.pipeline_arguments == {}
    assert fifo.stream("a cat", seed=0, clip_skip=np.int64(1), **SMALL).settings.pipeline_arguments == {"clip_skip": 1}


def test_numbers_of_numpy_and_tensors_are_numbers(fifo):
    expected = frames(fifo.stream({0: "a cat", 6: "a dog"}, seed=7, num_frames=8, **SMALL))
    whole = {name: np.int64(SMALL[name]) for name in ("window", "num_partitions", "height", "width")}
    given = whole | {"guidance_scale": np.float32(3), "eta": torch.tensor(0.0), "lookahead": np.True_}
    for make in (np.int64, np.uint8, torch.tensor, np.array):
        keys = {np.int32(0): "a cat", np.int64(6): "a dog"}
        stream = fifo.stream(keys, seed=make(7), num_frames=make(8), windows_per_batch=make(1), **given)
        assert np.array_equal(frames(stream), expected)
        json.dumps(stream.state().settings)


def test_seeds_of_a_batch(fifo):
    prompts = ["a cat", "a dog"]
    for seed in ([3, 5], (3, 5), np.array([3, 5]), torch.tensor([3, 5]), [np.int64(3), torch.tensor(5)]):
        assert fifo.stream(prompts, seed=seed, **SMALL).settings.seeds == (3, 5)
    assert fifo.stream(prompts, seed=2**64 - 1, **SMALL).settings.seeds == (2**64 - 1, 0)

    def drawn(*seeds):
        generators = [torch.Generator().manual_seed(s) for s in seeds]
        return fifo.stream(prompts, generator=generators, **SMALL).settings.seeds

    assert drawn(1, 2) == drawn(1, 2)
    assert drawn(1, 2) != drawn(2, 1)
    assert drawn(1, 2) == tuple(reversed(drawn(2, 1)))
    with pytest.raises(ValueError, match="3 generators for 2 videos"):
        drawn(1, 2, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"height": "16"}, "^height=.*: give a whole number"),
        ({"height": 16.5}, "^height=.*: give a whole number"),
        ({"width": True}, "^width=.*: give a whole number"),
        ({"num_partitions": np.True_}, "^num_partitions=.*: give a whole number"),
        ({"num_frames": np.float64(3)}, "^num_frames=.*: give a whole number"),
        ({"seed": [True]}, "^seed=.*: give a whole number"),
        ({"seed": b"a"}, "^seed=.*: give a whole number"),
        ({"num_partitions": None}, "^num_partitions=.*: give a whole number"),
        ({"lookahead": np.array([True, False])}, "^lookahead=.*: give True, False or"),
        ({"start": ""}, "^start='': it is an empty text; "),
        ({"clip_skip": "1"}, "^clip_skip='1': give a whole number of at least 0"),
        ({"clip_skip": -1}, "^clip_skip=-1: give a whole number of at least 0"),
        ({"seed": np.array([0.5])}, "^seed=.*: give a whole number"),
        ({"guidance_scale": float("nan")}, "^guidance_scale=nan: give a number from -1000 to 1000"),
        ({"guidance_scale": float("inf")}, "^guidance_scale=inf: give a number from"),
        ({"eta": np.float32("nan")}, "^eta=nan: give a number from 0 to 1"),
        ({"fps_condition": float("inf")}, "fps_condition=inf: give a number from"),
        ({"height": 2**31}, "^height=.*: give a whole number of at most 16384"),
        ({"window": 1_000_000}, "^window=.*: give a whole number of at most 4096"),
        ({"num_partitions": 10**5000}, "^num_partitions=a number of 5001 digits: give a whole number of at most 4096"),
        ({"window": 4096, "num_partitions": 4096}, "use num_partitions=16 or less"),
        ({"scheduler_exact": "no"}, "^scheduler_exact=.*: give True or False"),
        ({"include_start": 1}, "^include_start=.*: give True or False"),
        ({"prompt": {0: "a", 10**5000: "b"}}, "at most"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_numbers_that_do_not_fit(fifo, arguments, message):
    with pytest.raises(ValueError, match=message) as raised:
        fifo.stream(**{"prompt": "a cat"} | SMALL | arguments)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "arguments",
    [
        *({"callback_on_frame": 5}, {"noise": 3}, {"negative_prompt": 5}, {"negative_prompt": [5]}, {"prompt": b"a"}),
        *({"generator": 42}, {"generator": [1]}, {"generator": np.random.default_rng(0)}),
        {"cross_attention_kwargs": 5},
    ],
    ids=lambda arguments: " ".join(f"{name} {type(value).__name__}" for name, value in arguments.items()),
)
def test_values_of_a_wrong_type(fifo, arguments):
    with pytest.raises(TypeError, match=r"must be|: give "):
        fifo.stream(**{"prompt": "a cat"} | SMALL | arguments)
