"""Streams guided frame by frame: which windows take one pass, and what states, ranks and refusals make of it."""

import pytest
import torch

from fifo_diffusion import FIFO
from fifo_diffusion.errors import ArgumentError
from fifo_diffusion.execution.guidance_gate import GuidanceGate
from fifo_diffusion.execution.split import Split
from fifo_diffusion.jobs.cost import Cost
from fifo_diffusion.method import Guidance
from fifo_diffusion.testing import distance, tiny, tiny_wan
from rank_workers import apart, on_ranks
from streams import SMALL, pictures

RUN = SMALL | {"seed": 5, "num_frames": 9}
ALL = {"guidance_interval": (0.0, 0.75), "guidance_method": "apg", "apg_norm_threshold": 3.0, "guidance_rescale": 0.5}


@pytest.fixture(scope="module")
def fifo():
    return FIFO(tiny.pipeline(**tiny.LIGHT))


def latents(fifo, **more):
    return fifo.stream("a cat", **RUN | more).collect("latent").frames


def counted(fifo, **more):
    """Latents, and the frames that went through the U-Net."""
    rows = []
    hook = fifo.pipe.unet.register_forward_pre_hook(lambda _unet, inputs: rows.append(inputs[0][:, 0, :, 0, 0].numel()))
    try:
        return latents(fifo, **more), sum(rows)
    finally:
        hook.remove()


def unsaved(monkeypatch):
    """Both passes are computed for all windows; the formula alone leaves frames without guidance."""
    monkeypatch.setattr(Guidance, "guides", lambda *_: True)
    monkeypatch.setattr(GuidanceGate, "clip", lambda _, predict: predict)


def test_all_steps_or_nothing_changed_is_the_plain_method(fifo):
    plain, work = counted(fifo)
    found, same_work = counted(fifo, guidance_interval=(0, 1), guidance_rescale=0.0, guidance_method="plain")
    assert torch.equal(found, plain)
    assert same_work == work
    assert distance(latents(fifo, guidance_method="apg", apg_eta=1.0), plain) < 1e-5
    for name, value in {"guidance_method": "apg", "guidance_rescale": 0.5, "guidance_interval": (0, 0.5)}.items():
        assert distance(latents(fifo, **{name: value}), plain) > 1e-3


@pytest.mark.parametrize(
    ("interval", "more"),
    [
        ((0.0, 0.5), {}),
        ((0.4, 1.0), {"start": "noise", "lookahead": False}),
        ((0.2, 0.7), {"layout": "memory", "num_partitions": 3}),
        ((0.2, 0.7), {"layout": "rotating", "windows_per_batch": 3}),
        ((0.5, 0.75), {"lookahead": "banded"}),
        ((0.0, 0.5), {"start": pictures(2)}),
    ],
    ids=["lookahead", "from noise", "memory", "rotating", "banded", "from pictures"],
)
def test_windows_without_guided_frames_take_one_pass_and_the_cost_knows(fifo, monkeypatch, interval, more):
    stream = fifo.stream("a cat", **RUN | more | {"guidance_interval": interval})
    found, work = counted(fifo, guidance_interval=interval, **more)
    kind = more.get("start", "clip")
    given = {"start": kind} if isinstance(kind, str) else {"start": "known", "given": 2}
    cost = Cost(stream.settings.queue_layout, 2, total=9, **given, guidance=Guidance(interval))
    assert work == cost.until(9)
    unsaved(monkeypatch)
    expected, whole = counted(fifo, guidance_interval=interval, **more)
    assert distance(found, expected) < 1e-5
    saved = {"lookahead": "banded"}.items() <= more.items()
    assert work < whole or saved
    assert distance(found, latents(fifo, **more)) > 1e-3


def test_batches_and_passes_one_by_one_make_the_same_video(fifo):
    expected = latents(fifo, **ALL)
    assert distance(latents(fifo, windows_per_batch=8, **ALL), expected) < 1e-5
    others = FIFO(fifo.pipe)
    like = (1, *fifo.model.latent_shape(16, 16)[:1], 4, *fifo.model.latent_shape(16, 16)[1:], False)
    others.fits[like] = 1, True
    assert distance(latents(others, **ALL), expected) < 1e-5


def test_a_saved_run_goes_on_guided_as_it_was(fifo, tmp_path):
    with fifo.stream("a cat", **RUN | ALL) as stream:
        first = [next(stream) for _ in range(6)]
        stream.state().save(tmp_path / "state")
        whole = [*first, *stream]
        facts = stream.metadata
    assert (facts["guidance_interval"], facts["guidance_method"]) == ("[0.0, 0.75]", "apg")
    with fifo.stream(start=tmp_path / "state", num_frames=9) as stream:
        assert stream.settings.guidance_interval == (0.0, 0.75)
        assert all((a == b).all() for a, b in zip([*first, *stream], whole, strict=True))
    with pytest.raises(ValueError, match=r"the state was saved with guidance_rescale=0.5, not guidance_rescale=0.25"):
        fifo.stream(start=tmp_path / "state", guidance_rescale=0.25)


@pytest.mark.parametrize(
    ("size", "more"),
    [(3, {}), pytest.param(2, {"start": "noise"}, marks=pytest.mark.slow), (4, {"num_partitions": 1})],
    ids=str,
)
def test_ranks_make_the_same_video(fifo, tmp_path, size, more):
    """Four ranks for two windows: one rank alone has the one that takes one pass, and one has nothing to compute."""
    arguments = RUN | ALL | {"guidance_interval": (0.0, 0.5)} | more
    expected = fifo.stream({0: "a cat", 6: "a dog"}, **arguments).collect("latent").frames
    for found, rows in on_ranks(apart, size, tmp_path / "ranks", arguments):
        assert distance(found, expected) < 1e-5
        assert rows == [1, 1, 1] or size < 4 or max(rows) == 2


@pytest.mark.parametrize(
    ("passes", "ranks", "shares"),
    [
        ((1, 1, 1, 1, 2, 2, 2, 2), 2, [5, 3]),
        ((1, 1, 2, 2, 2, 2, 2, 2), 4, [2, 2, 2, 2]),
        ((2, 2, 2, 1), 3, [1, 1, 2]),
        ((), 2, [0, 0]),
    ],
    ids=str,
)
def test_shares_are_even_in_passes(passes, ranks, shares):
    split = Split(ranks, passes)
    parts = [passes[split.of(rank)] for rank in range(ranks)]
    assert sum(parts, ()) == passes
    assert [len(part) for part in parts] == shares


def test_passes_apart_have_a_rank_each():
    split = Split(6, (1, 2, 1), apart=True)
    taken = [(split.of(rank), split.half(rank)) for rank in range(6)]
    assert [(part.start, half) for part, half in taken if part != slice(0)] == [(0, None), (1, 0), (1, 1), (2, None)]
    first, second = (rank for rank, (part, _) in enumerate(taken) if part == slice(1, 2))
    assert (split.partner(first), split.partner(second)) == (second, first)
    assert [span for span in split.spans([[0], [1], [2]]) if span] == [[0], [1], [2]]
    assert split.swaps
    assert not Split(6, (1, 1), apart=True).swaps


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"guidance_rescale": 0.7, "guidance_scale": 1}, "guidance_rescale=0.7: guidance_scale=1 has no second pass; "),
        ({"guidance_method": "cfg-zero"}, "guidance_method='cfg-zero': it is for flow-matching models; "),
        ({"apg_eta": 0.5}, "apg_eta=0.5: it belongs to guidance_method='apg'; "),
        (
            {"guidance_interval": (0.5, 0.51)},
            r"guidance_interval=\(0.5, 0.51\): none of the 8 steps of a frame lies in",
        ),
        ({"guidance_interval": (0.5, 0.2)}, r"guidance_interval=\[0.5, 0.2\]: give two rising numbers from 0 to 1"),
        ({"guidance_rescale": 0.7, "compat": "published"}, "guidance_rescale=0.7: compat='published' has the ordinary"),
    ],
    ids=str,
)
def test_what_would_do_nothing_is_refused(fifo, arguments, told):
    with pytest.raises(ArgumentError, match="^" + told):
        fifo.stream("a cat", **RUN | arguments)


def test_a_model_that_is_told_its_guidance_takes_no_rule(fifo, monkeypatch):
    monkeypatch.setattr(type(fifo.model), "told_guidance", True)
    with pytest.raises(ArgumentError, match=r"^guidance_rescale=0.7: this model is told its guidance"):
        fifo.stream("a cat", guidance_rescale=0.7, **RUN)


def test_cfg_zero_on_a_flow_model():
    with FIFO(tiny_wan.pipeline()) as fifo:
        run = {"seed": 1, "num_frames": 21, "output_type": "latent"} | tiny_wan.FEW
        plain = fifo("a cat", **run).frames
        found = fifo("a cat", guidance_method="cfg-zero", **run).frames
        assert found.isfinite().all()
        assert distance(found, plain) > 1e-4
