"""`--prompts` run again after a stop: finished videos are left as they are, the stopped one goes on."""

import os
import re
from dataclasses import replace

from fifo_diffusion.errors import Setting, UserError, usage, usage_errors
from fifo_diffusion.jobs.outputs import facts_of, frames_there, is_nobodys
from fifo_diffusion.jobs.plan import Plan, make_plan
from fifo_diffusion.jobs.request import Request, Video


def resumed(plan: Plan) -> Plan:
    """The plan of a batch, each of whose videos knows what is there of it already.

    A video is recognised by what its file says: the same prompt, seed, model and settings. Where no seed was given, it
    is the one that the batch was begun with.

    Raises:
        UserError: an output is there that is no part of this batch.
    """
    request = plan.request
    if request.settings.overwrite:
        return plan
    there = {k: facts_of(v.output) for k, v in enumerate(plan.videos) if not is_nobodys(v.output)}
    stopped, seed = _stopped(plan)
    videos = plan.videos
    if request.settings.seed is None:
        seeds = [_seed(f) - k for k, f in there.items() if _is_same(plan, videos[k], f, but="seed")]
        seeds += [] if seed is None else [seed]
        begun = next((first for first in seeds if 0 <= first <= 2**64 - len(videos)), None)
        if begun is not None:
            videos = [replace(video, seed=begun + k) for k, video in enumerate(videos)]
    found = [_as_found(plan, v, there.get(k), goes_on=k == stopped) for k, v in enumerate(videos)]
    return replace(plan, videos=found)


def plan_of(plan: Plan, video: Video) -> Plan:
    """The plan of one video of a batch."""
    if not video.goes_on:
        return replace(plan, videos=[video])
    settings = plan.request.settings.but(prompts=None, prompt=video.prompt, output=video.output, seed=video.seed)
    own = make_plan(Request(settings, continues=plan.request.state_file))
    own.request = plan.request
    return own


def _stopped(plan: Plan) -> tuple[int | None, int | None]:
    """Which video the state file is of, and the seed of the batch that it tells."""
    from fifo_diffusion.streaming.state import RunState

    state = plan.request.state_file
    if state is None or not state.exists():
        return None, None
    with usage_errors():
        saved = RunState.load(state)
    output = os.path.normpath(state.absolute().parent / str(saved.notes.get("output")))
    for index, video in enumerate(plan.videos):
        if os.path.abspath(video.output) == output:
            gone = saved.frame_index and not os.path.exists(output)  # taken away, so that it is made anew
            return None if gone else index, saved.settings["seeds"][0] - index
    raise usage(f"{state} is of no video of this batch: name another ", Setting("state"), " FILE, or delete it")


def _as_found(plan: Plan, video: Video, facts: dict[str, str] | None, *, goes_on: bool) -> Video:
    frames, wanted = (0 if facts is None else frames_there(video.output)), plan.num_frames
    if facts is not None and not _is_same(plan, video, facts):
        raise UserError(
            f"{video.output} exists already, and is no part of this batch: add ",
            Setting("overwrite", True),
            " to make all videos anew, or choose another name",
        )
    assert wanted is not None  # no batch is endless
    if frames > wanted:
        raise UserError(
            *(f"{video.output} has {frames} frames already: add ", Setting("overwrite", True), ", or give a larger "),
            Setting("num_frames"),
        )
    if frames == wanted:
        return replace(video, finished=True)
    return replace(video, goes_on=goes_on, replaces=facts is not None)


def _is_same(plan: Plan, video: Video, facts: dict[str, str], but: str = "") -> bool:
    own = plan.facts(video)
    return all(facts.get(name) == value for name, value in own.items() if name not in ("software", "command", but))


def _seed(facts: dict[str, str]) -> int:
    seed = facts.get("seed", "")
    return int(seed) if re.fullmatch(r"\d{1,20}", seed) else -1
