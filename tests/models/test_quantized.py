"""Denoisers with fewer bits per weight."""

import importlib.util

import pytest
import torch

from fifo_diffusion import FIFO, RunState
from fifo_diffusion.cli.main import main
from fifo_diffusion.jobs.memory import weights_bytes
from fifo_diffusion.models import registry
from fifo_diffusion.models.loading.lighter import check_quantize, denoisers_of, quantised_layers, quantize_denoisers
from fifo_diffusion.testing import (
    distance,
    frames,
    same,
    tiny,
    tiny_animatediff,
    tiny_cogvideox,
    tiny_easyanimate,
    tiny_hunyuan_video,
    tiny_kandinsky,
    tiny_latte,
    tiny_ltx,
    tiny_ltx2,
    tiny_mochi,
    tiny_opensora,
    tiny_sana_video,
    tiny_wan,
)
from fifo_diffusion.video import read_metadata

FAMILIES = [tiny, tiny_animatediff, tiny_cogvideox, tiny_easyanimate, tiny_hunyuan_video, tiny_kandinsky, tiny_latte]
FAMILIES += [tiny_ltx, tiny_ltx2, tiny_mochi, tiny_opensora, tiny_sana_video]
SMALL = tiny_wan.SIZE | {"window": 3, "num_partitions": 1, "seed": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "wan"
    tiny_wan.two_transformers().save_pretrained(path)
    return path


def needs(package):
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")


@pytest.mark.parametrize("way", ["fp8", pytest.param("int8", marks=needs("torchao"))])
def test_weights_have_eight_bits_and_videos_are_nearly_the_same(way, folder):
    plain = FIFO.from_pretrained(folder, dtype=torch.float32, device="cpu")
    light = FIFO.from_pretrained(folder, dtype=torch.float32, device="cpu", quantize=way)
    for name in ("transformer", "transformer_2"):
        denoiser, layers = getattr(light.pipe, name), dict(quantised_layers(getattr(light.pipe, name), way))
        assert "blocks.0.attn1.to_q" in layers
        assert "patch_embedding" not in layers
        for layer_name, layer in denoiser.named_modules():
            if isinstance(layer, torch.nn.Linear):
                weight = layer.weight
                small = getattr(weight, "qdata", weight).element_size() == 1
                assert small == (layer_name in layers), layer_name
    latents = torch.randn(1, 4, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    timestep = torch.tensor([[900.0, 500.0, 100.0]])
    found = [m.predict(latents, timestep, m.condition(["a cat"], **tiny_wan.SIZE)) for m in (plain.model, light.model)]
    assert 1e-4 < distance(found[1], found[0]) < 0.1
    assert light.model.fingerprint() != plain.model.fingerprint()


@pytest.mark.slow
@pytest.mark.parametrize("way", ["fp8", pytest.param("int8", marks=needs("torchao"))])
@pytest.mark.parametrize("module", FAMILIES, ids=lambda module: module.__name__.rpartition("tiny_")[2])
def test_other_families(module, way):
    plain, pipe = registry.wrap(module.pipeline()), module.pipeline()
    quantize_denoisers(pipe, way)
    for _, denoiser in denoisers_of(pipe):
        layers = [layer for _, layer in quantised_layers(denoiser, way)]
        assert layers
        assert all(getattr(layer.weight, "qdata", layer.weight).element_size() == 1 for layer in layers)
    light = registry.wrap(pipe)
    size = dict.fromkeys(("height", "width"), max(32, 2 * plain.size_multiple))
    channels, *sides = plain.latent_shape(**size)
    latents = torch.randn(1, channels, 4, *sides, generator=torch.Generator().manual_seed(1))
    timestep = torch.linspace(100, 800, 4)[None]
    found, expected = (
        model.predict(latents, timestep, model.condition(["a cat"], guidance_scale=3.0, **size))
        for model in (light, plain)
    )
    assert 1e-4 < distance(found, expected) < 0.3


def test_a_state_of_other_weights_is_refused(folder):
    plain = FIFO.from_pretrained(folder, dtype=torch.float32, device="cpu")
    light = FIFO.from_pretrained(folder, dtype=torch.float32, device="cpu", quantize="fp8")
    for one, other in ((plain, light), (light, plain)):
        stream = one.stream("a cat", **SMALL)
        begun = frames(stream, 9)
        state = stream.state()
        assert same(frames(one.stream(start=state), 4), frames(stream, 4))
        assert len(begun) == 9
        with pytest.raises(ValueError, match="another model"):
            other.stream(start=state)


def test_the_fingerprint_knows_the_kind_of_weights():
    """Also of weights that lose nothing."""
    pipe = tiny.pipeline(**tiny.LIGHT)
    with torch.no_grad():
        for weight in pipe.unet.parameters():
            weight.copy_(weight.sign())
    plain = registry.wrap(pipe).fingerprint()
    pipe.unet.enable_layerwise_casting(torch.float8_e4m3fn, torch.float32)
    assert registry.wrap(pipe).fingerprint() != plain


def test_by_the_command(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["generate", "a cat", "--model", str(folder), "--num-frames", "5", "--window", "3", "--seed", "1"]
    command += ["--num-partitions", "1", "--height", "32", "--width", "32", "--device", "cpu", "--dtype", "float32"]
    assert main([*command, "--dry-run"]) == 0
    plain = " ".join(capsys.readouterr().out.split())
    assert main([*command, "--dry-run", "--quantize", "fp8"]) == 0
    light = " ".join(capsys.readouterr().out.split())
    assert "fp8" not in plain
    assert "million parameters, fp8)" in light
    run = [*command, "-o", "cat.mp4", "--state", "cat.state", "--quantize", "fp8", "--quiet"]
    assert main(run) == 0
    assert read_metadata("cat.mp4")["quantize"] == "fp8"
    assert RunState.load("cat.state").notes["quantize"] == "fp8"
    assert main(["generate", "--state", "cat.state", "--num-frames", "9", "--quiet"]) == 0  # in fp8 again
    assert main([*command, "-o", "plain.mp4", "--state", "plain.state", "--quiet"]) == 0
    assert main(["generate", "--state", "plain.state", "--num-frames", "9", "--quantize", "fp8"]) == 2
    assert "was saved without --quantize" in capsys.readouterr().err


def test_bytes_are_those_of_the_weights(folder):
    plain = FIFO.from_pretrained(folder, dtype=torch.float32, device="cpu")
    light = FIFO.from_pretrained(folder, dtype=torch.float32, device="cpu", quantize="fp8")
    parts = [part for part in light.pipe.components.values() if isinstance(part, torch.nn.Module)]
    count = sum(weight.numel() * weight.element_size() for part in parts for weight in part.parameters())
    biases = sum(
        layer.bias.numel() * 3
        for name in ("transformer", "transformer_2")
        for _, layer in quantised_layers(getattr(light.pipe, name), "fp8")
        if layer.bias is not None
    )
    assert weights_bytes(plain.model, "float32", "fp8") == count + biases  # counted as if they stayed


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("int4", "give int8, fp8, or a file FILE.gguf"),
        ("nowhere.gguf", "there is no such file"),
    ],
)
def test_what_is_no_way_is_refused(way, said, capsys):
    with pytest.raises(ValueError, match=f"^quantize='{way}': {said}$"):
        FIFO.from_pretrained("toybox", quantize=way)
    assert main(["generate", "a ball", "--dry-run", "--quantize", way]) == 2
    assert f"--quantize {way}: {said}" in " ".join(capsys.readouterr().err.split())


def test_a_package_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("fifo_diffusion.models.loading.lighter.find_spec", lambda _: None)
    file = tmp_path / "wan.gguf"
    file.touch()
    for way, package in (("int8", "torchao"), (str(file), "gguf")):
        with pytest.raises(ValueError, match=f"needs the package {package}: pip install {package}$"):
            check_quantize(way)
    check_quantize("fp8")


# ---------------------------------------------------------------------- GGUF


def written(path, denoiser):
    """A GGUF file of the denoiser's weights, those of matrices in 8 bits where their rows are long enough."""
    import gguf

    writer, eight = gguf.GGUFWriter(path, "wan"), gguf.GGMLQuantizationType.Q8_0
    for name, weight in denoiser.state_dict().items():
        values = weight.float().numpy()
        if name.startswith("blocks") and values.ndim == 2 and values.shape[-1] % 32 == 0:
            writer.add_tensor(name, gguf.quants.quantize(values, eight), raw_dtype=eight)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(path)


@needs("gguf")
def test_the_weights_of_a_gguf_file(folder, tmp_path):
    tiny_wan.pipeline().save_pretrained(tmp_path / "wan")
    other = tiny_wan.components(seed=11)["transformer"]
    file = written(tmp_path / "other.gguf", other)
    light = FIFO.from_pretrained(tmp_path / "wan", dtype=torch.float32, device="cpu", quantize=file)
    plain = tiny_wan.pipeline()
    plain.transformer = other
    latents = torch.randn(1, 4, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    timestep = torch.tensor([[900.0, 500.0, 100.0]])
    found, expected = (
        model.predict(latents, timestep, model.condition(["a cat"], **tiny_wan.SIZE))
        for model in (light.model, registry.wrap(plain))
    )
    assert 1e-6 < distance(found, expected) < 0.05
    assert light.model.fingerprint() != registry.wrap(plain).fingerprint()
    assert frames(light.stream("a cat", **SMALL), 5).shape[0] == 5
    with pytest.raises(ValueError, match=r"this model has 2 denoisers, and a file has one: use fp8 or int8$"):
        FIFO.from_pretrained(folder, quantize=file)
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF and then nothing")
    with pytest.raises(ValueError, match=r"^quantize='.*broken\.gguf': it makes no WanTransformer3DModel \("):
        FIFO.from_pretrained(tmp_path / "wan", quantize=str(broken))
