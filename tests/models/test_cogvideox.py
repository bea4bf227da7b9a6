"""CogVideoX: its contract, its decoder, and streams as a user has them."""

import numpy as np
import pytest
import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler

from fifo_diffusion import FIFO
from fifo_diffusion.cli.main import main
from fifo_diffusion.decoding.frames import to_uint8
from fifo_diffusion.models import registry
from fifo_diffusion.models.shared.schedulers import read_levels
from fifo_diffusion.testing import TOLERANCE, distance, frames, same
from fifo_diffusion.testing.contract import VARIANT
from fifo_diffusion.testing.contract.families import CogVideoX15Contract, CogVideoXContract, single
from fifo_diffusion.testing.tiny_cogvideox import FEW, SCHEDULER, SIZE, pipeline
from fifo_diffusion.video import read_frames


class TestCogVideoX(CogVideoXContract):
    """With rotary positions, as the model of 5B."""

    def test_a_wrong_shape_is_caught(self, pipe, model, monkeypatch):
        condition, forward = self.condition(model, self.prompts[:1]), pipe.transformer.forward
        monkeypatch.setattr(pipe.transformer, "forward", lambda *a, **k: (forward(*a, **k)[0][:, :-1],))
        with pytest.raises(RuntimeError, match="one timestep per frame"):
            model.predict(self.latents(model, 1), self.rising(model), condition)


@pytest.mark.slow
class TestCogVideoXByPlaces(TestCogVideoX):
    """With added positions, as the model of 2B; without a negative prompt's row where guidance is off."""

    def make_pipe(self):
        return pipeline(rotary=False)


class TestCogVideoX15(CogVideoX15Contract):
    """Two latents have one timestep: they are one latent of twice as many channels."""

    def test_a_wrong_shape_is_caught(self, pipe, model, monkeypatch):
        condition, forward = self.condition(model, self.prompts[:1]), pipe.transformer.forward
        monkeypatch.setattr(pipe.transformer, "forward", lambda *a, **k: (forward(*a, **k)[0][:, :-2],))
        with pytest.raises(RuntimeError, match="one timestep per frame"):
            model.predict(self.latents(model, 1), self.rising(model), condition)


@pytest.mark.slow
class TestCogVideoX15OfOneLayer(TestCogVideoX15):
    without = VARIANT

    def make_pipe(self):
        return pipeline(patch_size_t=2, sample_frames=33, num_layers=1, num_attention_heads=1)


def test_pairs_of_latents_are_decoded_as_their_own_pipeline_does():
    """81 frames are 11 pairs, of which the first latent is dropped; also a stream that grows out of pictures."""
    with FIFO(pipeline(patch_size_t=2, sample_frames=33)) as fifo:
        assert (fifo.model.frames, fifo.model.timing.frames(11), fifo.model.defaults["fps"]) == (5, 81, 16)
        latents = fifo("a cat", seed=1, num_frames=33, output_type="latent", **FEW).frames
        assert latents.shape == (1, 10, 4, 4, 4)
        expected = to_uint8(fifo.pipe.video_processor.postprocess_video(fifo.pipe.decode_latents(latents[:, 1:]), "pt"))
        assert same(frames(fifo.stream("a cat", seed=1, num_frames=33, **FEW)), expected[0])
        given = np.random.default_rng(0).integers(0, 255, (9, 32, 32, 3), dtype=np.uint8)
        known = fifo.model.encode(given)
        assert known.shape == (1, 8, 2, 4, 4)
        assert torch.equal(single(known)[:, 0], single(known)[:, 1])
        assert len(frames(fifo.stream("a cat", start=given, include_start=True, seed=1, num_frames=20, **FEW))) == 20


@pytest.mark.parametrize("text_level", ["cleanest", "noisiest"])
def test_the_text_may_have_the_noise_level_of_one_frame(text_level):
    model = registry.wrap(pipeline())
    condition = model.condition(["a red ball"], **SIZE)
    x, t = torch.randn(1, 4, 5, 4, 4, generator=torch.Generator().manual_seed(0)), torch.full((1, 5), 500)
    rising = torch.tensor([[100, 300, 500, 700, 900]])
    mean = [model.predict(x, times, condition) for times in (t, rising)]
    model.text_level = text_level
    assert distance(model.predict(x, t, condition), mean[0]) < TOLERANCE
    assert distance(model.predict(x, rising, condition), mean[1]) > 100 * TOLERANCE


@pytest.fixture(scope="module")
def fifo():
    with FIFO(pipeline()) as fifo:
        yield fifo


def test_a_stream_is_its_latents_decoded_as_a_whole(fifo):
    """Also where latents wait for the second of their group, and where the run was interrupted in between."""
    latents = fifo("a cat", seed=1, num_frames=33, output_type="latent", **FEW).frames
    assert latents.shape == (1, 9, 4, 4, 4)
    expected = to_uint8(TestCogVideoX().whole_decoding(fifo.pipe, latents.transpose(1, 2)))[0]
    found = frames(fifo.stream("a cat", seed=1, num_frames=33, **FEW))
    assert same(found, expected)
    for done in (0, 9, 12, 21):
        stream = fifo.stream("a cat", seed=1, **FEW)
        first = [next(stream) for _ in range(done)]
        rest = fifo.stream(start=stream.state(), num_frames=33, max_sequence_length=8)
        assert np.array_equal([*first, *rest], found), done


@pytest.mark.parametrize("given", [3, 4])
def test_frames_of_given_latents_are_not_shown_again(fifo, given):
    """Also where the last of them waits for a new one, with which it is decoded."""
    past = torch.randn(1, 4, given, 4, 4, generator=torch.Generator().manual_seed(0))
    options = {"seed": 1, "start": past, "num_frames": 4 * (9 - given)} | FEW | {"window": given}
    new = fifo("a cat", output_type="latent", **options).frames.transpose(1, 2)
    whole = TestCogVideoX().whole_decoding(fifo.pipe, torch.cat([past, new], 2))
    found = frames(fifo.stream("a cat", **options))
    assert same(found, to_uint8(whole)[0, 4 * given - 3 :])
    stream = fifo.stream("a cat", **options)
    rest = fifo.stream(start=stream.state(), num_frames=len(found), max_sequence_length=8)
    assert np.array_equal(frames(rest), found)


def test_the_decoder_remembers_enough(fifo):
    latents = torch.randn(1, 4, 91, 2, 2, generator=torch.Generator().manual_seed(0))
    whole, skipping = fifo.model.decoder(), fifo.model.decoder()
    count = whole.push(latents[:, :, :88]).shape[1]
    assert skipping.skip(latents[:, :, :2]) + skipping.skip(latents[:, :, 2:88]) == count == 345  # one latent waits
    assert skipping.state()["past"].shape[2] < 80
    assert torch.equal(skipping.push(latents[:, :, 88:]), whole.push(latents[:, :, 88:]))


def test_a_video_grows_out_of_a_picture(fifo):
    picture = np.random.default_rng(0).integers(0, 255, (1, 32, 32, 3), dtype=np.uint8)
    grown = frames(fifo.stream("a cat", seed=4, num_frames=14, start=picture, include_start=True, **FEW))
    other = frames(fifo.stream("a cat", seed=4, num_frames=14, start=255 - picture, include_start=True, **FEW))
    assert grown.shape == (14, 32, 32, 3)
    assert not same(grown[1:], other[1:], 3)


def test_a_folder_through_the_command_line(tmp_path, monkeypatch, capsys):
    """In the hub's own layout: dry run, a run that is interrupted and continued, and the same frames as the library."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pipeline().save_pretrained("model")
    run = ["generate", "--model", "model", "--device", "cpu", "--seed", "3", "--num-partitions", "2"]
    run += ["--window", "3", "--height", "32", "--width", "32", "a red ball"]
    assert main([*run, "--num-frames", "21", "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "a latent frame is 4 frames, the first 1" in told
    assert "8 frames/s" in told
    assert main([*run, "--num-frames", "9", "-o", "out/", "--state", "s.fifo"]) == 0
    assert main(["generate", "--state", "s.fifo", "--num-frames", "21"]) == 0
    with FIFO.from_pretrained("model", device="cpu") as fifo:
        call = {"seed": 3, "window": 3, "num_partitions": 2, "height": 32, "width": 32, "num_frames": 21}
        assert np.array_equal(read_frames("out/"), frames(fifo.stream("a red ball", **call)))


def test_half_precision():
    x, t = torch.randn(1, 4, 5, 4, 4, generator=torch.Generator().manual_seed(0)), [[100, 300, 500, 700, 900]]
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        model = registry.wrap(pipeline().to(dtype))
        found.append(model.predict(x, torch.tensor(t), model.condition(["a red ball"], **SIZE)))
    assert found[1].dtype == torch.float32
    assert distance(found[1], found[0]) < 0.03


def test_lora_counts():
    peft = pytest.importorskip("peft")
    model, x = registry.wrap(pipeline()), torch.randn(1, 4, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([[100, 300, 500, 700, 900]])
    plain = model.predict(x, t, model.condition(["a cat"], **SIZE))
    # In the layers that make the modulations too.
    names = ["to_q", "to_v", "norm1.linear", "norm_out.linear"]
    model.pipe.transformer.add_adapter(peft.LoraConfig(r=2, init_lora_weights=False, target_modules=names))
    assert distance(model.predict(x, t, model.condition(["a cat"], **SIZE)), plain) > 1e-3


def test_limits():
    with pytest.raises(ValueError, match=r"load the text-to-video version$"):
        FIFO(pipeline(ofs_embed_dim=16))
    with pytest.raises(ValueError, match="joins 4 latents to one token"):
        FIFO(pipeline(patch_size_t=4))
    with FIFO(pipeline()) as fifo:
        assert (fifo.model.frames, fifo.model.defaults["fps"], fifo.model.defaults["height"]) == (5, 8, 32)
        with pytest.raises(ValueError, match="use window=5 or less"):
            fifo.stream("a cat", **FEW | {"window": 6})
        with pytest.raises(ValueError, match="use_dynamic_cfg would have no effect here: leave it out"):
            fifo.stream("a cat", use_dynamic_cfg=True, **FEW)


def test_both_schedulers_of_cogvideox_have_its_shifted_levels():
    found = [read_levels(kind(**SCHEDULER), 10) for kind in (CogVideoXDDIMScheduler, CogVideoXDPMScheduler)]
    expected = CogVideoXDDIMScheduler(**SCHEDULER).alphas_cumprod[found[0].timestep].sqrt()
    for levels in found:
        torch.testing.assert_close(levels.alpha, expected, check_dtype=False)
