"""Autoencoders whose user switched tiling over height and width on: the stream is then their own tiled decoding."""

import pytest
import torch

from fifo_diffusion import FIFO, RunState
from fifo_diffusion.cli.main import main
from fifo_diffusion.models import registry
from fifo_diffusion.models.wan.decoder import WanDecoder
from fifo_diffusion.testing import distance, frames, same, tiny, tiny_wan
from fifo_diffusion.testing.contract.families import CogVideoXContract, UNet3DContract, WanContract
from fifo_diffusion.testing.contract.transformers import (
    EasyAnimateContract,
    HunyuanVideoContract,
    LTX2Contract,
    LTXContract,
    MochiContract,
)
from fifo_diffusion.video import read_metadata


class Wan22(WanContract):
    def make_pipe(self):
        return tiny_wan.picture()


SUBJECTS = [UNet3DContract, WanContract, Wan22, CogVideoXContract, MochiContract, EasyAnimateContract, LTXContract]
SUBJECTS += [LTX2Contract, HunyuanVideoContract]


def tiled(pipe):
    """Tiles of 4 latents, which overlap by one."""
    vae = pipe.vae
    vae.enable_tiling()
    if hasattr(vae, "tile_latent_min_size"):  # of single pictures
        vae.tile_latent_min_size, vae.tile_sample_min_size = 4, 4 * 2 ** (len(vae.config.block_out_channels) - 1)
    elif hasattr(vae, "tile_overlap_factor_height"):
        vae.tile_overlap_factor_height = vae.tile_overlap_factor_width = 0.25
        vae.enable_tiling(tile_sample_min_height=32, tile_sample_min_width=32)
    else:
        factor = vae.spatial_compression_ratio
        vae.tile_sample_min_height = vae.tile_sample_min_width = 4 * factor
        vae.tile_sample_stride_height = vae.tile_sample_stride_width = 3 * factor
    return pipe


def streamed(model, latents):
    decoder = model.decoder()
    parts = [*(decoder.push(part) for part in latents.split([2, 3], 2)), decoder.flush()]
    return torch.cat([part for part in parts if part.numel()], 1)


@pytest.mark.parametrize("kind", SUBJECTS, ids=lambda kind: kind.__name__)
def test_a_stream_is_the_autoencoders_own_tiled_decoding(kind):
    """Of latents of 8 x 5: three tiles down, two across."""
    subject, pipe = kind(), kind().make_pipe()
    model = registry.wrap(pipe)
    channels = model.latent_shape(64, 64)[0]
    latents = torch.randn(1, channels, 5, 8, 5, generator=torch.Generator().manual_seed(1))
    whole = streamed(model, latents)
    expected = subject.whole_decoding(tiled(pipe), latents)
    found = streamed(model, latents)
    assert distance(found, expected) < 1e-5
    assert distance(found, whole) > 1e-3


def test_tiling_that_begins_while_a_video_runs():
    """From the next latent on, as if it had been so from the beginning."""
    call = tiny_wan.SIZE | {"window": 3, "num_partitions": 1, "seed": 1, "height": 64, "width": 64}
    expected = frames(FIFO(tiled(tiny_wan.pipeline())).stream("a cat", num_frames=25, **call))
    whole = frames(FIFO(tiny_wan.pipeline()).stream("a cat", num_frames=25, **call))
    assert not same(whole[9:], expected[9:])
    pipe = tiny_wan.pipeline()
    stream = FIFO(pipe).stream("a cat", num_frames=25, **call)
    begun = frames(stream, 9)
    assert same(begun, whole[:9])
    tiled(pipe)
    assert same(frames(stream)[-12:], expected[-12:])


def test_slicing_decodes_video_by_video():
    pipe, sizes = tiny_wan.pipeline(), []
    latents = torch.randn(2, 4, 5, 4, 4, generator=torch.Generator().manual_seed(1))
    model = registry.wrap(pipe)
    expected = streamed(model, latents)
    pipe.vae.enable_slicing()
    pipe.vae.decoder.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    assert distance(streamed(model, latents), expected) < 1e-5
    assert set(sizes) == {1}


RUN = ["--num-frames", "3", "--window", "3", "--num-partitions", "1", "--height", "32", "--width", "32", "--quiet"]


def test_by_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tiny.pipeline(**tiny.LIGHT).save_pretrained("model")
    command = ["generate", "a cat", "--model", "model", "-o", "cat.mp4", "--state", "cat.state", *RUN]
    assert main([*command, "--vae-tiling"]) == 0
    assert read_metadata("cat.mp4")["vae_tiling"] == "true"
    assert "--vae-tiling" in read_metadata("cat.mp4")["command"]
    assert RunState.load("cat.state").notes["vae_tiling"] is True
    assert main([*command, "-o", "other.mp4", "--state", "other.state"]) == 0
    assert "vae_tiling" not in read_metadata("other.mp4")
    assert main(["generate", "--state", "other.state", "--num-frames", "5", "--vae-tiling"]) == 2
    assert "was saved without --vae-tiling" in capsys.readouterr().err
    assert FIFO.from_pretrained("model", vae_tiling=True).pipe.vae.use_tiling


def test_where_it_would_not_be_used_it_is_refused(tmp_path, monkeypatch, capsys):
    pipe = tiny_wan.pipeline()
    pipe.save_pretrained(tmp_path / "model")
    monkeypatch.setattr(WanDecoder, "tiling", False)
    assert main(["generate", "a cat", "--model", str(tmp_path / "model"), "--dry-run", "--vae-tiling"]) == 2
    assert "Wan models are decoded whole here, and the autoencoder's tiling is on: leave --vae-tiling out" in (
        " ".join(capsys.readouterr().err.split())
    )
    stream = FIFO(pipe).stream("a cat", num_frames=9, window=3, num_partitions=1, **tiny_wan.SIZE)
    next(stream)
    pipe.vae.enable_tiling()
    with pytest.raises(ValueError, match=r"leave pipe\.vae\.enable_tiling\(\) out$"):
        list(stream)
    with pytest.raises(ValueError, match=r"leave pipe\.vae\.enable_tiling\(\) out$"):
        FIFO(pipe)
