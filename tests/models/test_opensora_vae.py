"""The autoencoder of Open-Sora Plan v1.1.0: recorded runs, published names."""

import inspect

import numpy as np
import pytest
import torch

from fifo_diffusion.models import registry
from fifo_diffusion.models.opensora.vae import CausalVideoAutoencoder
from fifo_diffusion.testing import distance, golden
from fifo_diffusion.testing.tiny_opensora import pipeline


def known(config):
    """The part of a published configuration that means something here."""
    return {k: v for k, v in config.items() if k in inspect.signature(CausalVideoAutoencoder).parameters}


@pytest.fixture(scope="module")
def recorded():
    tensors, meta = golden.load("osp_vae")
    weights = {k: v for k, v in tensors.items() if k.startswith(("encoder.", "decoder.", "quant_", "post_quant_"))}
    vae = CausalVideoAutoencoder(**known(meta["config"])).eval()
    vae.load_state_dict(weights)
    return vae, tensors, meta["cases"]


@pytest.mark.parametrize("case", ["decode1", "decode3", "decode5", "tiled_small", "tiled_t18"])
@torch.no_grad()
def test_recorded_decoding(recorded, case):
    vae, tensors, cases = recorded
    vae.disable_tiling()
    for name, value in (cases[case]["tiling"] or {}).items():
        setattr(vae, name, value)
    found = vae.decode(tensors[f"{case}.z"])
    vae.disable_tiling()
    assert found.shape[2] == cases[case]["frames"]
    assert distance(found[:, :, cases[case]["out_from_frame"] :], tensors[f"{case}.out"]) < 1e-5


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.05), (torch.float16, 0.01)])
@torch.no_grad()
def test_half_precision(recorded, dtype, tolerance):
    vae, tensors, _ = recorded
    narrow = CausalVideoAutoencoder(**vae.config).eval()
    narrow.load_state_dict(vae.state_dict())
    found = narrow.to(dtype).decode(tensors["decode3.z"].to(dtype))
    assert found.dtype == dtype
    assert distance(found, tensors["decode3.out"]) < tolerance


@torch.no_grad()
def test_recorded_encoding(recorded):
    vae, tensors, _ = recorded
    mean, logvar = vae.encode(tensors["encode9.x"])
    assert distance(mean, tensors["encode9.mean"]) < 1e-5
    assert distance(logvar, tensors["encode9.logvar"]) < 1e-5


def test_the_model_scales_what_the_autoencoder_encodes():
    """0.18215 times the mean of the published encoder, for one frame and for a clip."""
    pipe = pipeline()
    model = registry.wrap(pipe)
    for count in (1, 9):
        given = np.random.default_rng(0).integers(0, 255, (count, 32, 32, 3), dtype=np.uint8)
        pixels = (torch.from_numpy(given).permute(3, 0, 1, 2) / 127.5 - 1)[None]
        with torch.no_grad():
            mean, _ = pipe.vae.encode(pixels)
        assert distance(model.encode(given), mean * 0.18215) < 1e-5
