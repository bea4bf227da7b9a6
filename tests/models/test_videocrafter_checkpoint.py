"""Original VideoCrafter checkpoints: complete random files in the published format, loaded."""

from pathlib import Path

import huggingface_hub
import pytest
import torch
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
from huggingface_hub.errors import EntryNotFoundError
from safetensors.torch import save_file
from torch import Tensor, nn

from fifo_diffusion import FIFO
from fifo_diffusion.models import registry
from fifo_diffusion.models.loading.source import find_model
from fifo_diffusion.models.loading.weights import read_weights
from fifo_diffusion.models.videocrafter.checkpoint import (
    load_autoencoder,
    load_checkpoint,
    load_text_tower,
)
from fifo_diffusion.testing import distance, golden, published
from videocrafter_files import SMALL, files_behind, hollow, part, refused, write

pytestmark = pytest.mark.usefixtures("no_traces")
VARIANTS = ["vc2", "vc1_512", "vc1_1024"]


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


def test_the_frame_rate_of_a_checkpoint(videocrafter):
    frames = [next(videocrafter.stream("a ball", fps_condition=fps, **SMALL)) for fps in (8, 24)]
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
def test_precision(videocrafter_folder, dtype):
    pipe = find_model(videocrafter_folder / "model.ckpt").load(dtype=dtype)
    parts = (pipe.unet, pipe.vae, pipe.text_encoder)
    assert {p.dtype for module in parts for p in module.parameters()} == {dtype or torch.float16}
    assert not any(module.training for module in parts)


def test_weights_stay_in_the_file(videocrafter_folder):
    """Where the precision is that of the file, nothing is read before it is used."""
    pipe = find_model(videocrafter_folder / "model.ckpt").load()
    for module in (pipe.unet, pipe.vae, pipe.text_encoder):
        assert files_behind(module) == {str(videocrafter_folder / "model.ckpt")}


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


def test_text_tower_of_a_whole_checkpoint(videocrafter):
    weights = {k: v.float() for k, v in part(published.small_state_dict(torch.float16), "text").items()}
    ids, _ = videocrafter.pipe.tokenize(["a red ball!", ""])
    with torch.no_grad():
        found = videocrafter.pipe.text_encoder(ids).last_hidden_state
    assert distance(found, reference_text(weights, ids, heads=1)) < 1e-5
    assert distance(found, videocrafter.pipe.encode_text(["a red ball!", ""])) < 1e-6
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


def test_a_hub_id_whose_repository_holds_a_checkpoint(hub, videocrafter_folder, videocrafter):
    repositories, asked = hub
    repositories["VideoCrafter/VideoCrafter2"] = videocrafter_folder
    with FIFO.from_pretrained("VideoCrafter/VideoCrafter2", device="cpu", revision="main", fps_condition=12) as found:
        assert found.model.fingerprint() == videocrafter.model.fingerprint()
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


def test_a_folder_that_holds_a_checkpoint(videocrafter_folder):
    assert find_model(videocrafter_folder).file == videocrafter_folder / "model.ckpt"
