"""MiniMax-H3 without sound: the contract, its groups of latents, its grid, and its limits."""

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, MiniMaxH3ModularPipeline, MiniMaxH3Scheduler

from fifo_diffusion import FIFO
from fifo_diffusion.models import registry
from fifo_diffusion.models.minimax_h3.decoder import apart, together
from fifo_diffusion.testing import TOLERANCE, distance, frames
from fifo_diffusion.testing.contract import VARIANT
from fifo_diffusion.testing.contract.minimax_h3 import MiniMaxH3Contract
from fifo_diffusion.testing.tiny_minimax_h3 import FEW, pipeline


class TestMiniMaxH3(MiniMaxH3Contract):
    pass


class TestMiniMaxH3InTiles(MiniMaxH3Contract):
    """Wider, with an autoencoder that decodes in tiles, as the published one does."""

    frames, width = 2, 24
    opening = 34
    without = VARIANT

    def make_pipe(self):
        pipe = pipeline({"decoder_num_layers": 1}, num_layers=1, rope_freq_dim=1)
        pipe.vae.enable_tiling(16, 16, 4, 4)
        return pipe


def test_groups_are_taken_apart_and_put_together():
    x = torch.arange(2 * 3 * 10 * 2 * 2).view(2, 3, 10, 2, 2)
    groups = together(x, 5)
    assert groups.shape == (2, 15, 2, 2, 2)
    assert torch.equal(groups[:, 3:6, 1], x[:, :, 6])  # the second latent of the second group
    assert torch.equal(apart(groups, 5), x)


@pytest.mark.parametrize("pushes", [[1] * 6, [2, 4], [6]])
def test_decoding_does_not_depend_on_pushes_nor_on_stops(pushes):
    """Nor on what is skipped. All is the decoding of the whole video."""
    with FIFO(pipeline()) as fifo:
        model, x = fifo.model, torch.randn(1, 20, 6, 4, 4, generator=torch.Generator().manual_seed(0))
        whole = MiniMaxH3Contract().whole_decoding(fifo.pipe, x)
        decoder, pieces = model.decoder(), []
        for piece in x.split(pushes, 2):
            pieces.append(decoder.push(piece))
            state, decoder = decoder.state(), model.decoder()
            decoder.load_state(state)
        pieces.append(decoder.flush())
        assert distance(torch.cat([p for p in pieces if p.numel()], 1), whole) < TOLERANCE
        later = model.decoder()
        assert later.skip(x[:, :, :4]) == 51
        found = torch.cat([later.push(x[:, :, 4:]), later.flush()], 1)
        assert distance(found, whole[:, 51:]) < TOLERANCE


def test_the_levels_are_the_pipelines_grid():
    """Of one step more, as the pipeline counts the clean end too."""
    pipe = pipeline()
    model = registry.wrap(pipe)
    pipe.scheduler.set_timesteps(9)
    levels = model.levels(8)
    assert torch.equal(levels.timestep, pipe.scheduler.timesteps.flip(0))
    assert torch.allclose(levels.sigma.float(), 1 - pipe.scheduler.timesteps.flip(0))
    assert (float(levels.target_sigma[0]), float(levels.sigma[-1])) == (0.0, 1.0)
    own = model.levels(3, sigmas=(1.0, 0.9, 0.5))
    assert own.sigma.tolist() == pytest.approx([0.5, 0.9, 1.0])
    pipe.scheduler = MiniMaxH3Scheduler(shift=3.0)
    assert float(model.levels(8).sigma[0]) < float(levels.sigma[0])
    for options, what in (
        ({"eta": 0.5}, r"^eta=0.5: MiniMaxH3Scheduler adds no noise: leave it out$"),
        ({"timesteps": (0.0, 0.5)}, "MiniMaxH3Scheduler takes no timesteps: give sigmas"),
        ({"sigmas": (1.0, 0.5)}, "they make 2 steps, and the queue has 8 levels"),
        ({"published": True}, "no published FIFO code for MiniMax-H3"),
    ):
        with pytest.raises(ValueError, match=what):
            model.levels(8, **options)
    pipe.scheduler = FlowMatchEulerDiscreteScheduler()
    with pytest.raises(ValueError, match="does not go with MiniMax-H3: leave its MiniMaxH3Scheduler in place"):
        model.levels(8)


def test_defaults_and_output():
    with FIFO(pipeline()) as fifo:
        expected = {"guidance_scale": 1.0, "height": 760, "width": 1352, "fps": 24, "eta": 0.0}  # multiples of 8 here
        assert (fifo.model.frames, fifo.model.defaults) == (8, expected)
        latents = fifo("a dog", num_frames=34, output_type="latent", seed=0, lookahead=False, **FEW).frames
        assert latents.shape == (1, 4, 10, 4, 4)
        shown = fifo("a dog", num_frames=34, output_type="pt", seed=0, lookahead=False, **FEW).frames
        assert shown.shape == (1, 34, 3, 16, 16)
        assert distance(shown, MiniMaxH3Contract().whole_decoding(fifo.pipe, together(latents, 5))) < 0.01  # 8 bits
        with pytest.raises(ValueError, match="the prompt is empty: MiniMax-H3 needs a text"):
            fifo.stream("", **FEW)
        with pytest.raises(TypeError, match="references"):
            fifo.stream("a dog", references=[], **FEW)


def test_a_video_begins_with_a_picture_or_with_frames():
    """Seventeen frames make a group, of which the autoencoder's own `encode` drops the last latents at the end."""
    pipe = pipeline()
    with FIFO(pipe) as fifo:
        clip = np.random.default_rng(0).integers(0, 255, (34, 16, 16, 3), np.uint8)
        found = fifo.model.encode(clip)
        pixels = torch.from_numpy(clip).permute(3, 0, 1, 2)[None] / 255
        mean, std = (torch.tensor(values).view(1, -1, 1, 1, 1) for values in (pipe.pixel_mean, pipe.pixel_std))
        with torch.no_grad():
            stock = pipe.vae.encode((pixels - mean) / std).latent_dist.mode()
        mean, std = (torch.tensor(pipe.vae.config[f"latents_{k}"]).view(1, -1, 1, 1, 1) for k in ("mean", "std"))
        assert distance(apart(found, 5)[:, :, : stock.shape[2]], (stock - mean) / std) < TOLERANCE
        assert torch.equal(fifo.model.encode(clip[:1]), fifo.model.encode(np.repeat(clip[:1], 17, 0)))
        for start in (clip, clip[0]):
            assert frames(fifo.stream("a dog", start=start, seed=0, **FEW), 40).shape == (40, 16, 16, 3)


def test_what_is_not_loaded_is_named_with_what_to_type():
    what = r'no text_encoder.*transformer.* yet: call pipe.load_components\(workflow="t2va"\), or pipe.update'
    with pytest.raises(ValueError, match=what) as error:
        FIFO(MiniMaxH3ModularPipeline())
    assert "transformer_ref" not in str(error.value)


def test_offloaded_by_layers():
    """A modular pipeline has no methods for it: `--offload group` is done part by part, the others are refused."""
    with FIFO(pipeline()) as fifo:
        model, cpu = fifo.model, torch.device("cpu")
        x, t = torch.randn(1, 20, 2, 4, 4), model.levels(4).timestep[1:3][None]
        expected = model.predict(x, t, model.condition(["a dog"])), model.decoder().push(x)
        with pytest.raises(ValueError, match="a modular pipeline cannot: use offload='group'"):
            model.offload("model", cpu)
        model.offload("group", cpu)
        assert distance(model.predict(x, t, model.condition(["a dog"])), expected[0]) < TOLERANCE
        assert distance(model.decoder().push(x), expected[1]) < TOLERANCE
