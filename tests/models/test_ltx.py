"""LTX-Video: the contract, its streaming decoder, and levels that shift with the size of a window."""

import pytest
import torch
from diffusers import AutoencoderKLLTXVideo

from fifo_diffusion import FIFO
from fifo_diffusion.models import registry
from fifo_diffusion.models.ltx.decoder import LTXDecoder
from fifo_diffusion.testing import TOLERANCE, distance, frames, same
from fifo_diffusion.testing.contract import VARIANT
from fifo_diffusion.testing.contract.transformers import LTXContract
from fifo_diffusion.testing.tiny_ltx import SIZE, TOLD, pipeline, vae


class TestLTX(LTXContract):
    """Dynamic shifting and a terminal sigma, as the checkpoints have them."""


@pytest.mark.slow
class TestLTXOfBothWays(LTXContract):
    """With a decoder that looks ahead, is told a time and adds noise, as version 0.9.1 has it."""

    without = VARIANT

    def make_pipe(self):
        return pipeline(TOLD, num_layers=1, num_attention_heads=1, cross_attention_dim=12)


DECODERS = {
    "both ways": {},
    "back only": {"decoder_causal": True},
    "told and noisy": TOLD,
    "two scales": {
        "spatio_temporal_scaling": (True, True),
        "decoder_spatio_temporal_scaling": (True, True),
        "patch_size": 2,
    },
}


@pytest.mark.parametrize("changes", DECODERS.values(), ids=DECODERS)
def test_frames_come_as_late_as_the_decoder_looks_ahead(changes):
    """And are those of the whole video; also after frames that nobody sees, and after a saved state."""
    made = vae(**changes)
    x = torch.randn(1, 4, 34, 4, 4, generator=torch.Generator().manual_seed(0))
    whole, skipping, resumed = LTXDecoder(made), LTXDecoder(made), LTXDecoder(made)
    found = torch.cat([whole.push(part) for part in x.split(17, 2)], 1)
    timing = whole.timing
    assert timing.frames(34 - whole.latency) <= found.shape[1] < timing.frames(35 - whole.latency)
    assert (whole.latency == 0) == bool(changes.get("decoder_causal"))
    assert distance(torch.cat([found, whole.flush()], 1), stock(made, x)) < TOLERANCE
    assert torch.equal(whole.flush(), whole.flush())
    count = skipping.skip(x[:, :, :30])
    resumed.load_state(skipping.state())
    assert resumed.state()["past"].shape[2] < 30
    for decoder in (skipping, resumed):
        assert distance(decoder.push(x[:, :, 30:]), found[:, count:]) < TOLERANCE
    shifted = LTXDecoder(made)
    shifted.load_state({name: value.roll(1, 2) if name == "past" else value for name, value in resumed.state().items()})
    assert distance(shifted.push(x[:, :, 30:]), found[:, count:]) > 100 * TOLERANCE


def stock(made, latents):
    """The autoencoder's own decoding of all latents."""
    mean, std = (value.view(1, -1, 1, 1, 1) for value in (made.latents_mean, made.latents_std))
    time = torch.zeros(len(latents)) if made.config.timestep_conditioning else None
    torch.manual_seed(0)
    with torch.no_grad():
        return (made.decode(latents * std + mean, time).sample / 2 + 0.5).clamp(0, 1).transpose(1, 2)


def test_a_stream_with_a_decoder_that_looks_ahead_is_its_latents_decoded_as_a_whole():
    call = SIZE | {"window": 4, "num_partitions": 1, "lookahead": False, "seed": 1}
    with FIFO(pipeline()) as fifo:
        late = fifo.model.decoder_latency
        latents = fifo("a cat", num_frames=9 + 2 * late, output_type="latent", **call).frames
        latents = latents.transpose(1, 2).unflatten(2, (-1, 4, 4))
        expected = (stock(fifo.pipe.vae, latents)[0, :9] * 255).round().to(torch.uint8).movedim(1, -1)
        assert same(frames(fifo.stream("a cat", num_frames=9, **call)), expected.numpy())


def test_the_published_layout_waits_for_24_latents():
    """As of version 0.9.0, whose numbers of layers are diffusers' own defaults."""
    with torch.device("meta"):
        assert LTXDecoder(AutoencoderKLLTXVideo()).latency == 24
        assert LTXDecoder(AutoencoderKLLTXVideo(decoder_causal=True)).latency == 0


def test_encoded_texts_come_with_their_mask():
    call = SIZE | {"guidance_scale": 1.0, "window": 3, "num_partitions": 1, "lookahead": False, "seed": 0}
    with FIFO(pipeline({"decoder_causal": True})) as fifo:
        with torch.no_grad():
            embeds, mask, *_ = fifo.pipe.encode_prompt(
                "a cat", do_classifier_free_guidance=False, max_sequence_length=8
            )
        found = next(fifo.stream(prompt_embeds=embeds, prompt_attention_mask=mask, **call))
        assert same(found, next(fifo.stream("a cat", **call)))
        with pytest.raises(ValueError, match=r"^prompt_attention_mask belongs to prompt_embeds .*: give it too$"):
            fifo.stream(prompt_embeds=embeds, **call)


def test_levels_shift_with_the_size_of_the_window():
    model = registry.wrap(pipeline())
    few, many = (model.levels(8, size=(f, 32, 32)).sigma for f in (2, 4))
    assert few[0] == pytest.approx(0.1)  # shift_terminal
    assert bool((few[1:-1] < many[1:-1]).all())
    own = model.pipe.scheduler
    own.set_timesteps(sigmas=[1.0, 0.8, 0.5], mu=model.spacing(3, (4, 32, 32))["mu"])
    chosen = model.levels(3, size=(4, 32, 32), sigmas=(1.0, 0.8, 0.5))  # of a distilled model, say
    assert chosen.sigma.flip(0).tolist() == pytest.approx(own.sigmas[:3].tolist())
    with pytest.raises(ValueError, match="guidance_rescale would have no effect here"):
        model.condition(["a cat"], guidance_rescale=0.5, **SIZE)
