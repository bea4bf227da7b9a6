"""Original VideoCrafter checkpoints: complete random files in the published format, loaded, converted, refused."""

import os
import pickle
import re
import shutil
import signal
from pathlib import Path

import huggingface_hub
import pytest
import torch
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
from huggingface_hub.errors import EntryNotFoundError
from safetensors.torch import save_file
from torch import Tensor, nn

from fifo_diffusion import FIFO
from fifo_diffusion.cli.main import main
from fifo_diffusion.jobs.locks import locked
from fifo_diffusion.models import registry
from fifo_diffusion.models.loading.source import find_model
from fifo_diffusion.models.loading.weights import read_weights
from fifo_diffusion.models.videocrafter.checkpoint import (
    load_autoencoder,
    load_checkpoint,
    load_text_tower,
)
from fifo_diffusion.testing import distance, golden, published, same
from fifo_diffusion.video import count_frames

VARIANTS = ["vc2", "vc1_512", "vc1_1024"]
SMALL = {"height": 32, "width": 32, "num_partitions": 1, "window": 4, "lookahead": False, "seed": 0}


def part(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    prefix = published.PREFIXES[name]
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


@pytest.fixture(autouse=True)
def _no_traces(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder as one gets it from the hub, with the tokenizer beside the checkpoint."""
    path = tmp_path_factory.mktemp("videocrafter")
    torch.save({"state_dict": published.small_state_dict(torch.float16), "epoch": 3}, path / "model.ckpt")
    published.tokenizer().save_pretrained(path / "tokenizer")
    return path


@pytest.fixture(scope="module")
def fifo(folder):
    with FIFO.from_pretrained(folder / "model.ckpt", device="cpu") as fifo:
        yield fifo


@pytest.fixture(scope="module")
def converted(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("converted") / "videocrafter2"
    assert main(["convert", str(folder / "model.ckpt"), str(path)]) == 0
    return path


def hollow(variant: str = "vc2") -> dict[str, Tensor]:
    """All names and tiny shapes, but next to nothing in the file; only the noise schedule has contents."""
    shapes = published.tiny_shapes(variant)
    return {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()} | published.schedule(variant)


def write(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


# -- what comes out ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variant", "family", "size", "fps", "scale", "tensors"),
    [
        ("vc2", "VideoCrafter2", (320, 512), 8, 0.7, 1484),
        ("vc1_512", "VideoCrafter1", (320, 512), None, None, 1196),
        ("vc1_1024", "VideoCrafter1", (576, 1024), 8, 0.3, 1200),
    ],
)
def test_variant_is_read_from_the_names(tmp_path, variant, family, size, fps, scale, tensors):
    path = write(tmp_path / "model.ckpt", {"state_dict": hollow(variant)})
    pipe = load_checkpoint(path, read_weights(path), tokenizer=published.tokenizer())
    model = registry.wrap(pipe)
    assert (model.family, model.frames) == (family, 16)
    assert (model.defaults["height"], model.defaults["width"]) == size
    assert model.defaults["guidance_scale"] == 12
    assert model.fps_condition == fps
    assert len(pipe.unet.state_dict()) == tensors
    assert len(pipe.vae.state_dict()) == 248
    assert len(pipe.text_encoder.state_dict()) == 4 + 16 * 23
    assert getattr(pipe.scheduler.config, "signal_scale_end", None) == scale
    if scale is not None:
        expected = published.schedule(variant)["scale_arr"][:1000]
        torch.testing.assert_close(pipe.scheduler.signal_scale.float(), expected)
    model.levels(64)
    assert model.levels(64).timestep.tolist() == [round(1000 * (j + 1) / 64) - 1 for j in range(64)]


@pytest.mark.parametrize("variant", VARIANTS)
def test_full_size_names(variant):
    """Every published name at its published size, on the meta device."""
    pipe = load_checkpoint(Path("model.ckpt"), published.meta(variant), tokenizer=None)
    assert sum(p.numel() for p in pipe.vae.parameters()) == 83_653_863
    tower = sum(p.numel() for p in pipe.text_encoder.parameters())
    last_block = 12 * 1024**2 + 13 * 1024
    assert tower == 354_032_641 - last_block - 1024**2 - 1
    config = pipe.text_encoder.config
    assert (config.num_hidden_layers, config.num_attention_heads, config.hidden_act) == (23, 16, "gelu")
    assert config.max_position_embeddings == 77
    assert pipe.vae.config.block_out_channels == (128, 256, 512, 512)
    assert pipe.vae.config.scaling_factor == 0.18215


def test_a_checkpoint_file_just_works(tmp_path):
    """With every published name, and all values random."""
    write(tmp_path / "model.ckpt", {"state_dict": published.state_dict("vc2")})
    published.tokenizer().save_pretrained(tmp_path / "tokenizer")
    with FIFO.from_pretrained(tmp_path / "model.ckpt", device="cpu", fps_condition=12) as fifo:
        assert fifo.model.fps_condition == 12
        frame = next(fifo.stream("a ball", **SMALL))
    assert frame.shape == (32, 32, 3)
    assert frame.std() > 10


def test_the_frame_rate_of_a_checkpoint(fifo):
    frames = [next(fifo.stream("a ball", fps_condition=fps, **SMALL)) for fps in (8, 24)]
    assert (frames[0] != frames[1]).any()


@pytest.mark.parametrize("form", ["bare", "DeepSpeed", "safetensors", "before PyTorch 1.6"])
def test_other_files_hold_the_same_tensors(tmp_path, form):
    state = {"model.a": torch.randn(3, 4), "b": torch.randn(2).half()}
    path = tmp_path / ("model.safetensors" if form == "safetensors" else "model.ckpt")
    if form == "bare":
        torch.save(state, path)
    elif form == "DeepSpeed":
        torch.save({"module": {f"_forward_module.{name}": value for name, value in state.items()}}, path)
    elif form == "safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state}, path, _use_new_zipfile_serialization=False)
    found = read_weights(path)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], value) for name, value in state.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, None])
def test_precision(folder, dtype):
    pipe = find_model(folder / "model.ckpt").load(dtype=dtype)
    parts = (pipe.unet, pipe.vae, pipe.text_encoder)
    assert {p.dtype for module in parts for p in module.parameters()} == {dtype or torch.float16}
    assert not any(module.training for module in parts)


def test_weights_stay_in_the_file(folder):
    """Where the precision is that of the file, nothing is read before it is used."""
    pipe = find_model(folder / "model.ckpt").load()
    for module in (pipe.unet, pipe.vae, pipe.text_encoder):
        assert files_behind(module) == {str(folder / "model.ckpt")}


def files_behind(module: nn.Module) -> set[str]:
    """The files that the memory of a module's parameters is mapped from."""
    if not Path("/proc/self/maps").exists():
        pytest.skip("this system does not tell which files are mapped")
    spans = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, _, _, _, *name = line.split(maxsplit=5)
        spans.append((*(int(x, 16) for x in span.split("-")), name[0] if name else ""))
    places = [parameter.data_ptr() for parameter in module.parameters()]
    return {name for start, end, name in spans if any(start <= place < end for place in places)}


# -- the parts against independent references --------------------------------------------------------------------------


class Block(nn.Module):
    """One block of OpenCLIP's text tower, out of PyTorch's own layers, whose names the published ones are."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        layers = {"c_fc": nn.Linear(width, 4 * width), "gelu": nn.GELU(), "c_proj": nn.Linear(4 * width, width)}
        self.mlp = nn.Sequential()
        for name, layer in layers.items():
            self.mlp.add_module(name, layer)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, attn_mask=mask, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


@torch.no_grad()
def reference_text(tensors: dict[str, Tensor], ids: Tensor, heads: int, skip: int = 1) -> Tensor:
    """The output of all blocks but the last `skip`, through the final norm."""
    width = tensors["ln_final.weight"].shape[0]
    blocks = 1 + max(int(name.split(".")[2]) for name in tensors if name.startswith("transformer."))
    x = tensors["token_embedding.weight"][ids] + tensors["positional_embedding"]
    mask = torch.full((ids.shape[1], ids.shape[1]), float("-inf")).triu(1)
    for number in range(blocks - skip):
        prefix = f"transformer.resblocks.{number}."
        block = Block(width, heads).eval()
        block.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        x = block(x, mask)
    return nn.functional.layer_norm(x, (width,), tensors["ln_final.weight"], tensors["ln_final.bias"])


def test_text_tower_recorded():
    tensors, meta = golden.load("text_tower")
    weights, ids = part(tensors, "text"), tensors["tokens"].long()
    with torch.no_grad():
        found = load_text_tower(weights, heads=meta["heads"])(ids).last_hidden_state
        other_heads = load_text_tower(weights, heads=1)(ids).last_hidden_state
    assert distance(found, tensors["out"]) < 1e-6
    assert distance(reference_text(weights, ids, meta["heads"]), tensors["out"]) < 1e-6
    assert distance(reference_text(weights, ids, meta["heads"], skip=0), tensors["out"]) > 1e-2
    assert distance(other_heads, tensors["out"]) > 1e-3


def test_text_tower_of_a_whole_checkpoint(fifo):
    weights = {k: v.float() for k, v in part(published.small_state_dict(torch.float16), "text").items()}
    ids, _ = fifo.pipe.tokenize(["a red ball!", ""])
    with torch.no_grad():
        found = fifo.pipe.text_encoder(ids).last_hidden_state
    assert distance(found, reference_text(weights, ids, heads=1)) < 1e-5
    assert distance(found, fifo.pipe.encode_text(["a red ball!", ""])) < 1e-6
    padded_with_the_end = ids.masked_fill(ids == 0, published.VOCABULARY - 1)
    assert distance(reference_text(weights, padded_with_the_end, heads=1), found) > 1e-3


def test_autoencoder_recorded():
    path = golden.find("tiny_checkpoint.ckpt")
    tensors, _ = golden.load("tiny_checkpoint_io")
    pipe = load_checkpoint(path, read_weights(path), dtype=torch.float32, text_encoder=None, tokenizer=None)
    with torch.no_grad():
        frames = [pipe.vae.decode(z / 0.18215).sample for z in tensors["z"].unbind(2)]
        posterior = pipe.vae.encode(tensors["image"][:, :, 0]).latent_dist
    assert distance(torch.stack(frames, 2), tensors["decoded"]) < 1e-5
    assert distance(posterior.mean, tensors["posterior_mean"]) < 1e-5
    assert distance(posterior.logvar, tensors["posterior_logvar"]) < 1e-5
    model = registry.wrap(pipe)
    embeds = {"prompt_embeds": tensors["context"], "negative_prompt_embeds": tensors["context"]}
    frames = pipe(**embeds, num_frames=4, num_inference_steps=2, height=32, width=32, output_type="pt").frames
    assert frames.shape == (1, 4, 3, 32, 32)
    assert model.fingerprint()


def test_autoencoder_as_diffusers_converts_it():
    weights = part(published.state_dict(), "vae")
    ours = load_autoencoder(weights)
    theirs = convert_ldm_vae_checkpoint({f"first_stage_model.{k}": v for k, v in weights.items()}, ours.config)
    found = ours.state_dict()
    assert found.keys() == theirs.keys()
    assert all(torch.equal(found[name].flatten(), theirs[name].flatten()) for name in found)


# -- the tokenizer -----------------------------------------------------------------------------------------------------


def test_tokenizer_is_missing(tmp_path):
    path = write(tmp_path / "model.ckpt", {"state_dict": hollow()})
    wanted = (
        r"the tokenizer is not part of a checkpoint, and openai/clip-vit-large-patch14 cannot be loaded .*: where "
        rf"there is a connection run `hf download openai/clip-vit-large-patch14 .* --local-dir {tmp_path}/tokenizer`$"
    )
    refused(path, wanted)
    (tmp_path / "tokenizer").mkdir()
    refused(path, rf"{tmp_path}/tokenizer cannot be loaded .*hf download")
    published.tokenizer().save_pretrained(tmp_path / "tokenizer")
    assert find_model(path).load().tokenizer.model_max_length == 77


def refused(path: Path, message: str, error: type[Exception] = ValueError, **kwargs) -> None:
    with pytest.raises(error, match=message) as caught:
        find_model(path).load(**kwargs)
    assert "\n" not in str(caught.value)


# -- the hub -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch):
    """A hub whose repositories are folders: {"owner/name": folder}."""
    repositories, asked = {}, []

    def download(repository: str, name: str, **kwargs: object) -> str:
        asked.append((repository, name, kwargs))
        if not (path := repositories[repository] / name).is_file():
            raise EntryNotFoundError(f"{repository} has no {name}")
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return repositories, asked


def test_a_hub_id_whose_repository_holds_a_checkpoint(hub, folder, fifo):
    repositories, asked = hub
    repositories["VideoCrafter/VideoCrafter2"] = folder
    with FIFO.from_pretrained("VideoCrafter/VideoCrafter2", device="cpu", revision="main", fps_condition=12) as found:
        assert found.model.fingerprint() == fifo.model.fingerprint()
        assert found.model.fps_condition == 12
    assert asked[-1] == ("VideoCrafter/VideoCrafter2", "model.ckpt", {"revision": "main"})


def test_a_hub_id_without_either(hub, tmp_path):
    repositories, _ = hub
    repositories["someone/else"] = tmp_path
    with pytest.raises(ValueError, match=r"has no model_index\.json: it is no diffusers pipeline"):
        find_model("someone/else")
    (tmp_path / "model.ckpt").touch()
    (tmp_path / "model_index.json").write_text('{"_class_name": "WanPipeline"}')
    assert not find_model("someone/else").is_original  # the diffusers pipeline comes first
    assert not find_model(tmp_path).is_original


def test_a_folder_that_holds_a_checkpoint(folder):
    assert find_model(folder).file == folder / "model.ckpt"


# -- bad input ---------------------------------------------------------------------------------------------------------

UNET, VAE, TEXT = published.PREFIXES.values()


def without(*names: str, variant: str = "vc2"):
    return {name: tensor for name, tensor in hollow(variant).items() if not name.startswith(names)}


def with_(**tensors: Tensor):
    return hollow() | {name.replace("__", "."): tensor for name, tensor in tensors.items()}


one = torch.zeros(1)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (lambda: without(f"{UNET}out.2.bias"), r"VideoCrafter U-Net: 1 missing tensor\(s\): out\.2\.bias$"),
        (lambda: without(f"{VAE}quant_conv"), r"autoencoder: 2 missing tensor\(s\): quant_conv\.bias, quant_conv\.w"),
        (lambda: without(f"{VAE}encoder.down.2"), r"autoencoder: .*missing tensor\(s\): encoder\.down\.2\."),
        (lambda: without(f"{TEXT}ln_final"), r"text tower: 2 missing tensor\(s\): ln_final\.bias, ln_final\.weight$"),
        (lambda: without(f"{TEXT}transformer.resblocks.3.attn.in_proj_weight"), r"text tower: 1 missing .*in_proj_w"),
        (lambda: without(f"{TEXT}transformer.resblocks.23.ln_2"), r"text tower: 2 missing tensor\(s\): .*23\.ln_2\.b"),
        (lambda: without(f"{TEXT}logit_scale"), r"text tower: 1 missing tensor\(s\): logit_scale$"),
        (lambda: without("betas", "alphas_cumprod"), r"checkpoint: 3 missing tensor\(s\): alphas_cumprod, alphas_cum"),
        (lambda: without(TEXT), r"no tensor is called cond_stage_model\.model\.\*: the text_encoder is missing"),
        (lambda: without(VAE), r"no tensor is called first_stage_model\.\*: the vae is missing"),
        (lambda: without(UNET), r"no tensor is called model\.diffusion_model\.\*: the unet is missing"),
        (lambda: without(UNET, VAE, TEXT), r"not a VideoCrafter checkpoint: no tensor is called model\.diffusion_m"),
        (lambda: with_(model_ema__decay=one), r"checkpoint: 1 unknown tensor\(s\): model_ema\.decay$"),
        (lambda: with_(first_stage_model__loss__logvar=one), r"autoencoder: 1 unknown tensor\(s\): loss\.logvar$"),
        (lambda: with_(cond_stage_model__model__visual__proj=one), r"text tower: 1 unknown tensor\(s\): visual\.proj$"),
        (
            lambda: with_(first_stage_model__quant_conv__bias=one),
            r"misshapen .* quant_conv\.bias \(1,\) instead of \(8,",
        ),
        (lambda: with_(cond_stage_model__model__ln_final__bias=one), r"misshapen .* ln_final\.bias \(1,\) instead"),
        (
            lambda: with_(cond_stage_model__model__transformer__resblocks__0__attn__in_proj_bias=torch.zeros(128)),
            r"1 misshapen .*resblocks\.0\.attn\.in_proj_bias \(128,\) instead of \(384,\)$",
        ),
        (lambda: with_(alphas_cumprod=torch.linspace(1, 0, 1000)), r"noise schedule \(alphas_cumprod\) is not Video"),
        (lambda: with_(scale_arr=torch.rand(1400)), r"rescaling of the signal \(scale_arr\) is not of VideoCrafter's"),
        (lambda: with_(scale_arr=torch.ones(10)), r"rescaling of the signal \(scale_arr\) is not of VideoCrafter's"),
        (
            lambda: with_(
                model__diffusion_model__input_blocks__1__1__transformer_blocks__0__attn2__to_k_ip__weight=one
            ),
            "unsupported VideoCrafter variant: image cross-attention",
        ),
    ],
)
def test_wrong_tensors_are_named(tmp_path, state, message):
    path = write(tmp_path / "model.ckpt", {"state_dict": state()})
    parts = {"tokenizer": published.tokenizer()}
    if "U-Net" not in message and "unet" not in message and "variant" not in message:
        parts["unet"] = nn.Identity()  # converting it takes longest
    refused(path, f"^{tmp_path}/model.ckpt: .*{message}", **parts)


class Code:
    def __reduce__(self):
        return os.mkdir, ("ran",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"state_dict": {"a": one}, "callbacks": Code()},
            r"wants to run code when it is loaded \(\w+\.mkdir\), which is ",
        ),
        (
            {"state_dict": {"a": one}, "args": Path("x")},
            r"wants to run code .* if you trust whoever made it, keep its te",
        ),
        ({"state_dict": {"a": 1}}, "is no checkpoint of a model: it holds no state_dict of tensors"),
        ({}, "is no checkpoint of a model"),
        ([one], "is no checkpoint of a model"),
    ],
)
def test_files_that_hold_something_else(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    refused(write(tmp_path / "model.ckpt", content), message)
    (tmp_path / "model.ckpt").write_bytes(pickle.dumps(content))
    refused(tmp_path / "model.ckpt", "wants to run code|neither a PyTorch checkpoint|no checkpoint of a model|damaged")
    assert not Path("ran").exists()


def test_the_advice_for_unsafe_files_works(tmp_path):
    path = write(tmp_path / "old.ckpt", {"state_dict": hollow(), "args": Path("x")})
    with pytest.raises(ValueError, match=r"in Python: (.*)$") as caught:
        find_model(path).load()
    advice = str(caught.value).partition("in Python: ")[2]
    exec(advice, {"torch": torch, "OLD": path, "NEW": tmp_path / "new.ckpt"})
    find_model(tmp_path / "new.ckpt").load(tokenizer=published.tokenizer())


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("model.ckpt", lambda data: data[: len(data) // 2], "is cut off: download it again"),
        ("model.ckpt", lambda data: b"", "neither a PyTorch checkpoint nor safetensors: give a diffusers folder"),
        ("model.ckpt", lambda data: b"x", "give a diffusers folder, or an original VideoCrafter checkpoint"),
        ("model.ckpt", lambda data: b"<html>no such file</html>", "neither a PyTorch checkpoint nor safetensors"),
        ("model.ckpt", lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        ("model.safetensors", lambda data: data, "is damaged or no checkpoint .*: download it again"),
        ("model.safetensors", lambda data: b"", "is damaged or no checkpoint"),
    ],
)
def test_damaged_files(tmp_path, name, damage, message):
    data = write(tmp_path / "whole", {"state_dict": {"a": torch.zeros(1000)}}).read_bytes()
    (tmp_path / name).write_bytes(damage(data))
    refused(tmp_path / name, message)


@pytest.mark.parametrize("name", ["model.ckpt", "models/model.ckpt", "/nowhere/model.safetensors"])
def test_files_that_are_not_there(name):
    refused(Path(name), f"there is no file {name}$")


def test_arguments_that_a_checkpoint_does_not_take(tmp_path):
    path = write(tmp_path / "model.ckpt", {"state_dict": hollow()})
    refused(path, "not loaded with an argument 'variant'", TypeError, variant="fp16")


# -- converting --------------------------------------------------------------------------------------------------------


def test_a_converted_folder_is_the_same_model(fifo, converted):
    with FIFO.from_pretrained(converted, device="cpu") as found:
        assert type(found.pipe).__name__ == "VideoCrafterPipeline"
        assert found.model.fingerprint() == fifo.model.fingerprint()
        assert found.model.fps_condition == fifo.model.fps_condition
        assert found.model.defaults == fifo.model.defaults
        streams = [one.stream("a red ball!", **SMALL) for one in (fifo, found)]
        for _ in range(6):
            before, after = (next(stream) for stream in streams)
            assert same(before, after)
    assert not [path.name for path in converted.parent.iterdir() if path != converted]


def test_a_converted_folder_may_be_told_another_frame_rate(converted):
    with FIFO.from_pretrained(converted, device="cpu", fps_condition=12) as fifo:
        assert fifo.model.fps_condition == 12


def test_a_converted_folder_is_mapped_and_keeps_the_precision(converted):
    pipe = find_model(converted).load(dtype=torch.float16)
    assert not list(converted.rglob("*.bin"))
    for name, module in (("unet", pipe.unet), ("vae", pipe.vae), ("text_encoder", pipe.text_encoder)):
        (file,) = files_behind(module)
        assert Path(file).parent == converted / name


def test_nothing_of_the_libraries_is_said(converted, caplog, capfd):
    find_model(converted).load(dtype=torch.float16)
    said = caplog.text + capfd.readouterr().err
    assert "not expected" not in said
    assert "Expected types" not in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{ckpt}", "{there}"], "exists already: give a new folder, or delete it first"),
        (["{ckpt}", "{new}/deeper"], "choose a folder that exists"),
        (["{there}", "{new}"], "no diffusers pipeline"),
        (["{pipeline}", "{new}"], "is a diffusers pipeline already: use it as it is"),
        (["toybox", "{new}"], "is a diffusers pipeline already"),
        (["nonsense", "{new}"], "unknown model 'nonsense'"),
        (["nonsense.ckpt", "{new}"], "there is no file nonsense.ckpt"),
        (["{broken}", "{new}"], "not a VideoCrafter checkpoint"),
        (["{ckpt}"], "Missing argument .*see fifo-diffusion convert --help"),
    ],
)
def test_what_is_not_converted(folder, converted, tmp_path, capsys, arguments, message):
    there, new = tmp_path / "there", tmp_path / "new"
    there.mkdir()
    broken = write(tmp_path / "broken.ckpt", {"a": one})
    names = {"ckpt": folder / "model.ckpt", "there": there, "new": new, "pipeline": converted, "broken": broken}
    assert main(["convert", *(word.format(**names) for word in arguments)]) in (1, 2)
    said = capsys.readouterr().err.strip().splitlines()
    assert re.search(message, said[-1]), said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.ckpt", "there"]
    assert not list(there.iterdir())


@pytest.mark.parametrize("how", ["disk full", "Ctrl-C", "no space"])
def test_a_failed_conversion_leaves_nothing(folder, tmp_path, capsys, monkeypatch, how):
    from fifo_diffusion.models.unet3d.pipeline import VideoCrafterPipeline

    def fail(self, path, **_):
        Path(path).mkdir()
        (Path(path) / "model_index.json").touch()
        if how == "Ctrl-C":
            signal.raise_signal(signal.SIGINT)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(VideoCrafterPipeline, "save_pretrained", fail)
    if how == "no space":
        usage = shutil.disk_usage(tmp_path)._replace(free=1000)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    code = main(["convert", str(folder / "model.ckpt"), str(tmp_path / "new")])
    assert code == (130 if how == "Ctrl-C" else 1)
    message = {"disk full": "No space left", "Ctrl-C": "stopped by Ctrl-C: nothing was written", "no space": "GB free"}
    assert message[how] in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# -- the command line --------------------------------------------------------------------------------------------------


def generate(model: Path, *more: str) -> int:
    command = ["generate", "a red ball", "--model", str(model), "--height", "32", "--width", "32", "--window", "4"]
    return main([*command, "--num-partitions", "1", "--no-lookahead", "--guidance-scale", "1", "--seed", "0", *more])


def test_forty_frames_from_a_checkpoint_file(folder, tmp_path, capsys):
    output = tmp_path / "ball.mp4"
    assert generate(folder / "model.ckpt", "--num-frames", "40", "--fps-condition", "12", "-o", str(output)) == 0
    assert count_frames(output) == 40
    assert main(["info", str(output)]) == 0
    told = capsys.readouterr().out
    assert "--fps-condition 12" in told
    assert str(folder / "model.ckpt") in told


def test_what_a_killed_conversion_left_is_removed(folder, tmp_path):
    """It has one name, so that it does not pile up; and a conversion that is at work is not disturbed."""
    left = tmp_path / ".out.partial"
    (left / "unet").mkdir(parents=True)
    (left / "unet" / "half.safetensors").write_bytes(b"x")
    with locked(tmp_path / "out"):
        assert main(["convert", str(folder / "model.ckpt"), str(tmp_path / "out")]) == 1
    assert left.exists()
    assert main(["convert", str(folder / "model.ckpt"), str(tmp_path / "out")]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert not list((tmp_path / "out").rglob("half.safetensors"))


def test_dry_run_of_a_file_and_of_a_folder(folder, converted, capsys):
    said = []
    for model in (folder / "model.ckpt", converted):
        assert generate(model, "--dry-run", "-o", "-") == 0
        said.append([line for line in capsys.readouterr().out.splitlines() if not line.startswith("model")])
    assert said[0] == said[1]
    assert "million parameters" in " ".join(said[0])


def test_errors_on_the_command_line_are_one_line(tmp_path, capsys):
    path = write(tmp_path / "model.ckpt", {"state_dict": without(f"{UNET}out.2.bias")})
    assert generate(path, "-o", str(tmp_path / "x.mp4")) == 2
    assert capsys.readouterr().err.count("\n") == 1
    state = write(tmp_path / "old.ckpt", {"state_dict": hollow("vc1_512")})
    published.tokenizer().save_pretrained(tmp_path / "tokenizer")
    assert generate(state, "--fps-condition", "8", "-o", str(tmp_path / "x.mp4")) == 2
    assert "takes no frame rate: leave --fps-condition out" in capsys.readouterr().err
