"""Options that one family or scheduler takes otherwise than the others: nothing that is said has no effect unsaid."""

import inspect

import diffusers
import numpy as np
import pytest
import torch

from fifo_diffusion import FIFO
from fifo_diffusion.evaluation.relative_mse import measure
from fifo_diffusion.method import Guidance, QueueLayout
from fifo_diffusion.method.noise import SeededNoise
from fifo_diffusion.models import registry
from fifo_diffusion.models.loading.folders import _fit_text
from fifo_diffusion.models.loading.parts import FolderError
from fifo_diffusion.models.opensora.model import LateQueue
from fifo_diffusion.models.shared.scheduler_choice import choose_scheduler
from fifo_diffusion.streaming.preview import Preview
from fifo_diffusion.streaming.state import RunState
from fifo_diffusion.testing import (
    frames,
    tiny,
    tiny_easyanimate,
    tiny_hunyuan_video,
    tiny_kandinsky,
    tiny_ltx,
    tiny_minimax_h3,
    tiny_mochi,
    tiny_motif,
    tiny_wan,
)

# ---------------------------------------------------------------------- texts


class Processor:
    """Of texts and pictures, as Kandinsky 5's folder has one in the place of a tokenizer: pictures come first."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def __call__(self, images=None, text=None, videos=None, **options):
        assert images is None
        assert videos is None
        return self.tokenizer(text, **options)


def test_a_processor_of_texts_and_pictures_is_a_tokenizer_too(tmp_path):
    pipe = tiny_kandinsky.pipeline()
    pipe.tokenizer = Processor(pipe.tokenizer)
    _fit_text(tmp_path, {"tokenizer": pipe.tokenizer, "text_encoder": pipe.text_encoder})
    other = {"tokenizer": pipe.tokenizer, "text_encoder": tiny.pipeline(**tiny.LIGHT).text_encoder}
    _fit_text(tmp_path, other)
    other["text_encoder"].config.vocab_size = 3
    with pytest.raises(FolderError, match="the text encoder knows 3"):
        _fit_text(tmp_path, other)
    small = {"num_partitions": 1, "window": 2, "height": 32, "width": 32, "lookahead": False, "seed": 0}
    with FIFO(pipe) as fifo:
        stream = fifo.stream("a cat", **small)
        frames(stream, 3)
        stream.state().save(tmp_path / "state")
        expected = frames(stream, 3)
        assert (frames(fifo.stream(start=RunState.load(tmp_path / "state")), 3) == expected).all()


def test_a_negative_prompt_without_a_pass_for_it_is_told(caplog):
    pipe = tiny_hunyuan_video.pipeline()
    small = {"num_partitions": 1, "window": 2, "lookahead": False, "seed": 0, "height": 32, "width": 32}
    with FIFO(pipe) as fifo:
        assert fifo.model.told_guidance
        for more in ({}, {"guidance_scale": 1.0}):
            fifo.stream("a cat", negative_prompt="sand", **small, **more)
            assert "takes its guidance as an input" in caplog.text
            assert "true_cfg_scale above 1" in caplog.text
            assert "use more than 1" not in caplog.text
            caplog.clear()
        fifo.stream("a cat", negative_prompt="sand", true_cfg_scale=2.0, **small)
        assert "negative prompt" not in caplog.text


# ---------------------------------------------------------------------- levels


@pytest.mark.parametrize("family", [tiny, tiny_wan, tiny_mochi, tiny_minimax_h3], ids=lambda module: module.__name__)
def test_guidance_ends_at_the_level_that_was_asked_for_also_where_time_runs_the_other_way(family):
    levels = registry.wrap(family.pipeline()).levels(8)
    rule = Guidance(interval=(0.0, 0.75)).at(levels)
    told = levels.told(torch.arange(8)[None])
    zero = torch.zeros(1, 1, 8, 1, 1)
    guided = rule.combined(zero, zero + 1, 3.0, told)[0, 0, :, 0, 0]
    assert guided.tolist() == [1.0, 1.0] + [3.0] * 6  # without guidance in the last quarter, from the cleanest on


@pytest.mark.parametrize("family", [tiny, tiny_mochi], ids=lambda module: module.__name__)
def test_pictures_of_the_queue_are_of_the_level_at_which_a_frame_is(family):
    levels = registry.wrap(family.pipeline()).levels(8)
    preview = Preview(levels, QueueLayout(4, 2, lookahead=False))
    latents, output = torch.randn(2, 1, 4, 8, 2, 2, generator=torch.Generator().manual_seed(0))
    level = torch.arange(8)[None]
    preview.predicted(latents[:1], output[:1], levels.told(level), [range(8)])
    expected, _ = levels.split(latents[:1], output[:1], level)
    assert [now for now, _ in preview._guesses.values()] == list(range(8))
    assert all(torch.equal(guess, expected[:, :, k]) for k, (_, guess) in preview._guesses.items())


@pytest.mark.parametrize("family", [tiny_ltx, tiny_motif], ids=lambda module: module.__name__)
def test_a_flow_shift_counts_where_the_scheduler_has_one_by_size(family):
    pipe = family.pipeline()
    pipe.scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    by_size = registry.wrap(pipe).levels(6, size=(2, 32, 32)).sigma
    pipe.scheduler = choose_scheduler(pipe.scheduler, None, 9.0)
    found = registry.wrap(pipe).levels(6, size=(2, 32, 32)).sigma
    plain = torch.linspace(1 / 6, 1, 6)
    assert found.tolist() == pytest.approx((9 * plain / (1 + 8 * plain)).tolist(), abs=1e-4)
    assert (found - by_size).abs().max() > 0.05


@pytest.mark.parametrize("name", ["dpmsolver", "deis", "unipc"])
def test_a_scheduler_that_takes_no_shift_by_size_runs_and_one_with_another_spacing_is_told(name, caplog):
    pipe = tiny_easyanimate.pipeline()
    pipe.scheduler = choose_scheduler(pipe.scheduler, name)
    assert len(registry.wrap(pipe).levels(6)) == 6
    assert "spacing" not in caplog.text
    pipe = tiny_mochi.pipeline()
    pipe.scheduler = choose_scheduler(pipe.scheduler, name)
    model = registry.wrap(pipe)
    for _ in range(2):
        model.levels(6)
    takes = "sigmas" in inspect.signature(pipe.scheduler.set_timesteps).parameters
    assert caplog.text.count("has a spacing of its own, which is not that of MochiPipeline") == (0 if takes else 1)


# ---------------------------------------------------------------------- queues, memory, errors


def test_all_that_a_late_queue_hands_out_is_needed_of_every_rank():
    layout = QueueLayout(5, 2)
    model = registry.wrap(tiny.pipeline(**tiny.LIGHT))
    levels = model.levels(layout.levels)
    shape = (1, 4, layout.size, 2, 2)
    queue = LateQueue(torch.randn(shape), torch.randn(1, 4, 5, 2, 2), 0, 0)
    for _ in range(3):
        x, y = torch.randn(shape), torch.full(shape, float("nan"))
        y[:, :, list(queue.needed(layout))] = 1.0
        _, leaving = queue.advance(x, y, layout, levels, SeededNoise([0], (4, 2, 2)))
        assert leaving.isfinite().all()


def test_weights_that_stay_wide_are_counted_so():
    from fifo_diffusion.jobs.memory import weights_bytes

    pipe = tiny_wan.pipeline()
    model = registry.wrap(pipe)
    parts = {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    sizes = {name: sum(weight.numel() for weight in part.parameters()) for name, part in parts.items()}
    expected = 2 * sum(sizes.values()) + 2 * sizes["vae"]
    assert weights_bytes(model, "bfloat16") == expected
    assert weights_bytes(model, "float32") == 4 * sum(sizes.values())


def test_layers_alone_cannot_be_brought_where_blocks_have_weights_of_their_own():
    for changes, ways in ((tiny_ltx.TOLD, ("group", "sequential")), ({}, ())):
        model = registry.wrap(tiny_ltx.pipeline(changes))
        for way in ways:
            with pytest.raises(ValueError, match=rf'^offload=.{way}.: .*give "model"'):
                model.offload(way, torch.device("meta"))


def test_relative_errors_of_a_model_whose_latents_are_several_frames():
    model = registry.wrap(tiny_wan.pipeline())
    model.frames = 2
    clip = np.random.default_rng(0).integers(0, 255, (model.timing.frames(2 * 2 + 1), 32, 32, 3), np.uint8)
    rows = measure(model, [(clip, "a cat")] * 2, [1, 2], seed=0)
    assert [(row["partitions"], row["lookahead"], row["clips"]) for row in rows] == [
        (1, False, 2),
        (1, True, 2),
        (2, False, 2),
        (2, True, 2),
    ]
    assert all(np.isfinite(row["ratio_of_norms"][0]) for row in rows)
