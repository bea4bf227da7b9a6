"""Going on with a saved run: what its file holds beside the stream's own state, and the output that it continues."""

import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fifo_diffusion.errors import Message, Setting, UsageError, UserError, message_of, usage, usage_errors
from fifo_diffusion.jobs.outputs import facts_of, frames_there, is_nobodys
from fifo_diffusion.jobs.prompt_files import in_frames
from fifo_diffusion.jobs.request import Prompt, Request, Video, model_id, quantize_id
from fifo_diffusion.settings import DTYPES, Settings, Spec, specs
from fifo_diffusion.settings.kinds import Switch
from fifo_diffusion.settings.spec import IN_NOTES
from fifo_diffusion.streaming.state_checks import Check, check_values, declared, maybe, text, whole
from fifo_diffusion.text import shell_word
from fifo_diffusion.video import iter_frames

NOTES: dict[str, Check] = declared(Settings, IN_NOTES) | {
    "output": lambda value: text(value) and value not in ("", "-"),
    "prompt": lambda value: text(value) or _is_schedule(value),
    "given": whole(),
    "num_frames": maybe(whole(1)),
    "command": text,
}
"""What a state file of this command holds beside the stream's own state."""


def _is_schedule(value: Any) -> bool:
    return isinstance(value, dict) and "0" in value and all(re.fullmatch(r"\d{1,15}", k) for k in value)


def load_state(request: Request) -> Any:
    """The state of the run that is continued; what was given again must be as it was."""
    from fifo_diffusion.streaming.state import RunState

    assert request.continues is not None
    with usage_errors():
        state = RunState.load(request.continues)
    if not state.notes:
        raise usage(
            f"{request.continues} was not saved by this command and names no output: continue it in Python with "
            f"fifo.stream(start={str(request.continues)!r})"
        )
    check_notes(state, request.continues)
    every = {
        name: spec for name, spec in specs(Settings).items() if spec.saved or name in ("seed", "num_inference_steps")
    }
    saved = state.settings | state.notes
    saved["seed"] = saved["seeds"][0]
    from fifo_diffusion.method import layout_of

    saved["num_inference_steps"] = layout_of(SimpleNamespace(**saved)).levels
    if saved["negative_prompt"] is not None:
        saved["negative_prompt"] = saved["negative_prompt"][0]
    for name, spec in every.items():
        if name not in request.settings.given:
            continue
        value = request.settings.given[name]
        known = {"model": model_id, "dtype": DTYPES.__getitem__, "quantize": quantize_id}
        value = known[name](value) if name in known else value
        if value != saved[name]:
            given, before = _with(spec, value), _with(spec, saved[name])
            raise _other(request, "was saved ", *before, ", not ", *given, ": leave ", *given[1:], " out")
    prompt, before = request.prompt, _prompt_of(state)
    if isinstance(prompt, dict):
        prompt = in_frames(prompt, float(state.notes["fps"]))
    if prompt is not None and prompt != before:
        raise _other(request, f"was saved with another prompt ({_short(before)}): leave the prompt out")
    return state


def check_notes(state: Any, path: Path) -> None:
    """Check what a state holds beside the stream's own.

    Raises:
        UsageError: the file is damaged, or of another version.
    """
    try:
        check_values("notes", state.notes, NOTES, others=True)
    except ValueError as error:
        raise usage(
            f"{path} is damaged, or of another version of this program (", *(message_of(error), "): start anew")
        ) from error


def continued_video(request: Request, state: Any, num_frames: int | None) -> Video:
    assert request.continues is not None
    folder = request.continues.absolute().parent
    output = os.path.normpath(folder / state.notes["output"])
    shown = os.path.relpath(output) + "/" * state.notes["output"].endswith("/")
    named = request.settings.output
    if named is not None:
        if os.path.abspath(named) != output:
            raise _other(request, f"belongs to {shown}, not to {named}: leave ", Setting("output"), " out")
    elif not Path(output).is_relative_to(folder):  # anybody can write any name into a file
        raise usage(
            f"{request.continues} continues {shown}, which is in another folder: if that is right, add ",
            Setting("output", shown),
        )
    done = state.frame_index
    if num_frames is not None and num_frames < done:
        raise usage(
            *(f"{shown} has {done} frames already, and ", Setting("num_frames"), " counts the whole video: give more "),
            f"than {done}",
        )
    if done and not os.path.exists(shown):
        raise UserError(f"{shown}, which {request.continues} continues, is gone: put it back, or start anew")
    if os.path.lexists(shown):
        _check_ours(shown, request, state)
    if done:
        scale, size = state.notes["scale"], (state.settings["height"], state.settings["width"])
        height, width = next(iter_frames(shown)).shape[:2]
        if (height, width) != tuple(side * scale for side in size):
            raise UserError(
                f"{shown} is {width}x{height}, which {request.continues} does not go on with: put back the video that "
                "it belongs to, or start anew"
            )
    return Video(_prompt_of(state), shown, state.settings["seeds"][0])


def _check_ours(output: str, request: Request, state: Any) -> None:
    """The output that is there must be the one that the state was saved with: it is cut, and written to."""
    done, notes = state.frame_index, state.notes
    if not done and is_nobodys(output):
        return
    there, facts = frames_there(output), facts_of(output)
    own = {"command": notes["command"], "seed": str(state.settings["seeds"][0])}
    if any(facts.get(name) != value for name, value in own.items()):
        raise UserError(
            f"{output} was not made by the run that {request.continues} continues: move it away, or name another ",
            *(Setting("state"), " FILE for a new video"),
        )
    if there < done:
        raise UserError(f"{output} has {there} frames but {request.continues} goes on from frame {done}: start anew")
    if not os.access(output, os.W_OK):
        advice = f"choose another place, or make it writable (chmod u+w {shell_word(output)})"
        raise UserError(f"cannot write {output}: {advice}")


def _prompt_of(state: Any) -> Prompt:
    prompt = state.notes["prompt"]
    return prompt if isinstance(prompt, str) else {int(frame): text for frame, text in prompt.items()}


def _other(request: Request, *what: str | Setting | Message) -> UsageError:
    another = (" to continue, or name another ", Setting("state"), " FILE for a new video")
    return usage(f"{request.continues} ", *what, *another)


def _with(spec: Spec, value: Any) -> list[str | Setting | Message]:
    """with --seed 3, with --no-lookahead, without --compat"""
    if value is None or (value is False and not isinstance(spec.kind, Switch)):
        return ["without ", Setting(spec.name)]
    return ["with ", Setting(spec.name, value)]


def _short(prompt: Prompt) -> str:
    text = prompt if isinstance(prompt, str) else f"a schedule that begins with {prompt[0]}"
    return text if len(text) <= 60 else text[:57] + "..."
