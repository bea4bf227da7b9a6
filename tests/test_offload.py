"""Text encoders in host memory: there while they encode, away otherwise, back at the end."""

import numpy as np
import pytest
import torch

import tiny
from fifo_diffusion import FIFO
from fifo_diffusion.cli import main
from fifo_diffusion.models.offload import TextOffload
from streams import SMALL, frames


class Places:
    """Where a module was told to go, and when it worked; on a machine with one device."""

    def __init__(self, module):
        self.events, move = [], module.to
        module.to = lambda device=None, *a, **k: self.events.append(str(device)) or move(device, *a, **k)
        module.register_forward_hook(lambda *_: self.events.append("works"))


@pytest.fixture
def pipe():
    return tiny.pipeline(**tiny.LIGHT)


def test_it_comes_for_each_prompt_and_goes_again(pipe):
    expected = frames(FIFO(tiny.pipeline(**tiny.LIGHT)).stream({0: "a cat", 6: "a dog"}, num_frames=8, seed=1, **SMALL))
    places = Places(pipe.text_encoder)
    with FIFO(pipe, offload_text_encoder=True) as fifo:
        assert places.events[-1] == "cpu"
        places.events.clear()
        found = frames(fifo.stream({0: "a cat", 6: "a dog"}, num_frames=8, seed=1, **SMALL))
        # Both texts of guidance in one stay, then away until the next prompt.
        stays = " ".join(places.events).split("works cpu")
        assert len(stays) == 3
        assert stays[-1].strip() == ""
        assert np.array_equal(found, expected)
    assert not hasattr(pipe.text_encoder, "_hf_hook")
    assert pipe("a cat", num_frames=2, height=16, width=16, num_inference_steps=1).frames is not None


def test_a_gpu_that_is_only_told(pipe, monkeypatch):
    """The text encoder's device is the one it is told; the others are not touched."""
    places, unet = Places(pipe.text_encoder), Places(pipe.unet)
    offload = TextOffload(pipe, torch.device("meta"))
    assert str(pipe.text_encoder._hf_hook.execution_device) == "meta"
    assert places.events[-1] == "cpu"
    assert not unet.events
    assert pipe.text_encoder.device.type == "cpu"
    offload._hooks[0].remove()


def test_a_video_autoencoder_is_brought_when_it_decodes():
    """`decode` is no `forward`, which is where offloading hooks in."""
    from accelerate import cpu_offload_with_hook

    from opensora_parts import autoencoder

    vae, brought = autoencoder(), []
    cpu_offload_with_hook(vae, torch.device("cpu"))
    vae._hf_hook.pre_forward = lambda module, *args, **kwargs: brought.append(module)
    with torch.no_grad():
        vae.decode(torch.zeros(1, 4, 1, 2, 2))
    assert brought == [vae]


def test_twice_or_without_a_text_encoder_is_refused(pipe):
    with FIFO(pipe, offload_text_encoder=True):
        count = sum(len(m._forward_pre_hooks) for m in pipe.unet.modules())
        with pytest.raises(ValueError, match="offloaded already: leave"):
            FIFO(pipe, offload_text_encoder=True)
        assert sum(len(m._forward_pre_hooks) for m in pipe.unet.modules()) == count
    pipe.text_encoder = None
    with pytest.raises(ValueError, match="has no text encoder to offload"):
        FIFO(pipe, offload_text_encoder=True)


def test_by_the_command(tmp_path):
    tiny.pipeline(**tiny.LIGHT).save_pretrained(tmp_path / "model")
    run = ["generate", "a cat", "--model", str(tmp_path / "model"), "--num-frames", "3", "--window", "4", "--quiet"]
    run += ["--num-partitions", "1", "--seed", "1", "--height", "16", "--width", "16"]
    assert main([*run, "-o", str(tmp_path / "a/")]) == 0
    assert main([*run, "-o", str(tmp_path / "b/"), "--offload-text-encoder"]) == 0
    from fifo_diffusion.video import read_frames

    assert np.array_equal(read_frames(tmp_path / "a"), read_frames(tmp_path / "b"))
