"""Windows through a model of a few lines, all at once or as memory allows: the same predictions, each with what is its
own."""

from types import SimpleNamespace

import pytest
import torch

from fifo_diffusion.execution.batches import WindowBatcher
from fifo_diffusion.method import QueueLayout

VIDEOS, FRAMES = 2, 4
LAYOUT = QueueLayout(FRAMES, 3, False)
WINDOWS = [list(range(start, start + FRAMES)) for start in (0, 4, 8)]


def stand_in(most_rows, stages=(), compiled=False):
    """A model that has room for so many rows. Its prediction shows each row's latents, timesteps, video and window, and
    the pass of guidance; those of two passes are subtracted."""
    sizes = []

    def predict(latents, timestep, condition):
        passes, numbers, share = condition
        if len(latents) * len(passes) > most_rows:
            raise torch.OutOfMemoryError
        sizes.append(len(latents))
        of_video = torch.arange(VIDEOS).repeat(len(numbers)).view(-1, 1, 1, 1, 1)
        of_window = numbers.repeat_interleave(VIDEOS).view(-1, 1, 1, 1, 1)
        row = latents * 3 + timestep[:, None, :, None, None] + 100 * of_video + 1000 * of_window
        outputs = [row * share * scale for scale in passes]
        return outputs[0] if len(outputs) == 1 else outputs[1] - outputs[0]

    return SimpleNamespace(
        schedule_state=lambda: None,
        stages=lambda: stages,
        of_stage=lambda condition, stage: (*condition[:2], stage),
        passes=lambda condition: [([scale], *condition[1:]) for scale in condition[0]],
        guided=lambda outputs, _timestep, _condition: outputs[1] - outputs[0],
        compiled=compiled,
        sharded=False,
        predict=predict,
        sizes=sizes,
    )


def predicted(model, windows=None, usual=3):
    """Of three windows of two videos, whose rows come window by window."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(VIDEOS * len(WINDOWS), 1, FRAMES, 2, 2, generator=generator)
    timestep = torch.randint(1000, (VIDEOS * len(WINDOWS), FRAMES), generator=generator)

    def condition(some):
        return [1.0, 3.0], torch.tensor([window[0] for window in some], dtype=torch.float32), 1.0

    calls = WindowBatcher(model, LAYOUT, latents[:VIDEOS], {}, windows, condition=condition, together=None)
    return calls.predict(latents, timestep, WINDOWS, usual=usual)


@pytest.mark.parametrize(
    ("most_rows", "sizes"), [(12, [6]), (8, [2, 2, 2]), (4, [2, 2, 2]), (2, [2] * 6)], ids="{}".format
)
def test_windows_that_do_not_fit_at_once_are_split_with_all_that_belongs_to_them(most_rows, sizes):
    """By halves; at last the passes of guidance one after the other."""
    expected = predicted(stand_in(100), windows=3)
    model = stand_in(most_rows)
    torch.testing.assert_close(predicted(model, windows=3), expected)
    assert model.sizes == sizes


@pytest.mark.parametrize("windows", [1, 2])
def test_stages_add_up_and_are_split_likewise(windows):
    expected = predicted(stand_in(100), windows=3)
    model = stand_in(100, stages=(0.25, 0.75))
    torch.testing.assert_close(predicted(model, windows=windows), expected)
    assert model.sizes == {1: [2] * 6, 2: [4, 2] * 2}[windows]


def test_a_compiled_model_gets_windows_one_by_one_while_the_queue_fills():
    expected, model = predicted(stand_in(100), windows=4), stand_in(100, compiled=True)
    torch.testing.assert_close(predicted(model, windows=4, usual=4), expected)
    assert model.sizes == [2, 2, 2]


def test_no_room_for_one_pass_of_one_window_is_said():
    with pytest.raises(torch.OutOfMemoryError):
        predicted(stand_in(1), windows=3)
