"""LoRA files by name: read, put on, refused."""

import logging

import pytest
import torch
from safetensors.torch import load_file, save_file

from fifo_diffusion import FIFO
from fifo_diffusion.cli.main import main
from fifo_diffusion.models.loading.adapters import read_adapter
from fifo_diffusion.models.loading.source import find_model
from fifo_diffusion.testing import tiny, tiny_latte, tiny_wan
from fifo_diffusion.video import read_frames, read_metadata

peft = pytest.importorskip("peft")


def lora_of(pipe, denoiser, file, seed=0):
    """Random LoRA weights for a pipeline's denoiser, as diffusers saves them; the pipeline is changed."""
    torch.manual_seed(seed)
    module = getattr(pipe, denoiser)
    config = peft.LoraConfig(r=2, init_lora_weights=False, target_modules=["to_q", "to_v"])
    peft.inject_adapter_in_model(config, module, "made")
    weights = peft.get_peft_model_state_dict(module, adapter_name="made")
    save_file({f"{denoiser}.{k}": v.contiguous() for k, v in weights.items()}, file)
    return str(file)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A tiny pipeline in a folder, two LoRAs for it, and one for another model."""
    folder = tmp_path_factory.mktemp("lora")
    tiny.pipeline(**tiny.LIGHT).save_pretrained(folder / "model")
    for name, seed in (("style", 0), ("motion", 1)):
        lora_of(tiny.pipeline(**tiny.LIGHT), "unet", folder / f"{name}.safetensors", seed)
    lora_of(tiny_wan.pipeline(), "transformer", folder / "wan.safetensors")
    return folder


CALL = {"num_partitions": 1, "lookahead": False, "seed": 0, "guidance_scale": 1.0}


def frames_of(pipe):
    with FIFO(pipe) as fifo:
        return torch.stack([torch.from_numpy(x) for x in fifo.stream("a cat", num_frames=2, **CALL)]).float()


def loaded(places, *lora):
    return find_model(places / "model").load(dtype=torch.float32, lora=list(lora))


def video(places, *lora):
    return frames_of(loaded(places, *lora))


def test_a_lora_changes_the_video_as_much_as_its_scale(places):
    plain = video(places)
    style = f"{places}/style.safetensors"
    assert torch.equal(video(places, f"{style}:0"), plain)
    weak, strong = (video(places, f"{style}:{scale}") for scale in (0.1, 1))
    assert 0 < (weak - plain).norm() < (strong - plain).norm()
    assert torch.equal(video(places, style), strong)


def test_several_add_up_as_their_formula_says(places):
    """W + sum of scale B A, added to the weights by hand."""
    loras = {f"{places}/style.safetensors": 0.7, f"{places}/motion.safetensors": -0.4}
    found = video(places, *(f"{name}:{scale}" for name, scale in loras.items()))
    pipe = loaded(places)
    for name, scale in loras.items():
        weights = load_file(name)
        for key in (k.removesuffix(".lora_A.weight") for k in weights if k.endswith(".lora_A.weight")):
            linear = pipe.unet.get_submodule(key.removeprefix("unet."))
            linear.weight.data += scale * weights[f"{key}.lora_B.weight"] @ weights[f"{key}.lora_A.weight"]
    expected, plain = frames_of(pipe), video(places)
    assert (found - expected).abs().mean() < 0.02 * (found - plain).abs().mean()


def test_a_state_belongs_to_its_loras(places):
    style = f"{places}/style.safetensors"
    fifos = [FIFO(loaded(places, *lora)) for lora in ((), (style,), (f"{style}:0.5",))]
    states = []
    for fifo in fifos:
        stream = fifo.stream("a cat", **CALL)
        next(stream)
        states.append(stream.state())
    for k, fifo in enumerate(fifos):
        for i, state in enumerate(states):
            if i == k:
                next(fifo.stream(start=state))
                continue
            with pytest.raises(ValueError, match="LoRA"):
                fifo.stream(start=state)
    with FIFO.from_pretrained(places / "model", device="cpu", lora=style) as again:
        next(again.stream(start=states[1]))


def test_of_two_experts_each_gets_its_own(places, tmp_path):
    tiny_wan.two_transformers().save_pretrained(tmp_path / "wan22")
    file = f"{places}/wan.safetensors"

    def reached(*lora):
        pipe = find_model(tmp_path / "wan22").load(dtype=torch.float32, lora=lora)
        return [
            any("lora" in name for name, _ in part.named_parameters())
            for part in (pipe.transformer, pipe.transformer_2)
        ]

    assert reached() == [False, False]
    assert reached(file) == [True, True]
    assert reached(f"{file}@high") == [True, False]
    assert reached(f"{file}@low:0.5") == [False, True]
    assert reached(f"{file}@high:0.5", f"{file}@low:0.7") == [True, True]


def test_one_for_another_model_is_refused(places):
    with pytest.raises(ValueError, match=r"^lora=.*wan.safetensors:1.*: it (fits nothing|cannot be put)") as refusal:
        video(places, f"{places}/wan.safetensors")
    assert "\n" not in str(refusal.value)


def test_one_that_fits_in_part_is_noted(places, tmp_path, caplog):
    weights = load_file(places / "style.safetensors")
    name = next(iter(weights))
    weights[name.replace(".to_q.", ".to_x.").replace(".to_v.", ".to_x.")] = weights[name].clone()
    save_file(weights, tmp_path / "part.safetensors")
    with caplog.at_level(logging.WARNING, "fifo_diffusion"):
        video(places, str(places / "style.safetensors"))
        assert "part" not in caplog.text
        video(places, str(tmp_path / "part.safetensors"))
    [line] = [r.getMessage() for r in caplog.records if r.name.startswith("fifo_diffusion")]
    assert "fits only in part" in line
    assert "to_x" in line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FILE", ("style.safetensors", "", 1.0)),
        ("FILE:0.5", ("style.safetensors", "", 0.5)),
        ("FILE@low:-1", ("style.safetensors", "low", -1.0)),
        ("owner/name", (None, "", 1.0)),
        ("owner/name/sub/file.safetensors:0.8", ("sub/file.safetensors", "", 0.8)),
    ],
)
def test_reading(places, text, expected):
    adapter = read_adapter(text.replace("FILE", f"{places}/style.safetensors"))
    assert (adapter.file, adapter.expert, adapter.scale) == expected
    assert adapter.place == (str(places) if "FILE" in text else "owner/name")
    assert read_adapter(str(adapter)) == adapter


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("missing.safetensors", "there is no such file"),
        ("x:strong", "there is no such file"),
        ("", "give texts"),
        (3, "give texts"),
        ("FOLDER", "name one of them"),
        ("FILE.bin", "may run code"),
        ("FILE:nan", "must be a number"),
    ],
)
def test_what_is_no_lora_is_refused(places, text, told):
    (places / "style.safetensors.bin").write_bytes(b"x")
    text = (
        text.replace("FILE", f"{places}/style.safetensors").replace("FOLDER", str(places))
        if isinstance(text, str)
        else text
    )
    with pytest.raises(ValueError, match=told):
        read_adapter(text)


def test_a_pipeline_without_loras_and_one_given_twice(places):
    style = f"{places}/style.safetensors"
    with pytest.raises(ValueError, match="twice"):
        video(places, style, f"{style}:0.5")
    with pytest.raises(ValueError, match="two transformers"):
        video(places, f"{style}@high")


def generate(places, *options):
    size = ["--num-frames", "3", "--num-partitions", "1", "--no-lookahead", "--seed", "0", "--device", "cpu"]
    return main(["generate", "--model", str(places / "model"), *size, *options])


def test_on_the_command_line(places, tmp_path, monkeypatch, capsys):
    """The same frames as in Python; kept in the file and in the state, which no run without it goes on from."""
    monkeypatch.chdir(places)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    out, options = tmp_path, ["--lora", "style.safetensors:0.7", "--lora", "motion.safetensors"]
    assert generate(places, "a cat", "-o", f"{out}/a/", *options, "--state", str(tmp_path / "run.state")) == 0
    with FIFO.from_pretrained("model", device="cpu", lora=["style.safetensors:0.7", "motion.safetensors"]) as fifo:
        call = {"num_partitions": 1, "lookahead": False, "seed": 0}
        expected = [*fifo.stream("a cat", num_frames=5, **call)]
    assert (read_frames(out / "a") == expected[:3]).all()
    told = read_metadata(out / "a")
    assert told["lora"] == f'["{places}/style.safetensors:0.7", "{places}/motion.safetensors:1"]'
    assert "--lora style.safetensors:0.7 --lora motion.safetensors" in told["command"]
    monkeypatch.chdir(tmp_path)
    assert main(["generate", "--state", "run.state", "--num-frames", "5", "--device", "cpu"]) == 0
    assert (read_frames(out / "a") == expected).all()
    capsys.readouterr()
    state = ["--state", "run.state", "--lora", f"{places}/style.safetensors"]
    assert main(["generate", *state, "--num-frames", "7", "--device", "cpu"]) == 2
    assert "--lora" in capsys.readouterr().err


def test_the_command_refuses_one_that_fits_nothing_and_one_that_a_state_is_without(
    places, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    state, style = ["--state", str(tmp_path / "run.state")], f"{places}/style.safetensors"
    assert generate(places, "a cat", "-o", f"{tmp_path}/a/", *state) == 0
    capsys.readouterr()
    assert main(["generate", *state, "--lora", style, "--num-frames", "5", "--device", "cpu"]) == 2
    assert "--lora" in capsys.readouterr().err
    assert generate(places, "a cat", "-o", f"{tmp_path}/x/", "--lora", f"{places}/wan.safetensors") == 2
    told = capsys.readouterr().err
    assert "wan.safetensors:1: it" in told
    assert not (tmp_path / "x").exists()


def test_what_is_no_lora_is_refused_before_anything_is_loaded(places, monkeypatch, capsys):
    monkeypatch.chdir(places)
    monkeypatch.setattr("fifo_diffusion.cli.generate.load", lambda *_: pytest.fail("loaded"))
    assert generate(places, "a cat", "--lora", "missing.safetensors") == 2
    assert "--lora missing.safetensors: there is no such file" in capsys.readouterr().err


def test_a_class_that_takes_none_says_so_before_its_weights_are_read(places, tmp_path):
    empty = find_model(places / "model").load_without_weights(lora=f"{places}/style.safetensors")
    assert not any("lora" in name for name, _ in empty.unet.named_parameters())
    with pytest.raises(ValueError, match="two transformers"):
        find_model(places / "model").load_without_weights(lora=f"{places}/style.safetensors@low")
    tiny_latte.pipeline().save_pretrained(tmp_path / "latte")
    with pytest.raises(ValueError, match="LattePipeline takes no LoRA: leave lora out"):
        find_model(tmp_path / "latte").load_without_weights(lora=f"{places}/style.safetensors")
