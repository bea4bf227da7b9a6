"""Class-conditional Latte: the contract, the network against one written out frame by frame, published files."""

from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as functional

from fifo_diffusion import FIFO
from fifo_diffusion.cli.main import main
from fifo_diffusion.models.class_latte.pipeline import ClassLatteTransformer
from fifo_diffusion.models.loading.source import find_model
from fifo_diffusion.testing import distance
from fifo_diffusion.testing.contract.families import LatteContract
from fifo_diffusion.testing.tiny_latte import class_pipeline
from fifo_diffusion.video import read_frames


class TestClassLatte(LatteContract):
    prompts = ("3", "7")
    frames_argument = "num_frames"

    def make_pipe(self):
        return class_pipeline()

    def stock(self, pipe, latents, timestep, text):
        with torch.no_grad():
            return pipe.transformer(latents, timestep.expand(len(latents)), text[:, 0])[:, : latents.shape[1]]

    @contextmanager
    def without_frame_mixing(self):
        for block in self.current.transformer.blocks[1::2]:
            attention = block.attn
            attention.forward = lambda x, a=attention: a.proj(a.qkv(x).chunk(3, -1)[2])
        yield
        for block in self.current.transformer.blocks[1::2]:
            del block.attn.forward

    def test_a_wrong_shape_is_caught(self, pipe, model, monkeypatch):
        condition, forward = self.condition(model, self.prompts[:1]), pipe.transformer.forward
        monkeypatch.setattr(pipe.transformer, "forward", lambda *a: forward(*a)[:, :, :-1])
        with pytest.raises(RuntimeError, match="one timestep per frame"):
            model.predict(self.latents(model, 1), self.rising(model), condition)


@torch.no_grad()
def written_out(state, x, timestep, number):
    """The public network for one clip (C, F, H, W) at one timestep, written out step by step."""
    width, heads, frames = 384, 6, x.shape[1]
    norm = lambda h: functional.layer_norm(h, (width,), eps=1e-6)  # noqa: E731

    def linear(name, h):
        return functional.linear(h, state[f"{name}.weight"], state[f"{name}.bias"])

    def attention(name, h):  # (N, D)
        q, k, v = linear(f"{name}.qkv", h).chunk(3, -1)
        parts = []
        for a, b, c in zip(*(part.chunk(heads, -1) for part in (q, k, v)), strict=True):
            parts.append(((a @ b.T) * (width // heads) ** -0.5).softmax(-1) @ c)
        return linear(f"{name}.proj", torch.cat(parts, -1))

    def block(index, h):
        s1, c1, g1, s2, c2, g2 = linear(f"blocks.{index}.adaLN_modulation.1", functional.silu(condition)).chunk(6)
        h = h + g1 * attention(f"blocks.{index}.attn", norm(h) * (1 + c1) + s1)
        inner = functional.gelu(linear(f"blocks.{index}.mlp.fc1", norm(h) * (1 + c2) + s2), approximate="tanh")
        return h + g2 * linear(f"blocks.{index}.mlp.fc2", inner)

    angles = timestep * 10000 ** (-torch.arange(128) / 128)
    time = functional.silu(linear("t_embedder.mlp.0", torch.cat([angles.cos(), angles.sin()])))
    condition = linear("t_embedder.mlp.2", time) + state["y_embedder.embedding_table.weight"][number]
    tokens = []
    for frame in x.unbind(1):
        patches = functional.unfold(frame[None], 2, stride=2)[0].T  # (P, C 2 2)
        embedded = functional.linear(patches, state["x_embedder.proj.weight"].flatten(1), state["x_embedder.proj.bias"])
        tokens.append(embedded + state["pos_embed"][0])
    h = torch.stack(tokens)  # (F, P, D)
    for pair in (0, 2):
        h = torch.stack([block(pair, frame) for frame in h])
        if pair == 0:
            h = h + state["temp_embed"][0, :frames, None]
        h = torch.stack([block(pair + 1, patch) for patch in h.transpose(0, 1)]).transpose(0, 1)
    shift, scale = linear("final_layer.adaLN_modulation.1", functional.silu(condition)).chunk(2)
    out = linear("final_layer.linear", norm(h) * (1 + scale) + shift)  # (F, P, 2 2 C)
    video = torch.zeros(8, frames, 8, 8)
    for p in range(16):
        top, left = 2 * (p // 4), 2 * (p % 4)
        video[:, :, top : top + 2, left : left + 2] = out[:, p].reshape(frames, 2, 2, 8).permute(3, 0, 1, 2)
    return video


def test_the_network_is_the_public_one():
    transformer = class_pipeline().transformer
    x = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        classes = transformer.y_embedder.embedding_table(torch.tensor([3]))
        found = transformer(x[None], torch.tensor([613]), classes)[0]
    assert distance(found, written_out(transformer.state_dict(), x, 613, 3)) < 1e-5


def test_all_names_at_full_size():
    with torch.device("meta"):
        names = {name: tuple(v.shape) for name, v in ClassLatteTransformer().state_dict().items()}
    assert len(names) == 28 * 10 + 13
    assert names["blocks.27.attn.qkv.weight"] == (3456, 1152)
    assert names["y_embedder.embedding_table.weight"] == (102, 1152)
    assert (names["pos_embed"], names["temp_embed"]) == ((1, 256, 1152), (1, 16, 1152))
    assert names["final_layer.linear.weight"] == (32, 1152)


@pytest.fixture
def file(tmp_path):
    pipe = class_pipeline()
    torch.save({"ema": pipe.transformer.state_dict(), "model": {}}, tmp_path / "ucf101.pt")
    pipe.vae.save_pretrained(tmp_path / "vae")
    return tmp_path / "ucf101.pt"


def test_a_published_file_by_the_command(file, tmp_path):
    arguments = ["--num-frames", "8", "--num-partitions", "1", "--quiet", "--model", str(file)]
    assert main(["generate", "7", *arguments, "-o", str(tmp_path / "out.mp4")]) == 0
    assert len(read_frames(tmp_path / "out.mp4")) == 8


def test_what_is_refused(file):
    with FIFO(find_model(file).load()) as fifo:
        assert fifo.model.frames == 4
        with pytest.raises(ValueError, match="'a cat' is not a class of this model: give a number from 0 to 9"):
            next(fifo.stream("a cat", num_partitions=1))
        with pytest.raises(ValueError, match="makes 16 and 16 only"):
            fifo.stream("3", height=32, width=16)
    (file.parent / "vae").rename(file.parent / "old")
    with pytest.raises(ValueError, match=r"not part of Latte's file.*`hf download stabilityai/sd-vae-ft-ema"):
        find_model(file).load()
    state = torch.load(file)["ema"]
    del state["blocks.1.mlp.fc1.weight"]
    torch.save({"ema": state}, file)
    with pytest.raises(ValueError, match=r"ucf101\.pt: class-conditional Latte: 1 missing tensor"):
        find_model(file).load()
