"""Prompts that change while a video runs."""

from itertools import islice

import numpy as np
import pytest
import torch

from fifo_diffusion.jobs.cost import Cost
from fifo_diffusion.testing import frames, same
from streams import SMALL


def test_a_schedule_with_one_text_is_that_text(fifo):
    plain = frames(fifo.stream("a cat", seed=0, num_frames=9, **SMALL))
    for change in ("tail", "queue", "blend"):
        video = frames(fifo.stream({0: "a cat", 6: "a cat"}, seed=0, num_frames=9, prompt_change=change, **SMALL))
        assert same(video, plain)


def test_a_change_at_the_tail_starts_with_its_frame(fifo, monkeypatch):
    """Frame 14 is the first that was wholly denoised under the new prompt; no earlier one saw any of it."""
    seen = watch_texts(fifo, monkeypatch)
    list(fifo.stream({0: "a cat", 14: "a dog"}, seed=0, num_frames=18, **SMALL))
    for frame, texts in seen.items():
        assert texts == {"a dog" if frame >= 14 else "a cat"}


def test_a_change_of_the_whole_queue_happens_when_its_frame_is_at_the_head(fifo, monkeypatch):
    seen = watch_texts(fifo, monkeypatch)
    list(fifo.stream({0: "a cat", 6: "a dog"}, seed=0, num_frames=18, prompt_change="queue", **SMALL))
    assert seen[5] == {"a cat"}
    assert seen[6] == {"a cat", "a dog"}  # its last step only
    assert seen[12] == {"a cat", "a dog"}  # entered one iteration before the change
    assert seen[13] == {"a dog"}


@pytest.mark.parametrize(
    ("change", "b"),
    [("tail", 1), ("queue", 2), *(pytest.param(*p, marks=pytest.mark.slow) for p in (("tail", 2), ("queue", 1)))],
)
def test_a_prompt_that_is_given_is_seen_as_soon_as_the_dry_run_says(fifo, monkeypatch, change, b):
    """At the latest, and no earlier than that at some frame."""
    settings, waits = SMALL | {"frames_per_level": b, "prompt_change": change}, []
    first, whole = Cost(fifo.layout(window=4, num_partitions=2, frames_per_level=b), 2).late_by(change)
    for frame in (5, 12, 13):  # 4 is the opening's last
        seen, stream = watch_texts(fifo, monkeypatch), fifo.stream("a cat", seed=0, **settings)
        list(islice(stream, frame))
        stream.prompt = "a dog"
        list(islice(stream, whole + 3))
        waits.append([min(k for k, texts in seen.items() if "a dog" in texts) - frame])
        waits[-1].append(min(k for k, texts in seen.items() if texts == {"a dog"}) - frame)
        monkeypatch.undo()
    assert np.max(waits, 0).tolist() == [first, whole]


def test_a_blend_passes_through_the_middle(fifo):
    ends = {0: "a cat", 8: "a dog"}
    track = fifo.stream(ends, seed=0, prompt_change="blend", **SMALL)._prompts
    cat, dog = (track._encoded((p,)).text for p in ("a cat", "a dog"))
    mixed = track.condition([range(2, 6)], head=0).text
    torch.testing.assert_close(mixed[:, :, 2], (cat + dog) / 2)
    torch.testing.assert_close(mixed[:, :, 0], 0.75 * cat + 0.25 * dog)


def watch_texts(fifo, monkeypatch):
    """Which texts each frame is denoised under, read from what the model is given."""
    seen, stream_of = {}, {}
    names = {}
    condition_of, predict = fifo.model.condition, fifo.model.predict

    def condition(prompts, **call):
        result = condition_of(prompts, **call)
        names[prompts[0]] = result.text[1, 0]
        return result

    def watched(latents, timestep, given):
        text = given.text[1, 0]
        rows = text if given.per_frame else text.expand(latents.shape[2], -1, -1)
        stream_of["rows"] = [next(n for n, v in names.items() if torch.equal(v, row)) for row in rows]
        return predict(latents, timestep, given)

    monkeypatch.setattr(fifo.model, "condition", condition)
    monkeypatch.setattr(fifo.model, "predict", watched)
    from fifo_diffusion.streaming import stream as module

    original = module.FrameStream._predict

    def numbered(self, latents, timestep, windows):
        result = original(self, latents, timestep, windows)
        layout = self._layout
        if self._queue is not None:  # only what is written counts
            base = self._queue.frames(layout).start
            window = next(w for w in layout.windows if base + w.reads.start == windows[0][0])
            kept = range(base + window.writes.start, base + window.writes.stop)
        else:
            kept = windows[0]
        for frame, name in zip(windows[0], stream_of["rows"], strict=True):
            if frame in kept:
                seen.setdefault(frame, set()).add(name)
        return result

    monkeypatch.setattr(module.FrameStream, "_predict", numbered)
    return seen


@pytest.mark.parametrize("change", ["blend", *(pytest.param(way, marks=pytest.mark.slow) for way in ("tail", "queue"))])
def test_a_prompt_assigned_while_running_is_a_schedule(fifo, change):
    stream = fifo.stream("a cat", seed=0, prompt_change=change, **SMALL)
    first = frames(stream, 6)
    at = stream.change_frame
    stream.prompt = "a dog"
    rest = frames(stream, 14)
    keys = {"tail": {0: "a cat", at: "a dog"}, "queue": {0: "a cat", at: "a dog"}}
    keys["blend"] = {0: "a cat", at: "a cat", at + 8: "a dog"}
    planned = frames(fifo.stream(keys[change], seed=0, num_frames=20, prompt_change=change, **SMALL))
    assert same(np.concatenate([first, rest]), planned)
    assert not same(planned, frames(fifo.stream("a cat", seed=0, num_frames=20, **SMALL)), 3)
    assert stream.prompt == "a dog" or change == "blend"


def test_prompts_before_the_first_frame_and_for_batches(fifo):
    stream = fifo.stream("a cat", seed=0, num_frames=6, **SMALL)
    stream.prompt = "a dog"
    assert np.array_equal(frames(stream), frames(fifo.stream("a dog", seed=0, num_frames=6, **SMALL)))
    batch = fifo.stream(["a cat", "a dog"], seed=0, **SMALL)
    assert batch.prompt == ["a cat", "a dog"]
    batch.prompt = ["a dog", "a cat"]
    assert batch.prompt == ["a dog", "a cat"]
    with pytest.raises(ValueError, match="3 prompts for 2 videos"):
        batch.prompt = ["a", "b", "c"]


def test_prompts_that_are_over_are_forgotten(fifo):
    stream = fifo.stream("a cat", seed=0, **SMALL)
    for k in range(30):
        next(stream)
        stream.prompt = f"a {'red ' * (k % 7)}dog"
    assert len(stream._prompts.schedule) <= stream.settings.queue_layout.size + 2
    assert len(stream._prompts._conditions) <= 8


def test_a_prompt_given_with_a_state_is_for_new_frames(fifo):
    stream = fifo.stream("a cat", seed=0, **SMALL)
    list(islice(stream, 5))
    state = stream.state()
    same_prompt = frames(fifo.stream("a cat", start=state, num_frames=16))
    assert np.array_equal(same_prompt, frames(stream, 11))
    changed = frames(fifo.stream("a dog", start=state, num_frames=20))
    assert same(changed[:6], same_prompt[:6])  # in the queue already, but for the last ones' company
    with pytest.raises(ValueError, match="something else of frame 0"):
        fifo.stream({0: "a dog"}, start=state)
    with pytest.raises(ValueError, match="2 prompts for 1 videos"):
        fifo.stream(["a dog", "a cat"], start=state)


def test_a_blend_changed_on_its_way_goes_on_from_where_it_is(fifo):
    track = fifo.stream({0: "a cat", 8: "a dog"}, seed=0, prompt_change="blend", **SMALL)._prompts
    before = track.condition([range(4, 8)], head=0).text[:, :, 0]
    track.assign(["a red ball"], 4, "blend", 4 - track.schedule.reach)
    torch.testing.assert_close(track.condition([range(4, 8)], head=0).text[:, :, 0], before)
    assert track.schedule.entering_at(6, 0) == ("a red ball",)
