"""Open-Sora Plan v1.1.0 as streams: pieces of the autoencoder and their joins, starts, states, the command."""

import numpy as np
import pytest
import torch

from fifo_diffusion import FIFO
from fifo_diffusion.cli.main import main
from fifo_diffusion.decoding.pieces import BLEND, MARGIN, SIZE, STRIDE, PieceDecoder
from fifo_diffusion.decoding.timing import LatentTiming
from fifo_diffusion.jobs.cost import Cost
from fifo_diffusion.method import QueueLayout
from fifo_diffusion.models.opensora.tiles import in_chunks
from fifo_diffusion.streaming.state import RunState
from fifo_diffusion.testing import frames, same
from fifo_diffusion.testing.tiny_opensora import autoencoder, latents, pipeline, published_folder, roughness
from fifo_diffusion.video import read_frames

RUN = {"num_partitions": 2, "height": 16, "width": 16, "guidance_scale": 3.0, "seed": 1}
TIMING = LatentTiming(1, 4)
JOINS = [4 * (SIZE - MARGIN - BLEND + k * STRIDE) - 3 for k in range(100)]
"""Frames at which a piece begins to be faded in."""


def numbered(latents):
    """A decoder whose every frame is the number of its place in the clip, plus 1000 times its first latent."""
    first, count = latents[:, 0, 0, 0, 0], TIMING.frames(latents.shape[2])
    frames = torch.arange(count).float()[None] + 1000 * first[:, None]
    return frames[..., None, None, None].expand(-1, -1, 3, 2, 2)


@pytest.mark.parametrize(("size", "stride"), [(17, 4), (9, 2), (6, 2), (17, 13)])
@pytest.mark.parametrize("at_once", [1, 3, 60])
def test_every_latent_comes_out_once_and_in_order(size, stride, at_once):
    """Every frame of a stand-in that says which latent it shows: the right one, wherever the pieces lie."""

    def shown(z):  # every frame shows its latent's number
        return z[:, :1, [0, *np.repeat(range(1, z.shape[2]), 4)]].transpose(1, 2).expand(-1, -1, 3, -1, -1)

    decoder = PieceDecoder(shown, TIMING, size=size, stride=stride)
    z = torch.arange(60.0)[None, None, :, None, None].expand(1, 1, -1, 2, 2)
    given = [decoder.push(part) for part in z.split(at_once, 2)]
    found = torch.cat([*(g for g in given if g.numel()), decoder.flush()], 1)[0, :, 0, 0, 0]
    assert torch.allclose(found, torch.tensor([0, *np.repeat(range(1, 60), 4)]).float())


def test_pieces_are_faded_into_each_other():
    """Between the joins a piece alone; at a join its share grows evenly, frame by frame."""
    decoder, count = PieceDecoder(numbered, TIMING), SIZE + 2 * STRIDE
    z = torch.arange(float(count))[None, None, :, None, None].expand(1, 4, -1, 2, 2)
    found = decoder.push(z)[0, :, 0, 0, 0]
    places = torch.arange(len(found)).float()
    shift = (found - places) / (1000 * STRIDE - 4 * STRIDE)  # how many pieces on: a frame of piece k lies 4 S k earlier
    for k, join in enumerate(JOINS[:2]):
        ramp = (torch.arange(4 * BLEND) + 1) / (4 * BLEND + 1)
        assert torch.allclose(shift[join : join + 4 * BLEND], k + ramp, atol=1e-3)
        assert torch.allclose(shift[join - 4 : join], torch.tensor(float(k)), atol=1e-3)


def test_latency_and_memory_are_as_stated():
    decoder, newest, kept = PieceDecoder(numbered, TIMING), -1, []
    for k in range(100):
        given = decoder.push(torch.zeros(1, 4, 1, 2, 2))
        newest += -(-given.shape[1] // 4)
        assert k - newest <= decoder.latency
        if k >= SIZE:
            assert k - newest <= STRIDE + MARGIN + BLEND - 1
        kept.append(decoder.state()["latents"].shape[2])
    assert max(kept) <= SIZE + 2 * STRIDE


@pytest.mark.parametrize("cut", [3, 17, 18, 30])
def test_a_saved_decoder_goes_on(cut):
    z = latents(34)
    whole, first, second = (PieceDecoder(numbered, TIMING) for _ in range(3))
    expected = [whole.push(part) for part in z.split(1, 2)]
    found = [first.push(part) for part in z[:, :, :cut].split(1, 2)]
    second.load_state(first.state())
    found += [second.push(part) for part in z[:, :, cut:].split(1, 2)]
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)


def test_counting_is_pushing():
    pushed, counted = PieceDecoder(numbered, TIMING), PieceDecoder(numbered, TIMING)
    for part in torch.zeros(1, 4, 60, 2, 2).split(7, 2):
        assert pushed.push(part).shape[1] == counted.skip(part)


@torch.no_grad()
def test_joins_are_no_rougher_than_the_rest():
    """On random weights, whose norms over time differ between pieces more than trained ones' should. Pieces that start
    anew, as published, do not pass."""
    vae, z = autoencoder(), latents(44, size=2)
    decoder = PieceDecoder(lambda z: vae.decode(z).transpose(1, 2), TIMING)
    found = torch.cat([decoder.push(z), decoder.flush()], 1)[0]
    assert max(roughness(found, [range(join, join + 4 * BLEND + 1) for join in JOINS])) <= 1.2
    anew = in_chunks(vae.decode, z, SIZE)[0].transpose(0, 1)
    assert found.shape == anew.shape
    assert max(roughness(anew, [range(65, 66), range(129, 130)])) > 1.5


@pytest.fixture(scope="module")
def fifo():
    with FIFO(pipeline()) as fifo:
        yield fifo


@pytest.fixture(scope="module")
def long(fifo):
    """90 frames; the opening clip is 5 latents, 17 frames."""
    return frames(fifo.stream("a red ball", num_frames=90, **RUN))


def test_the_first_frames_do_not_depend_on_how_many_are_asked_for(fifo, long):
    assert np.array_equal(frames(fifo.stream("a red ball", num_frames=70, **RUN)), long[:70])
    assert np.array_equal(frames(fifo.stream("a red ball", **RUN), 60), long[:60])


def test_a_video_that_is_only_its_clip_fills_no_queue(fifo, long):
    """It is decoded from what there is, and may be continued."""
    with fifo.stream("a red ball", num_frames=17, **RUN) as stream:
        clip = frames(stream)
        state = stream.state()
    assert state.position.iteration == 0
    whole = fifo.model.output(fifo.model._decode(_clip(fifo)).float(), "pt").frames
    assert same(clip, (whole[0].permute(0, 2, 3, 1) * 255).round().byte().numpy())
    rest = frames(fifo.stream(start=state, num_frames=90))
    assert len(rest) == 90 - 17
    assert np.array_equal(rest, long[17:])


def _clip(fifo):
    return fifo("a red ball", num_frames=17, output_type="latent", **RUN).frames


@pytest.mark.parametrize("cut", [*(pytest.param(k, marks=pytest.mark.slow) for k in (5, 57)), 40])
def test_a_saved_run_goes_on(fifo, long, cut, tmp_path):
    with fifo.stream("a red ball", **RUN) as stream:
        first = frames(stream, cut)
        stream.state().save(tmp_path / "run.safetensors")
    state = RunState.load(tmp_path / "run.safetensors")
    found = np.concatenate([first, frames(fifo.stream(start=state, num_frames=90))])
    assert np.array_equal(found, long)


def test_latents_are_those_that_the_frames_come_from(fifo, long):
    """The last frames are left out: in `long` they are faded into what comes next."""
    result = fifo("a red ball", num_frames=90, output_type="latent", **RUN).frames
    assert result.shape[2] == 24
    decoder = fifo.model.decoder()
    found = decoder.push(result)[0]
    assert same((found.permute(0, 2, 3, 1) * 255).round().byte().numpy(), long[: len(found)])


@pytest.mark.parametrize("include", [True, False])
def test_given_frames_go_on(fifo, include):
    """More frames than a window, so that they are known: shown as they are, or only seen by the model."""
    given = np.random.default_rng(0).integers(0, 255, (19, 16, 16, 3), dtype=np.uint8)
    run = {"start": given, "include_start": include, "num_frames": 24, **RUN}
    found = frames(fifo.stream("a red ball", **run))
    assert np.array_equal(found[:19], given) == include
    new = found[19:] if include else found
    known = fifo.model.encode(given)
    assert known.shape[2] == 5
    # What the model saw is held back by the decoder, and must not come out in place of new frames.
    seen = fifo.model._decode(known)[0, -len(new) :].float().permute(0, 2, 3, 1)
    assert not same((seen * 255).round().byte().numpy(), new[-len(seen) :], tolerance=20)


def test_an_image_begins_a_clip(fifo):
    picture = np.random.default_rng(0).integers(0, 255, (1, 16, 16, 3), dtype=np.uint8)
    found = frames(fifo.stream("a red ball", start=picture, include_start=True, num_frames=17, **RUN))
    assert found.shape == (17, 16, 16, 3)


def test_from_noise_and_without_lookahead(fifo):
    run = {"start": "noise", "lookahead": False, "num_frames": 9, **RUN}
    found = frames(fifo.stream("a red ball", **run))
    assert np.array_equal(found, frames(fifo.stream("a red ball", **run)))
    assert found.std() > 5


def test_published_profile_is_another_video(fifo):
    published = fifo("a red ball", num_frames=30, compat="published", output_type="latent", **RUN).frames
    corrected = fifo("a red ball", num_frames=30, output_type="latent", **RUN).frames
    assert published.shape == corrected.shape
    assert published.abs().max() <= 1 + 1e-5 < corrected.abs().max()


@pytest.mark.parametrize("count", [60, *(pytest.param(k, marks=pytest.mark.slow) for k in (77, 90))])
def test_the_cost_counts_what_the_decoder_waits_for(fifo, count):
    """Never too little, once the first piece is there, and less than a stride of latents too much."""
    layout = QueueLayout(5, 2)
    stream, rows = fifo.stream("a red ball", num_frames=count, **RUN), []
    predict = stream._model.predict
    fifo.model.predict = lambda x, *a, **k: rows.append(2 * len(x) * x.shape[2]) or predict(x, *a, **k)
    frames(stream)
    del fifo.model.predict
    cost = Cost(layout, 2, total=count, timing=TIMING, decoder_latency=fifo.model.decoder_latency).until(count)
    assert sum(rows) <= cost < sum(rows) + STRIDE * layout.frame_forwards * 2


def test_prompts_are_encoded_once(fifo):
    """With guidance two texts per prompt, whatever the length."""
    seen = []
    handle = fifo.pipe.text_encoder.register_forward_hook(lambda *_: seen.append(1))
    frames(fifo.stream({0: "a red ball", 21: "a dog"}, num_frames=45, **RUN))
    handle.remove()
    assert len(seen) == 4


@pytest.mark.parametrize("window", [17, 56])
def test_lookahead_covers_every_slot(window):
    """Also where f is odd, or f' even and f the length of the long version: the published loops miss slots."""
    layout = QueueLayout(window, 4)
    written = sorted(p for w in layout.windows for p in w.writes)
    assert written == list(range(layout.context, layout.size))
    assert all(w.writes.start - w.reads.start >= window // 2 for w in layout.windows)


def test_the_long_version():
    """f = 56: one tiny run."""
    changes = {"num_layers": 1, "num_attention_heads": 1, "cross_attention_dim": 16, "video_length": 56}
    with FIFO(pipeline(**changes)) as fifo:
        assert fifo.model.frames == 56
        latents = fifo("a red ball", num_frames=229, output_type="latent", **RUN | {"num_partitions": 1}).frames
    assert latents.shape[2] == 58
    assert latents.isfinite().all()


def test_forty_frames_by_the_command(tmp_path):
    folder, video = published_folder(tmp_path / "plan"), tmp_path / "out.mp4"
    arguments = ["--num-frames", "40", "--height", "16", "--width", "16", "--num-partitions", "1", "--quiet"]
    assert main(["generate", "a cat", "--model", str(folder), "-o", str(video), *arguments]) == 0
    assert len(read_frames(video)) == 40
