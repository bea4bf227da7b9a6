"""Text encoders in host memory: there while they encode, away otherwise, back at the end."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fifo_diffusion import FIFO
from fifo_diffusion.cli.main import main
from fifo_diffusion.models.shared.offload import TextOffload
from fifo_diffusion.testing import frames, same, tiny, tiny_wan
from streams import SMALL


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

    from fifo_diffusion.testing.tiny_opensora import autoencoder

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
    with pytest.raises(ValueError, match="has no text encoder: leave it out"):
        FIFO(pipe, offload_text_encoder=True)


class PretendedGPU:
    """`enable_model_cpu_offload` by accelerate's own hooks, with places that are kept in a table: everything works on
    the CPU, where it is.

    Attributes:
        moves: the names of the modules that came to the GPU.
        most: how many were there at once.
    """

    def __init__(self, pipe, monkeypatch):
        import accelerate.hooks

        self.moves, self.most, self._places, self._names = [], 0, {}, {}
        monkeypatch.setattr(accelerate.hooks, "send_to_device", lambda value, *_, **__: value)
        monkeypatch.setattr(type(pipe), "_execution_device", torch.device("cpu"))
        own = sys.modules[type(pipe).__module__]
        monkeypatch.setattr(own, "get_module_execution_device", lambda _: torch.device("cpu"), raising=False)
        pipe._all_hooks, hook = [], None
        for name in pipe.model_cpu_offload_seq.split("->"):
            module = getattr(pipe, name, None)
            if module is not None:
                self._pretend(name, module)
                _, hook = accelerate.cpu_offload_with_hook(module, torch.device("cuda", 0), prev_module_hook=hook)
                pipe._all_hooks.append(hook)

    def _pretend(self, name, module):
        dtype, self._places[name] = next(module.parameters()).dtype, torch.device("cpu")

        def to(device):
            if torch.device(device).type == "cuda" and self._places[name].type == "cpu":
                self.moves.append(name)
            self._places[name] = torch.device(device)
            self.most = max(self.most, len(self.there))
            return module

        module.to = to
        weight = {"dtype": dtype, "is_floating_point": lambda: True, "is_inference": lambda: False, "_version": 0}
        module.parameters = lambda recurse=True: iter([SimpleNamespace(device=self._places[name], **weight)])

    @property
    def there(self):
        """The modules on the GPU."""
        return [name for name, place in self._places.items() if place.type == "cuda"]


@pytest.mark.parametrize("build", [lambda: tiny.pipeline(**tiny.LIGHT), tiny_wan.two_transformers], ids=["unet", "wan"])
def test_model_offload_brings_every_module_once_an_iteration_and_one_at_a_time(build, monkeypatch, caplog):
    of_wan = build is tiny_wan.two_transformers
    call = tiny_wan.SIZE | {"window": 4} if of_wan else SMALL
    call = call | {"num_partitions": 2, "seed": 1}
    opening, count, further = (13, 9, 4) if of_wan else (4, 4, 1)
    expected = frames(FIFO(build()).stream("a cat", **call), opening + count)
    pipe = build()
    gpu = PretendedGPU(pipe, monkeypatch)
    with FIFO(pipe) as fifo, fifo.stream("a cat", **call) as stream:
        assert "for every latent frame" in caplog.text
        assert gpu.moves == ["text_encoder"]  # the denoiser is not needed for the text
        found = [frames(stream, opening + 1)]
        gpu.moves.clear()
        found.append(frames(stream, count - 1))
        iterations = (count - 1) // further
        for name in set(gpu.moves):
            assert gpu.moves.count(name) <= iterations
        assert "vae" in gpu.moves
        assert {"transformer", "transformer_2"} <= set(gpu.moves) if of_wan else "unet" in gpu.moves
    assert gpu.most == 1
    assert not gpu.there
    assert same(np.concatenate(found), expected)
    assert caplog.text.count("for every latent frame") == 1


def test_by_the_command(tmp_path):
    tiny.pipeline(**tiny.LIGHT).save_pretrained(tmp_path / "model")
    run = ["generate", "a cat", "--model", str(tmp_path / "model"), "--num-frames", "3", "--window", "4", "--quiet"]
    run += ["--num-partitions", "1", "--seed", "1", "--height", "16", "--width", "16"]
    assert main([*run, "-o", str(tmp_path / "a/")]) == 0
    assert main([*run, "-o", str(tmp_path / "b/"), "--offload-text-encoder"]) == 0
    from fifo_diffusion.video import read_frames

    assert np.array_equal(read_frames(tmp_path / "a"), read_frames(tmp_path / "b"))
