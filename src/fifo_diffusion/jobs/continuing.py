"""Going on with a saved run: what its file holds beside the stream's own state, and the output that it continues."""

import os
import re
from pathlib import Path
from typing import Any

from fifo_diffusion.errors import LOOKAHEAD_OPTIONS, CliError, as_option, checking, usage
from fifo_diffusion.jobs.outputs import facts_of, frames_there, is_nobodys
from fifo_diffusion.jobs.prompt_files import in_frames
from fifo_diffusion.jobs.request import DTYPES, SAMPLING, STREAM_OPTIONS, Prompt, Request, Video, model_id
from fifo_diffusion.streaming.state_checks import (
    Check,
    Optional,
    check_values,
    flag,
    maybe,
    number,
    one_of,
    text,
    whole,
)
from fifo_diffusion.text import shell_word
from fifo_diffusion.video import iter_frames

NOTES: dict[str, Check | Optional] = {
    "output": lambda value: text(value) and value not in ("", "-"),
    "prompt": lambda value: text(value) or _is_schedule(value),
    "model": text,
    "dtype": one_of(*DTYPES),
    "fps": number(1e-3, 1e4),
    "fps_condition": maybe(number(1e-3, 1e4)),
    "scheduler": Optional(maybe(text)),
    "flow_shift": Optional(maybe(number(1e-6, 1e6))),
    "scale": whole(1, 1000),
    "start": text,
    "include_start": flag,
    "start_every_frame": Optional(flag),
    "start_fit": Optional(one_of("crop", "pad")),
    "given": whole(),
    "num_frames": maybe(whole(1)),
    "command": text,
}
"""What a state file of this command holds beside the stream's own state."""
OLDER_NOTES = {"start_every_frame": True, "start_fit": "crop"}
"""What files without these notes were made with."""


def _is_schedule(value: Any) -> bool:
    return isinstance(value, dict) and "0" in value and all(re.fullmatch(r"\d{1,15}", k) for k in value)


def load_state(request: Request) -> Any:
    """The state of the run that is continued; what was given again must be as it was."""
    from fifo_diffusion.streaming.state import QueueState

    assert request.continues is not None
    with checking():
        state = QueueState.load(request.continues)
    if not state.notes:
        raise usage(
            f"{request.continues} was not saved by this command and names no output: continue it in Python with "
            f"fifo.stream(start={str(request.continues)!r})"
        )
    try:
        check_values("notes", state.notes, NOTES)
    except ValueError as error:
        raise usage(
            f"{request.continues} is damaged, or of another version of this program ({error}): start anew"
        ) from error
    state.notes = dict.fromkeys(SAMPLING) | OLDER_NOTES | state.notes
    saved = state.settings | state.notes
    saved["seed"] = saved["seeds"][0]
    saved["num_inference_steps"] = saved["num_partitions"] * saved["window"] // saved["frames_per_level"]
    if saved["negative_prompt"] is not None:
        saved["negative_prompt"] = saved["negative_prompt"][0]
    for name in (*STREAM_OPTIONS, "seed", "model", "dtype", "fps", "fps_condition", "scale", *SAMPLING):
        value = request.get(name)
        value = model_id(value) if name == "model" and value else DTYPES.get(value, value) if name == "dtype" else value
        if name in request.given and value != saved[name]:
            typed, before = as_typed(name, value), as_typed(name, saved[name])
            raise _other(request, f"was saved {before}, not {typed}: leave {typed.removeprefix('with ')} out")
    prompt, before = request.prompt, _prompt_of(state)
    if isinstance(prompt, dict):
        prompt = in_frames(prompt, float(state.notes["fps"]))
    if prompt is not None and prompt != before:
        raise _other(request, f"was saved with another prompt ({_short(before)}): leave the prompt out")
    return state


def continued_video(request: Request, state: Any, num_frames: int | None) -> Video:
    assert request.continues is not None
    folder = request.continues.absolute().parent
    output = os.path.normpath(folder / state.notes["output"])
    shown = os.path.relpath(output) + "/" * state.notes["output"].endswith("/")
    if "output" in request.given:
        if os.path.abspath(request.given["output"]) != output:
            raise _other(request, f"belongs to {shown}, not to {request.given['output']}: leave -o out")
    elif not Path(output).is_relative_to(folder):  # anybody can write any name into a file
        raise usage(
            f"{request.continues} continues {shown}, which is in another folder: if that is right, add "
            f"-o {shell_word(shown)}"
        )
    done = state.frame_index
    if num_frames is not None and num_frames < done:
        raise usage(
            f"{shown} has {done} frames already, and --num-frames counts the whole video: give more than {done}"
        )
    if done and not os.path.exists(shown):
        raise CliError(f"{shown}, which {request.continues} continues, is gone: put it back, or start anew")
    if os.path.lexists(shown):
        _check_ours(shown, request, state)
    if done:
        scale, size = state.notes["scale"], (state.settings["height"], state.settings["width"])
        height, width = next(iter_frames(shown)).shape[:2]
        if (height, width) != tuple(side * scale for side in size):
            raise CliError(
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
        raise CliError(
            f"{output} was not made by the run that {request.continues} continues: move it away, or name another "
            "--state FILE for a new video"
        )
    if there < done:
        raise CliError(f"{output} has {there} frames but {request.continues} goes on from frame {done}: start anew")
    if not os.access(output, os.W_OK):
        advice = f"choose another place, or make it writable (chmod u+w {shell_word(output)})"
        raise CliError(f"cannot write {output}: {advice}")


def _prompt_of(state: Any) -> Prompt:
    prompt = state.notes["prompt"]
    return prompt if isinstance(prompt, str) else {int(frame): text for frame, text in prompt.items()}


def _other(request: Request, what: str) -> CliError:
    return usage(f"{request.continues} {what} to continue, or name another --state FILE for a new video")


def as_typed(name: str, value: Any) -> str:
    """with --seed 3, with --no-lookahead, without --compat"""
    if name == "lookahead":
        return f"with {LOOKAHEAD_OPTIONS[value]}"
    if value is None or value is False:
        return f"without {as_option(name)}"
    return f"with {as_option(name)}" + ("" if value is True else f" {value}")


def _short(prompt: Prompt) -> str:
    text = prompt if isinstance(prompt, str) else f"a schedule that begins with {prompt[0]}"
    return text if len(text) <= 60 else text[:57] + "..."
