"""Latents, noise levels, distillation and resuming of the training on journeys."""

import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "training"))
from journeys import latents as linear
from journeys import levels, train
from journeys.model import move
from journeys.text import build_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A basis for 32 pixels and a tokenizer."""
    path = tmp_path_factory.mktemp("journeys")
    linear.fit(32, 8, 4, images=12).save(path / "latents.npz")
    build_tokenizer(str(path / "tokenizer"), captions=400)
    return path


def arguments(folder, out, **changes):
    given = Namespace(
        out=folder / out, init=None, latents=folder / "latents.npz", tokenizer=folder / "tokenizer", vae=None,
        stage="clips", widths=(32, 32), minutes=1.0, decay=0.4, batch=2, mix=0, rising=0.35, blocks=0.4, dropout=0.1,
        distill=None, substeps=3, scale=1.0, rate=1e-3, warmup=10, ema=0.9, seed=0, device="cpu", bf16=False,
        compile=False)  # fmt: skip
    return Namespace(**(vars(given) | changes))


def test_linear_latents_are_a_projection(folder):
    latents = linear.load(folder / "latents.npz")
    frames = linear.draw_frames(np.random.default_rng(1), 3, 32, None)
    codes = latents.encode(frames)
    assert codes.shape == (3, 4, 4, 4)
    patches = latents.decode_linear(codes)
    again = (patches - latents.mean) @ latents.basis
    assert np.allclose(np.moveaxis(again, -1, -3), codes, atol=1e-3)
    assert latents.linear_decibels(frames) > 10


def test_levels_rise_and_blocks_are_those_of_the_queue():
    torch.manual_seed(0)
    assert (levels.uniform(50, 16).diff(dim=1) == 0).all()
    rising = levels.rising(200, 16)
    assert (rising[:, 1:] >= rising[:, :-1]).float().mean() > 0.99
    assert rising.min() >= 0
    assert rising.max() <= 999
    stairs = levels.blocks(400, 16, jitter=0)
    assert set(stairs.unique().tolist()) == {0, *levels.GRID}
    assert (stairs.diff(dim=1) >= 0).all()
    steps = (stairs.diff(dim=1) > 0).sum(1)
    assert steps.max() == levels.LEVELS, "a whole queue with clean frames before it occurs"
    mixed = levels.draw(300, 16, 0.35, 0.4)
    assert ((mixed.diff(dim=1) == 0).all(1)).float().mean() < 0.6


def test_a_step_with_the_true_velocity_leads_to_the_other_level():
    clean, noise = torch.randn(2, 50, generator=torch.Generator().manual_seed(0))
    a, b = torch.tensor(0.3), torch.tensor(0.8)
    velocity = a.sqrt() * noise - (1 - a).sqrt() * clean
    x = a.sqrt() * clean + (1 - a).sqrt() * noise
    torch.testing.assert_close(move(x, velocity, a, b), b.sqrt() * clean + (1 - b).sqrt() * noise)


def test_what_a_perfect_teacher_teaches_is_the_true_velocity(folder, monkeypatch):
    training = train.Training(arguments(folder, "student"))
    training.save()
    generator = torch.Generator().manual_seed(1)
    clean, noise = (torch.randn(2, 4, 16, 4, 4, generator=generator) for _ in range(2))
    level = levels.blocks(2, 16, 0)

    def velocity(level):
        a = training.alphas[level][:, None, :, None, None]
        return a.sqrt() * noise - (1 - a).sqrt() * clean

    class Perfect:
        unet = None

        def embed(self, prompts):
            return torch.zeros(len(prompts), 1, 1)

    def perfect(_unet, x, level, _text):
        return torch.cat([velocity(part) for part in level.split(2)])

    training.teacher = Perfect()
    monkeypatch.setattr(train, "predict", perfect)
    a = training.alphas[level][:, None, :, None, None]
    taught = training._taught(a.sqrt() * clean + (1 - a).sqrt() * noise, level, ["", ""])
    torch.testing.assert_close(taught, velocity(level), atol=2e-3, rtol=1e-2)


def test_a_stopped_training_goes_on_where_it_was(folder):
    first = train.Training(arguments(folder, "resumed"))
    for _ in range(2):
        assert np.isfinite(first.train_step())
    first.save()
    second = train.Training(arguments(folder, "resumed"))
    assert (second.step, second.frames) == (2, 64)
    for one, other in zip(first.averaged + first.parameters, second.averaged + second.parameters, strict=True):
        assert torch.equal(one, other)
    images = train.Training(arguments(folder, "pictures", stage="images", init=folder / "resumed"))
    assert images.step == 0
    assert np.isfinite(images.train_step())
