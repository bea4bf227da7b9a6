"""What a run would be, counted instead of computed: `generate --dry-run`, and what a page shows before
it starts."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from fifo_diffusion.errors import Message, Setting, joined
from fifo_diffusion.jobs.cost import cost_of
from fifo_diffusion.jobs.memory import parameters, queue_bytes, weights_bytes
from fifo_diffusion.jobs.plan import Plan
from fifo_diffusion.jobs.speed import speed_of
from fifo_diffusion.method.layout import Layout
from fifo_diffusion.method.tail import Tail
from fifo_diffusion.settings import StreamSettings, specs
from fifo_diffusion.settings.fitting import preset_values
from fifo_diffusion.settings.guidance import GuidanceSettings
from fifo_diffusion.settings.kinds import number_text
from fifo_diffusion.settings.presets import PRESETS
from fifo_diffusion.streaming.prompt_notes import prompt_notes
from fifo_diffusion.streaming.prompts import parse_prompt
from fifo_diffusion.text import duration, real_time


def described(plan: Plan) -> list[tuple[str, str | Message]]:
    """The plan as a table for people: names of rows, empty where one goes on, and their texts."""
    return [
        ("model", f"{plan.model_name} ({plan.model.family}), {plan.dtype} on {plan.device}"),
        ("video", _video(plan)),
        *(("", f"{v.output}  seed {v.seed}  {_prompt(v.prompt)}") for v in plan.videos),
        *_time(plan),
        *(_method(plan) if plan.request.method == "fifo" else _baseline(plan)),
        *(("note", note) for note in notes_on(plan)),
    ]


def counted(plan: Plan, words: Callable[[str | Message], str] = str) -> dict[str, Any]:
    """The plan as plain values for programs: fields of the answer of `POST /api/cost` (docs/http.md), `ok` and `error`
    left out.

    Args:
        words: makes one line of a text.
    """
    cost, speed, settings = cost_of(plan), speed_of(plan), plan.settings
    whole = all_forwards(plan)
    queue = settings.queue_layout if plan.request.method == "fifo" else None
    return {
        "notes": [words(note) for note in notes_on(plan)],
        "rows": [[name, words(text)] for name, text in described(plan)],
        "num_frames": plan.num_frames,
        "fps": plan.fps,
        "size": f"{settings.width * plan.scale}x{settings.height * plan.scale}",
        "seconds": None if plan.num_frames is None else plan.num_frames / plan.fps,
        "forwards": whole,
        "first_frame_seconds": None if speed is None or plan.done else speed * cost.until(1),
        "eta_seconds": None if speed is None or whole is None else speed * whole,
        "rate": None if speed is None or queue is None else 1 / (speed * cost.per_frame),
        "memory": {
            "weights": weights_bytes(plan.model, plan.dtype, plan.kept["quantize"]),
            "queue": queue_bytes(plan.model, settings, plan.slots),
        },
        "given": plan.given,
        "slots": queue and queue.slots,
        "levels": queue and queue.levels,
    }


def all_forwards(plan: Plan) -> float | None:
    """Frame-forwards that are still to be computed, of all videos; None: without end."""
    cost = cost_of(plan)
    if plan.num_frames is None:
        return None
    return (cost.until(plan.num_frames) - cost.until(plan.done)) * len(plan.videos)


def notes_on(plan: Plan) -> list[Message | str]:
    """Remarks on what was asked for, those included that the core tells where the video is made."""
    import torch

    from fifo_diffusion.execution.precision import slow_precision

    slow = slow_precision(torch.device(plan.device), getattr(torch, plan.dtype))
    return [*plan.remarks, *([slow] if slow else ()), *_notes_on_prompts(plan)]


def _notes_on_prompts(plan: Plan) -> list[Message | str]:
    if plan.state is not None or plan.request.method != "fifo":
        return []
    prompts = (parse_prompt(video.prompt)[0] for video in plan.videos)
    notes = (prompt_notes(plan.model, keys, plan.settings, plan.num_frames) for keys in prompts)
    return list(dict.fromkeys(note for of_one in notes for note in of_one))


def _method(plan: Plan) -> list[tuple[str, str]]:
    layout, settings = plan.settings.queue_layout, plan.settings
    return [
        ("memory", _memory(plan)),
        *_cost(plan),
        ("prompt", _change(plan)),
        *_preset(plan),
        ("queue", _queue(plan)),
        *_windows(layout.plain),
        *_tail(plan),
        ("settings", f"eta {settings.eta:g}, {_guidance(settings)}, start {_start(plan)}{_steps(plan)}"),
    ]


def _baseline(plan: Plan) -> list[tuple[str, str]]:
    from fifo_diffusion.baselines import BASELINES

    settings, baseline = plan.settings, BASELINES[plan.settings.method]
    own = "".join(f", {name} {getattr(settings, name)}" for name in baseline.options)
    rows = [
        ("method", f"{baseline.title}: {settings.num_inference_steps} steps, windows of {settings.window} frames{own}")
    ]
    cost = cost_of(plan)
    twice = " (guidance makes it twice as many)" if cost.passes == 2 else ""
    rows.append(("cost", f"{cost.until(1)} frame-forwards until the first frame{twice}"))
    if plan.num_frames is not None:
        rows.append(("", f"{all_forwards(plan):.10g} in all"))
    rows.append(("settings", f"eta {settings.eta:g}, guidance {settings.guidance_scale:g}{_steps(plan)}"))
    return rows


def _guidance(settings: Any) -> str:
    """Its scale, and what else is said of it."""
    every = specs(GuidanceSettings)
    said = [(name, value) for name, spec in every.items() if (value := getattr(settings, name)) != spec.default]
    words = [f"guidance {settings.guidance_scale:g}"]
    for name, value in said:
        text = value if isinstance(value, str) else f"{value:g}" if isinstance(value, float | int) else None
        words.append(f"{name.replace('_', ' ')} {text or ' to '.join(map(number_text, value))}")
    return ", ".join(words)


def _steps(plan: Plan) -> str:
    """Steps that are given one by one."""
    said = ((name, getattr(plan.settings, name)) for name in ("timesteps", "sigmas"))
    return "".join(f", {name} {' '.join(map(number_text, values))}" for name, values in said if values is not None)


def _video(plan: Plan) -> str:
    size = f"{plan.settings.width * plan.scale}x{plan.settings.height * plan.scale}"
    count = f"{len(plan.videos)} videos, each " if len(plan.videos) > 1 else ""
    if plan.num_frames is None:
        return f"{count}endless, {size}, at {plan.fps:g} frames/s"
    length = f"{count}{plan.num_frames} frames of {size}, {plan.num_frames / plan.fps:.1f} s at {plan.fps:g} frames/s"
    return length + (f", {plan.done} of them done" if plan.done else "")


def _prompt(prompt: Any) -> str:
    return prompt if isinstance(prompt, str) else json.dumps(prompt, ensure_ascii=False)


def _preset(plan: Plan) -> list[tuple[str, Message]]:
    """Its settings that hold, and those that do not because something else was given."""
    settings, model = plan.settings, plan.model
    if settings.preset is None:
        return []
    given = StreamSettings(**{name: getattr(plan.request.settings, name) for name in specs(StreamSettings)})
    asked = replace(given, timesteps=settings.timesteps, sigmas=settings.sigmas)
    values = preset_values(PRESETS[settings.preset], model.frames, asked, told_guidance=model.told_guidance)
    found = {name: getattr(settings, name) for name in values}
    said = [Setting(name, value) for name, value in found.items() if value == values[name]]
    other = [Setting(name, value) for name, value in found.items() if value != values[name]]
    but = [", but ", *joined(other, ", ")] if other else []
    return [("preset", Message(f"{settings.preset}: ", *joined(said, ", "), *but))]


def _queue(plan: Plan) -> str:
    layout = plan.settings.queue_layout
    timing = plan.model.timing
    latents = f" (a latent frame is {timing.further} frames, the first {timing.first})" if timing.further > 1 else ""
    summary = f", {layout.summary}" if layout.summary else ""
    return (
        f"f = {layout.frames} frames per window{latents}{summary}: {layout.slots} slots, {layout.levels} levels "
        f"(denoising steps of a frame), {layout.context} context slots"
    )


def _tail(plan: Plan) -> list[tuple[str, str]]:
    """What enters, where that is not white noise alone."""
    tail, said = Tail.of(plan.settings), []
    if tail.coherent:
        said.append(f"{tail.coherent:g} of the newest frame's low frequencies")
    if tail.reference:
        said.append(f"{tail.reference:g} of these the first frame's")
    if tail.adain:
        said.append(f"their colours moved to the first frame's by {tail.adain:g}")
    if tail.draws > 1:
        cost = cost_of(plan)
        each = cost.of_draws * cost.passes / cost.timing.further
        most = f"at most, where the first falls short by {tail.threshold:g}, " if tail.threshold else ""
        said.append(
            f"{most}the best of {tail.draws} draws for every {tail.every} latents: {each:g} of the frame-forwards"
        )
    return [("tail", "; ".join(said))] if said else []


def _windows(layout: Layout) -> list[tuple[str, str]]:
    """Slots are counted from the head of the queue; context slots are negative."""
    if layout.banded:
        return [
            ("windows", f"none: {layout.size} slots at once, each sees {layout.frames} neighbours, itself among them")
        ]

    def span(slots: Sequence[int]) -> str:
        numbers = [slot - layout.context for slot in slots if slot < layout.size]
        in_a_row = numbers == list(range(numbers[0], numbers[-1] + 1))
        return f"{numbers[0]} to {numbers[-1]}" if in_a_row else ", ".join(map(str, numbers))

    rows = []
    for turn, step in enumerate(map(layout.step, range(layout.period))):
        lines = [f"{span(w.reads)} -> {span(w.writes)}" for w in step.windows]
        lines = lines if len(lines) <= 8 else [*lines[:6], f"... ({len(lines) - 7} more)", lines[-1]]
        which = "per iteration" if layout.period == 1 else f"in iteration {turn + 1} of {layout.period}"
        among = f", {layout.anchors} of them anchors" if layout.anchors else ""
        title = f"{len(step.windows)} {which}, of {layout.frames} frames each{among}; slots read -> written:"
        rows += [("" if turn else "windows", title), *(("", line) for line in lines)]
    return rows


def _cost(plan: Plan) -> list[tuple[str, str]]:
    cost = cost_of(plan)
    more = cost.per_latent / (cost.layout.frame_forwards_per_frame + cost.of_draws)
    times = "twice" if more == 2 else f"{more:.3g} times"
    twice = f" (guidance makes it {times} as many)" if cost.passes == 2 else ""
    rows = [("cost", f"{cost.per_frame:g} frame-forwards per frame{twice}")]
    if not plan.done and cost.opening and cost.clip:
        made = "the rest of the clip that the given frames begin" if cost.given else "the clip that opens the video"
        rows.append(("", f"{cost.clip} for {made}: then its first frame is there"))
        rows.append(("", f"{cost.fill:g} to fill the queue, spread over the clip's frames"))
    elif not plan.done and cost.opening:
        rows.append(("", f"{cost.fill:g} to fill the queue, spread over the given frames"))
    elif not plan.done:
        rows.append(("", f"{cost.until(1):g} until the first frame, to fill the queue"))
    if plan.num_frames is not None:
        rows.append(("", f"{all_forwards(plan):.10g} in all"))
    return rows


def _change(plan: Plan) -> str:
    """When a prompt that is given while the video runs is seen, in the ways in which it may come in."""
    cost, speed, told = cost_of(plan), speed_of(plan), []
    for how in specs(StreamSettings)["prompt_change"].kind.words:
        first, whole = cost.late_by(how)
        seconds = f"{first / plan.fps:.1f} s"
        then = f", alone after {whole / plan.fps:.1f} s" if whole != first else ""
        waiting = "" if speed is None else f", {duration(first * speed * cost.per_frame)} of waiting"
        told.append(f"{how} {first} frames ({seconds} of video{waiting}{then})")
    # While the opening is shown the queue may be further ahead of the viewer.
    when = f"given after frame {cost.opening}" if cost.opening > plan.done else "given while it runs"
    return f"{when}, seen after at most: {'; '.join(told)}"


def _memory(plan: Plan) -> str:
    weights = _megabytes(weights_bytes(plan.model, plan.dtype, plan.kept["quantize"]))
    settings = plan.request.settings
    lighter = f", {plan.kept['quantize']}" if plan.kept["quantize"] else ""
    kept = {"model": "a network", "group": "a layer or two", "sequential": "a layer"}
    way = settings.offload
    where = f" in host memory, {kept[way]} of them on {plan.device} at a time" if way else ""
    queue = _megabytes(queue_bytes(plan.model, plan.settings, plan.slots))
    return (
        f"weights {weights} ({parameters(plan.model) / 1e6:,.1f} million parameters{lighter}){where}, queue {queue}, "
        "whatever the length (computed; the model's own work comes on top)"
    )


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.1f} MB"


def _start(plan: Plan) -> str:
    return f"from frame {plan.done}" if plan.state is not None else plan.request.settings.start


def _time(plan: Plan) -> list[tuple[str, str]]:
    cost, speed = cost_of(plan), speed_of(plan)
    if speed is None:
        return [("time", "not known yet: a short real run measures this machine (try --num-frames 20)")]
    if plan.request.method != "fifo":
        first = duration(speed * cost.until(1))
        whole = "" if plan.num_frames is None else f", all after about {duration(speed * (all_forwards(plan) or 0))}"
        return [("time", f"first frame after about {first}{whole}")]
    each = f"{duration(speed * cost.per_frame)} per frame" if speed * cost.per_frame >= 1 else ""
    rate = 1 / (speed * cost.per_frame)
    each = (each or f"{rate:.2f} frames/s") + f", {real_time(rate, plan.fps)}"
    parts = [each]
    if not plan.done:
        parts.insert(0, f"first frame after about {duration(speed * cost.until(1))}")
    if plan.num_frames is not None:
        parts.append(f"all after about {duration(speed * (all_forwards(plan) or 0))}")
    return [("time", f"{', '.join(parts)}; {speed * 1000:.2f} ms per frame-forward, measured on this machine")]
