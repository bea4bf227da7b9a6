"""Schedules of running videos: changes each in its own way, edited while they run, saved and begun again."""

import json
from itertools import product

import numpy as np
import pytest
import torch

from fifo_diffusion import RunState
from fifo_diffusion.streaming.preview import Preview
from fifo_diffusion.streaming.schedule import Schedule
from fifo_diffusion.testing import frames, same
from streams import SMALL

WAYS = ("tail", "queue", "blend")


def schedule(entries, usual="tail", slots=8, reach=7):
    each = {k: ((v,), None) if isinstance(v, str) else ((v[0],), v[1]) for k, v in entries.items()}
    return Schedule.of(each, usual, slots=slots, reach=reach)


def text(schedule, frame, head):
    return {prompts[0]: weight for prompts, weight in schedule.mixture(frame, head).items()}


PAIRS = [*zip(WAYS, ("queue", "blend", "tail"), strict=True)]


@pytest.mark.parametrize(
    ("how", "usual"),
    [*PAIRS, *(pytest.param(*pair, marks=pytest.mark.slow) for pair in product(WAYS, WAYS) if pair not in PAIRS)],
)
def test_a_live_change_is_a_schedule_and_a_fork(fifo, how, usual):
    """At frame 6 by hand; planned from the beginning; and from a snapshot of frame 6 under an edited schedule."""
    arguments = {"seed": 0, "prompt_change": usual, **SMALL}
    stream = fifo.stream("a cat", **arguments)
    first, state = frames(stream, 6), stream.state()
    at = stream.change_prompt("a dog", how=how)
    assert at == (6 if how == "queue" else 13)
    live = np.concatenate([first, frames(stream, 14)])
    plan = {0: "a cat", at: {"prompt": "a dog", "change": how}}
    assert same(live, frames(fifo.stream(plan, num_frames=20, **arguments)))
    assert same(live[6:], frames(fifo.stream(plan, start=state, num_frames=20)))
    assert not same(live, frames(fifo.stream("a cat", num_frames=20, **arguments)), 3)


def test_changes_in_several_ways_are_saved_and_are_a_schedule(fifo, tmp_path):
    """A tail change, then one of the whole queue that overtakes it, then a blend; saved and loaded in between."""
    stream = fifo.stream("a cat", seed=0, **SMALL)
    plan, video = {0: "a cat"}, [frames(stream, 4)]
    for way, text in (("tail", "a dog"), ("queue", "a red ball"), ("blend", "a fish")):
        plan[stream.change_prompt(text, how=way)] = {"prompt": text, "change": way}
        video.append(frames(stream, 3))
        stream.state().save(tmp_path / "state.safetensors")
        stream = fifo.stream(start=RunState.load(tmp_path / "state.safetensors"))
    video.append(frames(stream, 12))
    assert sorted(plan) == [0, 7, 11, 17]  # the second while frame 7 is at the head
    planned = frames(fifo.stream(plan, seed=0, num_frames=25, **SMALL))
    assert same(np.concatenate(video), planned)


def test_what_is_to_come_may_be_edited_and_what_is_fixed_may_not(fifo):
    arguments = {"seed": 0, **SMALL}
    stream = fifo.stream({0: "a cat", 5: "a dog", 16: "a fish"}, **arguments)
    first = frames(stream, 4)
    assert stream.schedule == {0: "a cat", 5: "a dog", 16: "a fish"}
    assert stream.change_frame == 11
    for wrong in ({0: "a cat"}, {0: "a cat", 5: "a fish"}, {0: "a dog"}, {0: "a cat", 6: "a dog"}):
        with pytest.raises(ValueError, match=r"something else of frame [05] .*begins with frame 11"):
            stream.schedule = wrong
    with pytest.raises(ValueError, match="give 'tail' or 'queue' or 'blend'"):
        stream.schedule = {12: {"prompt": "a cat", "change": "now"}}
    assert stream.schedule == {0: "a cat", 5: "a dog", 16: "a fish"}
    stream.schedule = stream.schedule | {16: "a red ball"}
    edited = np.concatenate([first, frames(stream, 18)])
    assert same(edited, frames(fifo.stream({0: "a cat", 5: "a dog", 16: "a red ball"}, num_frames=22, **arguments)))
    stream.schedule = {40: "a cat"}  # nothing is said of what was
    assert stream.schedule == {16: "a red ball", 40: "a cat"}


def test_a_schedule_of_a_batch_has_a_text_for_each(fifo):
    stream = fifo.stream(["a cat", "a dog"], seed=0, **SMALL)
    stream.schedule = {0: ["a cat", "a dog"], 20: ["a fish", "a fish"]}
    assert stream.schedule == {0: ["a cat", "a dog"], 20: ["a fish", "a fish"]}
    with pytest.raises(ValueError, match="3 prompts for 2 videos"):
        stream.schedule = {20: ["a", "b", "c"]}


def test_an_edit_keeps_what_a_blend_has_already_done(fifo):
    """Frames in the queue stay between their texts, though the one that was approached is not reached any more."""
    stream = fifo.stream({0: "a cat", 20: "a dog"}, seed=0, prompt_change="blend", **SMALL)
    frames(stream, 3)
    track = stream._prompts.schedule
    before = [text(track, frame, 3) for frame in range(3, 10)]
    stream.schedule = {0: "a cat", 30: "a fish"}
    for mixture, frame in zip(before, range(3, 10), strict=True):
        assert text(track, frame, 3) == pytest.approx(mixture)
    assert text(track, 30, 30) == {"a fish": 1.0}
    assert set(text(track, 20, 20)) == {"a cat", "a dog", "a fish"}


def test_the_later_change_counts():
    """The whole queue changes when frame 10 is at the head, also frames that entered before under a text of their
    own; those that enter later have the text of theirs."""
    mixed = schedule({0: "a", 14: "b", 10: ("c", "queue"), 30: "d"})
    assert [text(mixed, 14, head) for head in (9, 10)] == [{"b": 1.0}, {"c": 1.0}]
    assert text(mixed, 9, 10) == {"c": 1.0}  # what has left is context, and changes too
    assert text(mixed, 30, 25) == {"d": 1.0}
    begun = schedule({0: "a", 10: ("b", "blend"), 14: "c"})
    assert text(begun, 13, 0) == pytest.approx({"a": 5 / 8, "b": 3 / 8})
    assert text(begun, 14, 0) == {"c": 1.0} == text(begun, 18, 0)


def test_assigning_again_and_again_does_not_grow():
    track = schedule({0: "a"})
    for k in range(50):
        track.assign((f"text {k}",), *((20, "tail", 13), (13, "queue", 13), (20, "blend", 13))[k % 3])
    assert len(track) <= 6
    assert text(track, 20, 13) == {"text 49": 1.0} or text(track, 28, 13) == {"text 49": 1.0}


def test_a_saved_schedule_is_the_same():
    track = schedule({0: "a", 10: ("b", "blend"), 14: ("c", "queue"), 40: "d"})
    saved = json.loads(json.dumps(track.to_json()))
    again = Schedule.from_json(saved, {}, "tail", slots=8, reach=7)
    assert again.to_json() == track.to_json()
    assert again.entries() == track.entries()
    assert [change.time for change in again._changes] == [change.time for change in track._changes]
    assert again.disagrees(track.entries(), 100) is None


def test_the_queue_is_seen_before_its_frames_are_clean(fifo):
    """Pictures of the size of latents, as many as there are latents to come; and looking changes nothing."""
    seen = fifo.stream("a cat", seed=0, num_frames=24, **SMALL)
    video, strips = [], []
    for frame in seen:
        video.append(frame)
        strips.append(seen.preview())
    assert strips[0] is None
    assert np.array_equal(video, frames(fifo.stream("a cat", seed=0, num_frames=24, **SMALL)))
    height, width = fifo.model.latent_shape(16, 16)[1:]
    assert strips[-1].shape == (seen.slots, height, width, 3)
    assert strips[-1].dtype == np.uint8
    assert (seen.slots, seen.levels) == (8, 8)
    assert seen.queue_frames == list(range(24, 32))
    assert seen.iteration > 24 - 4
    two = fifo.stream(["a cat", "a dog"], seed=0, **SMALL)
    two.preview()
    frames(two, 6)
    assert two.preview().shape[0] == 2


def test_notes_of_the_queue_do_not_grow_when_nobody_looks_any_more(fifo):
    stream = fifo.stream("a cat", seed=0, **SMALL)
    stream.preview()
    frames(stream, 60)
    guesses = stream._preview._guesses
    size, latent = stream.settings.queue_layout.size, np.prod(fifo.model.latent_shape(16, 16))
    assert len(guesses) <= size
    assert set(stream.queue_frames[:-1]) <= guesses.keys()  # the last one has just entered
    held = {guess.untyped_storage().data_ptr(): guess.untyped_storage().nbytes() for _, guess in guesses.values()}
    assert sum(held.values()) <= 4 * size * latent


def test_colours_are_found_by_least_squares():
    """Where colours are linear in the latents, what is in the queue is seen in its own colours."""
    torch.manual_seed(0)
    matrix, offset = torch.randn(3, 4) / 32, torch.full((3,), 0.5)

    def colours(latent):
        small = torch.einsum("ec,bchw->behw", matrix, latent) + offset[:, None, None]
        return small.clamp(0, 1).repeat_interleave(4, -1).repeat_interleave(4, -2)

    fifo_levels = type("Levels", (), {"latent": staticmethod(lambda latents: latents)})()
    layout = type("Layout", (), {"context": 0, "size": 3})()
    preview = Preview(fifo_levels, layout)
    for _ in range(8):
        latent = torch.randn(1, 4, 1, 5, 6)
        preview.came_out(latent, [colours(latent[:, :, 0])])
    waiting = torch.randn(1, 4, 3, 5, 6)
    queue = type("Queue", (), {"latents_BCFHW": waiting, "first_new": 0, "frames": lambda self, layout: range(3)})()
    found = preview.pictures(queue)
    wanted = torch.stack([colours(waiting[:, :, k])[..., ::4, ::4] for k in range(3)], 1).movedim(2, -1) * 255
    assert np.abs(found - wanted.numpy()).max() <= 2
