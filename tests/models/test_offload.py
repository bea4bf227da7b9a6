"""Text encoders in host memory: there while they encode, away otherwise, back at the end."""

import sys
from types import SimpleNamespace

import accelerate
import numpy as np
import pytest
import torch

from fifo_diffusion import FIFO
from fifo_diffusion.cli.main import main
from fifo_diffusion.models.loading.lighter import quantize_denoisers
from fifo_diffusion.models.shared.offload import TextOffload
from fifo_diffusion.models.wan.model import WanModel
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


OF_UNET = (lambda: tiny.pipeline(**tiny.LIGHT), SMALL, (4, 1))
OF_WAN = (tiny_wan.pipeline, tiny_wan.SIZE | {"window": 4}, (13, 4))
OF_TWO_EXPERTS = (tiny_wan.two_transformers, tiny_wan.SIZE | {"window": 4}, (13, 4))


def _by_iteration(stream, gpu, latents, further):
    """The modules that came to the GPU for each latent, in order, and the frames."""
    moves, made = [], []
    for _ in range(latents):
        gpu.moves.clear()
        made.append(frames(stream, further))
        moves.append(list(gpu.moves))
    return moves, np.concatenate(made)


@pytest.mark.parametrize("case", [OF_UNET, OF_WAN, OF_TWO_EXPERTS], ids=["unet", "wan", "two experts"])
def test_model_offload_brings_every_module_once_an_iteration_and_one_at_a_time(case, monkeypatch, caplog):
    """Of several windows, in iterations that a new text enters too."""
    build, call, (opening, further) = case
    call = call | {"num_partitions": 2, "seed": 1, "prompt_change": "tail"}
    schedule = {0: "a cat", opening + 8 * further: "a dog"}  # enters while the queue runs
    expected = frames(FIFO(build()).stream(schedule, **call), opening + 6 * further)
    pipe = build()
    gpu = PretendedGPU(pipe, monkeypatch)
    with FIFO(pipe) as fifo, fifo.stream(schedule, **call) as stream:
        assert "once an iteration" in caplog.text
        assert gpu.moves == ["text_encoder"]  # the denoiser is not needed for the text
        assert stream.settings.queue_layout.most_windows == 4
        begun = frames(stream, opening + further)  # from here on a latent is an iteration
        moves, rest = _by_iteration(stream, gpu, 5, further)
    for of_one in moves:
        texts = [name for name in of_one if name == "text_encoder"]
        assert len(texts) <= 1
        assert sorted(set(of_one) - set(texts)) == sorted([*fifo.model.denoisers, "vae"])
        assert len(of_one) == len(set(of_one)), of_one
    assert sum("text_encoder" in of_one for of_one in moves) == 1
    assert gpu.most == 1
    assert not gpu.there
    assert same(np.concatenate([begun, rest]), expected)
    assert caplog.text.count("once an iteration") == 1


def test_windows_in_another_order_would_bring_experts_again(monkeypatch):
    """What `stages` is for: with the experts window by window each comes as often as there are windows of both."""
    build, call, (opening, further) = OF_TWO_EXPERTS
    pipe = build()
    gpu = PretendedGPU(pipe, monkeypatch)
    monkeypatch.setattr(WanModel, "stages", lambda _: ())
    with FIFO(pipe) as fifo, fifo.stream("a cat", **call, num_partitions=2, seed=1) as stream:
        frames(stream, opening + further)
        (of_one,), _ = _by_iteration(stream, gpu, 1, further)
    assert of_one.count("transformer") + of_one.count("transformer_2") > 2


WAYS = [("sequential", "unet"), ("group", "unet"), ("sequential", "wan"), ("group", "two experts")]


@pytest.mark.parametrize(("way", "kind"), WAYS, ids=[" ".join(each) for each in WAYS])
@pytest.mark.parametrize("bits", [32, pytest.param(8, marks=pytest.mark.slow)])
def test_other_ways_change_no_frame_and_encode_a_text_once(way, kind, bits, monkeypatch):
    """As diffusers does it, with a CPU in the place of the GPU; also quantised."""

    def made():
        pipe = build()
        if bits == 8:
            quantize_denoisers(pipe, "fp8")
        return pipe

    build, call, (opening, further) = {"unet": OF_UNET, "wan": OF_WAN, "two experts": OF_TWO_EXPERTS}[kind]
    call = call | {"num_partitions": 1, "seed": 1}
    plain = FIFO(made())
    expected, model = frames(plain.stream("a cat", **call), opening + 2 * further), plain.model.fingerprint()
    pipe, calls = made(), []
    offload, cpu = accelerate.cpu_offload, torch.device("cpu")  # "cpu:0" makes accelerate copy weights to itself
    monkeypatch.setattr(accelerate, "cpu_offload", lambda module, _, **options: offload(module, cpu, **options))
    with FIFO(pipe) as fifo:
        fifo.model.offload(way, cpu)
        pipe.text_encoder.register_forward_hook(lambda *_: calls.append(1))
        weights = list(pipe.vae.parameters()) if way == "sequential" else []
        assert all(weight.is_meta for weight in weights)
        assert same(frames(fifo.stream("a cat", **call), opening + 2 * further), expected)
        assert len(calls) == 2  # with the negative one
        assert fifo.model.fingerprint() == model


class Accelerator:
    """A device that is only named: where things are told to go."""

    def __init__(self, monkeypatch, kind):
        self.told = []
        for way in ("enable_model_cpu_offload", "enable_sequential_cpu_offload", "enable_group_offload"):
            monkeypatch.setattr(kind, way, self._noting(way))
        monkeypatch.setattr(kind, "to", self._noting("to"))

    def _noting(self, name):
        return lambda pipe, onload_device=None, device=None, **_: self.told.append((name, str(device or onload_device)))


@pytest.mark.parametrize("way", ["model", "sequential", "group"])
def test_from_pretrained_brings_nothing_to_the_device_at_first(way, tmp_path, monkeypatch):
    pipe = tiny.pipeline(**tiny.LIGHT)
    pipe.save_pretrained(tmp_path)
    accelerator = Accelerator(monkeypatch, type(pipe))
    FIFO.from_pretrained(tmp_path, device="meta", dtype=torch.float32, offload=way).close()
    name = f"enable_{way}_cpu_offload" if way != "group" else "enable_group_offload"
    assert accelerator.told == [(name, "meta")]


def test_where_it_cannot_work_it_is_refused(tmp_path, monkeypatch, capsys):
    pipe = tiny.pipeline(**tiny.LIGHT)
    pipe.save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match=r"^offload='model': there is no accelerator .*\(cpu\): leave it out$"):
        FIFO.from_pretrained(tmp_path / "model", device="cpu", offload="model")
    with pytest.raises(ValueError, match=r"^offload='disk': give model, sequential, group, or leave it out$"):
        FIFO.from_pretrained(tmp_path / "model", device="cpu", offload="disk")
    with pytest.raises(ValueError, match=r"offloads the text encoder too: leave offload_text_encoder out$"):
        FIFO.from_pretrained(tmp_path / "model", device="meta", offload="model", offload_text_encoder=True)
    with FIFO(pipe) as fifo:
        monkeypatch.setattr(type(pipe), "model_cpu_offload_seq", None)
        with pytest.raises(ValueError, match=r"^offload='model': a TextToVideoPipeline cannot .*offload='group'$"):
            fifo.model.offload("model", torch.device("meta"))
    run = ["generate", "a cat", "--model", str(tmp_path / "model"), "--dry-run", "--offload"]
    assert main([*run, "group", "--device", "cpu"]) == 2
    assert "--offload group: there is no accelerator" in capsys.readouterr().err
    assert main([*run, "group", "--device", "meta"]) == 0
    assert "in host memory, a layer or two of them on meta at a time" in " ".join(capsys.readouterr().out.split())


def test_by_the_command(tmp_path):
    tiny.pipeline(**tiny.LIGHT).save_pretrained(tmp_path / "model")
    run = ["generate", "a cat", "--model", str(tmp_path / "model"), "--num-frames", "3", "--window", "4", "--quiet"]
    run += ["--num-partitions", "1", "--seed", "1", "--height", "16", "--width", "16"]
    assert main([*run, "-o", str(tmp_path / "a/")]) == 0
    assert main([*run, "-o", str(tmp_path / "b/"), "--offload-text-encoder"]) == 0
    from fifo_diffusion.video import read_frames

    assert np.array_equal(read_frames(tmp_path / "a"), read_frames(tmp_path / "b"))
