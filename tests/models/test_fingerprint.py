"""By what a saved state knows its model again: every change that changes frames, and no other."""

import hashlib
import json
from pathlib import Path

import diffusers
import pytest
import torch
from torch.utils._pytree import tree_map

from fifo_diffusion import FIFO, RunState
from fifo_diffusion.models.shared.fingerprint import content_hash, fingerprint
from fifo_diffusion.models.unet3d.model import UNet3DModel
from fifo_diffusion.models.videocrafter.scheduler import T2VTurboScheduler
from fifo_diffusion.testing import tiny
from fifo_diffusion.testing.tiny_animatediff import LIGHT, pipeline, with_ip_adapter
from streams import SMALL

STATE = Path(__file__).parents[1] / "data" / "state_plain.safetensors"
"""Saved by commit 2ff03ff: two frames at 16x16, tiny.LIGHT as it was then, with the weights of `exact`."""
SAVED_WITH = {"block_out_channels": (32,), "norm_num_groups": 16, "attention_head_dim": 16}


def exact(module):
    """Weights that are the same numbers on every machine."""
    for k, value in enumerate(module.parameters()):
        value.data = ((torch.arange(value.numel()) * 37 + k) % 101 - 50).float().view(value.shape) / 512


def original(parts):
    """The hash as states of the first versions have it."""
    digest = hashlib.sha256()
    for name, part in sorted(parts.items()):
        config = part.config if isinstance(part.config, dict) else part.config.to_dict()
        config = {k: v for k, v in config.items() if not k.startswith("_") and "dtype" not in k}
        if "transformers_version" in config:
            config["transformers_version"] = "5.23.0"  # with which the first states were made
        digest.update(f"{name}:{json.dumps(config, sort_keys=True, default=str)}".encode())
        if isinstance(part, torch.nn.Module):
            for key, value in part.state_dict().items():
                if type(part).__name__ == "CLIPTextModel":
                    key = key.removeprefix("text_model.")  # of transformers before 5.23
                digest.update(f"{key}{tuple(value.shape)}".encode())
                digest.update(value.flatten()[:: max(1, value.numel() // 8)].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


@pytest.fixture
def model():
    model = UNet3DModel(tiny.pipeline(**tiny.LIGHT))
    yield model
    model.close()


def test_a_plain_model_has_the_hash_that_it_always_had(model):
    assert model.fingerprint() == original(model.parts())
    model.pipe.vae.to(torch.bfloat16, memory_format=torch.channels_last)
    assert not all(weight.is_contiguous() for weight in model.pipe.vae.parameters())
    assert model.fingerprint() == original(model.parts())


def test_another_version_of_transformers_is_no_other_model(model, monkeypatch):
    before = model.fingerprint()
    monkeypatch.setattr("transformers.configuration_utils.__version__", "99.0.0")
    assert model.pipe.text_encoder.config.to_dict()["transformers_version"] == "99.0.0"
    assert model.fingerprint() == before


def test_a_state_of_the_first_version_is_accepted():
    state = RunState.load(STATE)
    if state.notes["versions"][0] != diffusers.__version__:
        pytest.skip("configurations are part of the hash, and other versions have other defaults")
    pipe = tiny.pipeline(**tiny.LIGHT | SAVED_WITH)
    for part in (pipe.unet, pipe.vae, pipe.text_encoder):
        exact(part)
    with FIFO(pipe) as fifo:
        stream = fifo.stream(start=state, num_frames=3)
        assert stream.frame_index == 1
        assert len(list(stream)) == 2
        pipe.unet.conv_in.weight.data += 1
        with pytest.raises(ValueError, match="other weights"):
            fifo.stream(start=state)


def adapt(unet, name="style", **changes):
    peft = pytest.importorskip("peft")
    torch.manual_seed(5)
    unet.add_adapter(peft.LoraConfig(r=2, init_lora_weights=False, target_modules=["to_q", "to_v"], **changes), name)


@pytest.fixture(scope="module")
def animated():
    return pipeline(**LIGHT)


def test_lora_counts_while_it_is_active(animated):
    with FIFO(animated) as fifo:
        unet, stream = animated.unet, fifo.stream("a cat", seed=0, **SMALL)
        plain = stream.state()
        adapt(unet)
        whole = stream.state()
        refused = pytest.raises(ValueError, match="adapters")
        with refused:
            fifo.stream(start=plain)
        fifo.stream(start=whole)
        unet.set_adapters("style", 0.1)
        with refused:
            fifo.stream(start=whole)
        unet.set_adapters("style", 1.0)
        fifo.stream(start=whole)
        unet.disable_adapters()
        fifo.stream(start=plain)
        unet.enable_adapters()
        adapt(unet, "other")
        unet.set_adapters(["style", "other"])
        both = stream.state()
        with refused:
            fifo.stream(start=whole)
        unet.set_adapters("style")
        fifo.stream(start=whole)
        unet.fuse_lora(adapter_names=["style"])
        with refused:
            fifo.stream(start=plain)
        unet.unfuse_lora()
        unet.delete_adapters(["style", "other"])
        assert fifo.model.fingerprint() != both.fingerprint


def test_pictures_of_an_ip_adapter_and_its_scale_count():
    pipe = with_ip_adapter(pipeline(**LIGHT))
    picture, other = (torch.randn(2, 1, 1, 10, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    with FIFO(pipe) as fifo:
        state = fifo.stream("a cat", seed=0, ip_adapter_image_embeds=[picture], **SMALL).state()
        json.dumps(state.settings)
        fifo.stream(start=state, ip_adapter_image_embeds=[picture.clone()])
        with pytest.raises(ValueError, match="another ip_adapter_image_embeds: give the same"):
            fifo.stream(start=state, ip_adapter_image_embeds=[other])
        with pytest.raises(ValueError, match="give it again"):
            fifo.stream(start=state)
        pipe.set_ip_adapter_scale(0.3)
        with pytest.raises(ValueError, match="adapters"):
            fifo.stream(start=state, ip_adapter_image_embeds=[picture])


def test_arguments_of_the_pipeline_count(fifo):
    state = fifo.stream("a cat", seed=0, clip_skip=1, **SMALL).state()
    fifo.stream(start=state, clip_skip=1)
    with pytest.raises(ValueError, match="saved with clip_skip=1: give the same"):
        fifo.stream(start=state, clip_skip=2)
    with pytest.raises(ValueError, match="saved without cross_attention_kwargs"):
        fifo.stream(start=state, cross_attention_kwargs={"scale": 1.0})


def test_what_is_set_beside_weights_and_configuration_counts(model):
    found = {model.fingerprint()}
    model.pipe.unet.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4)
    found.add(model.fingerprint())
    model.pipe.unet.enable_freeu(s1=0.8, s2=0.2, b1=1.2, b2=1.4)
    found.add(model.fingerprint())
    model.pipe.unet.disable_freeu()
    assert len(found) == 3
    assert model.fingerprint() in found
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    before = fingerprint({"scheduler": scheduler})
    scheduler.set_shift(5.0)
    assert fingerprint({"scheduler": scheduler}) != before


def test_schedulers_that_step_otherwise_count_where_no_configuration_tells():
    class Mine(diffusers.DDIMScheduler):
        pass

    for one, other in (
        (diffusers.LCMScheduler, diffusers.TCDScheduler),
        (diffusers.LCMScheduler, T2VTurboScheduler),
        (diffusers.KDPM2DiscreteScheduler, diffusers.KDPM2AncestralDiscreteScheduler),
        (diffusers.FlowMatchHeunDiscreteScheduler, diffusers.FlowMapEulerDiscreteScheduler),
        (diffusers.DDIMScheduler, Mine),
    ):
        first = one()
        assert fingerprint({"scheduler": first}) != fingerprint({"scheduler": other.from_config(first.config)})


def test_offloaded_or_compiled_weights_are_the_same_weights(model):
    """Layer by layer, as sequential offloading does it: the modules hold no numbers between calls."""
    from accelerate import cpu_offload

    plain = model.fingerprint()
    for part in (model.pipe.unet, model.pipe.vae, model.pipe.text_encoder):
        cpu_offload(part, torch.device("cpu"), offload_buffers=True)
    assert model.pipe.unet.conv_in.weight.is_meta
    assert model.fingerprint() == plain
    model.pipe.vae = torch.compile(model.pipe.vae)
    assert model.fingerprint() == plain


class Halves(torch.Tensor):
    """A quantised tensor as libraries make them: two tensors behind one, on which hardly any operation is defined."""

    @staticmethod
    def __new__(cls, quantised, scale):
        return torch.Tensor._make_wrapper_subclass(cls, quantised.shape, dtype=torch.float32)

    def __init__(self, quantised, scale):
        self.quantised, self.scale = quantised, scale

    def __tensor_flatten__(self):
        return ["quantised", "scale"], None

    @staticmethod
    def __tensor_unflatten__(inner, _context, _size, _stride):
        return Halves(**inner)

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        if function is not torch.ops.aten.detach.default:
            raise NotImplementedError(function)
        return tree_map(lambda x: cls(x.quantised, x.scale) if isinstance(x, cls) else x, args[0])


def test_quantised_weights_are_looked_at_through_what_they_are_made_of(model):
    linear = next(m for m in model.pipe.text_encoder.modules() if isinstance(m, torch.nn.Linear))
    weight = (linear.weight.data * 100).round().to(torch.int8)

    def quantised(weight, scale):
        linear.weight = torch.nn.Parameter(Halves(weight, torch.tensor([scale])), requires_grad=False)
        return model.fingerprint()

    assert quantised(weight, 0.01) == quantised(weight.clone(), 0.01)
    assert len({quantised(weight, 0.01), quantised(weight, 0.02), quantised(-weight, 0.01)}) == 3


def test_hashes_of_contents():
    values = [torch.zeros(3), torch.zeros(3, 1), torch.ones(3), torch.zeros(3, dtype=torch.bfloat16), [torch.zeros(3)]]
    values += [torch.ones(3).numpy(), {"scale": 0.5}, {"scale": 0.6}, (1, 2), (2, 1), "a", None]
    assert len({content_hash(value) for value in values}) == len(values)
    assert content_hash([torch.zeros(2), {"a": 1}]) == content_hash([torch.zeros(2), {"a": 1}])
