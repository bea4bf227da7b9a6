"""`fifo-diffusion generate`: plan, load, write frame after frame, end in order."""

import re
import time
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fifo_diffusion.cli.interrupts import Interrupts, Stopped
from fifo_diffusion.cli.progress import Progress, duration, say, tell
from fifo_diffusion.errors import FAILURE, CliError, checking, explain
from fifo_diffusion.execution.torchrun import joined, torchrun_rank
from fifo_diffusion.jobs.baselines import BaselineCost, open_baseline
from fifo_diffusion.jobs.batch import make_folder, plan_of, resumed
from fifo_diffusion.jobs.cost import Cost
from fifo_diffusion.jobs.keeper import StateKeeper
from fifo_diffusion.jobs.locks import locked
from fifo_diffusion.jobs.plan import Plan, check_outputs, make_plan, sampling, stream_arguments
from fifo_diffusion.jobs.request import DEFAULT_STATE_EVERY, DEFAULT_STATE_SECONDS, Request, Video
from fifo_diffusion.jobs.speed import key, known_speed, remember_speed
from fifo_diffusion.jobs.start_file import sound_of
from fifo_diffusion.text import shell_words
from fifo_diffusion.video import VideoFileError, open_writer

if TYPE_CHECKING:
    from fifo_diffusion.execution.ranks import Ranks


def run(request: Request) -> int:
    """Do what was asked; the exit code."""
    if torchrun_rank() and "dry_run" in request.given:
        return 0  # rank 0 says it
    with joined(request) as ranks, ExitStack() as locks:
        if not torchrun_rank():
            if "dry_run" not in request.given:
                _lock(request, locks)
            check_outputs(request)
        return _generate(request, ranks, locks)


def _lock(request: Request, locks: ExitStack) -> None:
    """Keep other processes from the state and the output."""
    state = request.state_file
    if state is not None:
        locks.enter_context(locked(state))
        if not request.batch and state.exists() != (request.continues is not None):
            raise CliError(f"another process has just begun or ended with {state}: type the same again")
        state.with_name(f"{state.name}.partial").unlink(missing_ok=True)  # of a process that was killed
    for output in [request.batch] if request.batch else [video.output for video in request.videos]:
        locks.enter_context(locked(output))


def _generate(request: Request, ranks: "Ranks | None", locks: ExitStack) -> int:
    with Interrupts() as interrupts:
        try:
            with interrupts.at_once():
                plan = _prepare(request)
                if "dry_run" in request.given:
                    from fifo_diffusion.cli.dry_run import describe

                    print(describe(plan))
                    return 0
                if plan.num_frames is not None and plan.done >= plan.num_frames:
                    if not torchrun_rank():
                        say(f"{plan.videos[0].output} has its {plan.done} frames: give a larger --num-frames to go on")
                        return 0 if tell(plan.videos[0].output) else FAILURE
                    return 0
                plans = [plan]
                if request.batch:
                    plan = plan if torchrun_rank() else resumed(plan)
                    videos = plan.videos if ranks is None else ranks.of_first(plan.videos)
                    plans = [plan_of(plan, video) for video in videos]
                    if all(video.finished for video in videos):
                        told = [_is_finished(request, video) for video in videos]
                        return 0 if all(told) else FAILURE
                if request.continues and not torchrun_rank():
                    locks.enter_context(locked(plan.videos[0].output))
                fifo = _load(plan, ranks)
        except Stopped as stopped:
            if ranks is not None:
                ranks.leave(stopped)
            say(f"\nstopped by {interrupts.name} before the first frame", quiet=bool(torchrun_rank()))
            return interrupts.exit_code
        with fifo:
            code = 0
            for own in plans:
                video = own.videos[0]
                if video.finished:
                    code = code if _is_finished(request, video) else FAILURE
                    continue
                if torchrun_rank():
                    _compute_along(own, fifo, video, interrupts)
                else:
                    with locked(video.output) if request.batch else nullcontext():
                        _Run(own, fifo, video, interrupts).write()
                if interrupts.stop:
                    if ranks is not None:
                        ranks.leave(f"stopped by {interrupts.name}")
                    if torchrun_rank():
                        say(f"fifo-diffusion (rank {torchrun_rank()}): stopped by {interrupts.name}")
                    return interrupts.exit_code
                if video.output != "-" and not torchrun_rank() and not tell(video.output):
                    code = FAILURE
    return code


def _is_finished(request: Request, video: Video) -> bool:
    say(f"{video.output} is finished: left as it is", quiet=request.quiet)
    return bool(torchrun_rank()) or tell(video.output)


def _prepare(request: Request) -> Plan:
    if "debug" not in request.given:
        from fifo_diffusion.jobs.libraries import quiet_libraries

        quiet_libraries()
    return make_plan(request)


def _load(plan: Plan, ranks: "Ranks | None" = None) -> Any:
    import torch

    from fifo_diffusion.pipeline import FIFO

    say(f"loading {plan.model_name} ({plan.dtype} on {plan.device})", quiet=plan.request.quiet)
    with checking():
        fifo = FIFO.from_pretrained(
            plan.source,
            device=plan.device,
            dtype=getattr(torch, plan.dtype),
            offload_text_encoder="offload_text_encoder" in plan.request.given,
            group=ranks,
            **sampling(plan.request, plan.state),
        )
        if "compile" in plan.request.given:
            fifo.model.compile()
    told = plan.request.get("fps_condition") or (plan.state and plan.state.notes["fps_condition"])
    if told:
        fifo.model.fps_condition = told
    return fifo


def _open_stream(plan: Plan, fifo: Any, video: Video) -> Any:
    windows = plan.request.get("windows_per_batch")
    with checking():
        if plan.request.method != "fifo":
            return open_baseline(plan, fifo, video)
        if plan.state is not None:
            return fifo.stream(start=plan.state, num_frames=plan.num_frames, windows_per_batch=windows)
        return fifo.stream(
            video.prompt,
            seed=video.seed,
            num_frames=plan.num_frames,
            windows_per_batch=windows,
            **stream_arguments(plan.request),
        )


def _compute_along(plan: Plan, fifo: Any, video: Video, interrupts: Interrupts) -> None:
    """What the ranks do that do not write."""
    try:
        with interrupts.at_once(), _open_stream(plan, fifo, video) as stream:
            for _ in stream:
                pass
    except Stopped:
        pass
    except Exception as error:
        if not interrupts.stop:  # else the others have been told to stop too, and were faster
            raise explain(error) from error


class _Run:
    """One video being made."""

    def __init__(self, plan: Plan, fifo: Any, video: Video, interrupts: Interrupts) -> None:
        self.plan, self.fifo, self.video, self.interrupts = plan, fifo, video, interrupts
        self.request = plan.request
        every = self.request.get("state_every", DEFAULT_STATE_EVERY)
        seconds = None if "state_every" in self.request.given else DEFAULT_STATE_SECONDS
        notes = plan.state.notes if plan.state is not None else plan.request.given
        self.sound = sound_of(self.request, notes, video.output, plan.fps, plan.model.defaults["fps"])
        self.keeper = StateKeeper(self.request.state_file, every, plan.notes(video), seconds=seconds)

    def write(self) -> None:
        """Make the video, or as much of it as there is time for; then `interrupts.stop` is set."""
        from fifo_diffusion.execution.ranks import RankError

        self._introduce()
        writer = None
        try:
            with self.interrupts.at_once():
                stream = _open_stream(self.plan, self.fifo, self.video)
                began = time.monotonic()
                if self.plan.state is None:
                    self.keeper.begin(stream)
                writer = self._open()
            with writer, stream:
                progress, lost = Progress(self.plan.num_frames, self.plan.done, quiet=self.request.quiet), None
                try:
                    self._frames(stream, writer, progress)
                except RankError as error:  # the queue is whole: what this run has is worth keeping
                    lost = error
                finally:
                    progress.close()
                writer.close()
                if writer.frames:
                    self.keeper.end(stream, writer)
                    if self.sound is not None:
                        self.sound.put_into(self.video.output, writer.frames, self.plan.fps)
                if lost is not None and not self.interrupts.stop:
                    raise lost
            self._remember_speed(time.monotonic() - began, writer.frames)
        except Stopped:
            pass
        except VideoFileError as error:
            raise explain(error) from error
        except Exception as error:
            told = explain(error)
            if writer is not None and writer.frames:
                told = CliError(f"{told}; the {writer.frames} frames so far are in {self.video.output}", told.code)
            raise told from error
        if self.interrupts.stop:
            self._say_goodbye(writer.frames if writer is not None else self.plan.done)

    def _frames(self, stream: Any, writer: Any, progress: Progress) -> None:
        while not self.interrupts.stop:
            # A frame in the making is worth finishing only where its state is kept.
            with self.interrupts.at_once(self.keeper.path is None or not writer.frames):
                frame = next(stream, None)
            if frame is None:
                return
            writer.write(frame)
            progress.advance()
            self.keeper.after_frame(stream, writer)

    def _open(self) -> Any:
        if self.request.batch:
            make_folder(self.video.output)
        return open_writer(
            self.video.output,
            fps=self.plan.fps,
            scale=self.plan.scale,
            metadata=self.plan.facts(self.video),
            overwrite="overwrite" in self.request.given or self.video.replaces,
            continue_from=None if self.plan.state is None else self.plan.done,
            background="write_in_turn" not in self.request.given,
        )

    # ------------------------------------------------------------------ what the user is told

    def _introduce(self) -> None:
        plan, settings, quiet = self.plan, self.plan.settings, self.request.quiet
        if quiet:
            return
        length = "endless" if plan.num_frames is None else f"{plan.num_frames} frames"
        if plan.state is not None:
            length += f", going on from frame {plan.done}"
        if self.request.method == "fifo":
            steps = f"{settings.num_partitions} x {settings.window} frames, {settings.layout.levels} steps"
            steps += {True: ", lookahead", False: "", "banded": ", banded lookahead"}[settings.lookahead]
        else:
            steps = f"{self.request.method}, {settings.num_inference_steps} steps"
        say(f"{self.video.output}: {length}, {settings.width}x{settings.height}, seed {self.video.seed}, {steps}")
        for remark in plan.remarks:
            say(f"note: {remark}")
        unknown = _unknown_to_toybox(plan.model_name, self.video.prompt)
        if unknown:
            say(f"note: toybox does not know {', '.join(unknown)}; what it knows: fifo-diffusion models")
        speed = known_speed(_speed_key(plan))
        if speed and plan.state is None:
            say(f"first frame in about {duration(speed * cost_of(plan).until(1))}")

    def _remember_speed(self, seconds: float, frames: int) -> None:
        cost, done = cost_of(self.plan), self.plan.done
        forwards = cost.until(frames) - cost.until(done)
        usual = self.fifo.ranks is None and not self.fifo.model.compiled
        if frames > done and forwards > 0 and usual:
            remember_speed(_speed_key(self.plan), seconds / forwards)

    def _say_goodbye(self, frames: int) -> None:
        name, output, state = self.interrupts.name, self.video.output, self.keeper.path
        if not frames:
            say(f"\nstopped by {name} before the first frame")
            return
        if output == "-":
            say(f"\nstopped by {name} after {frames} frames")
            return
        if self.request.batch:
            again = "type the same again to go on"
            if "overwrite" in self.request.given:
                again = "type the same again, without --overwrite, to go on"
            kept = "finished videos are kept" if state else "finished videos are kept; with --state FILE this one too"
            advice = f"{again} ({kept})"
        elif state is not None:
            words = ["fifo-diffusion", "generate", "--state", state]
            if not Path(output).absolute().is_relative_to(state.absolute().parent):
                words += ["-o", output]
            advice = f"go on with: {shell_words(words)}"
        else:
            command = self.request.command(**self.plan.changes(self.video), overwrite=True)
            advice = f"whole again: {command} (add --state FILE to go on where it stops)"
        say(f"\nstopped by {name}: {frames} frames are safe in {output}; {advice}")


def cost_of(plan: Plan) -> Cost | BaselineCost:
    """The work of one of the plan's videos."""
    if plan.request.method != "fifo":
        return BaselineCost(plan.settings)
    passes = 2 if plan.settings.guidance_scale > 1 else 1
    notes = plan.state.notes if plan.state is not None else plan.request.given
    shown = plan.given if notes.get("include_start") else 0
    model, layout = plan.model, plan.settings.layout
    return Cost(layout, passes, plan.start, plan.num_frames, plan.given, shown, model.timing, model.late)


def _speed_key(plan: Plan) -> str:
    device = plan.device
    if device.startswith("cuda"):
        import torch

        device = torch.cuda.get_device_name(device)
    return key(plan.model_name, device, plan.dtype, plan.settings.height, plan.settings.width)


def speed_of(plan: Plan) -> float | None:
    """Seconds per frame-forward on this machine, where an earlier run has told."""
    return known_speed(_speed_key(plan))


def _unknown_to_toybox(model: str, prompt: str | dict[int, str]) -> list[str]:
    if model not in ("toybox", "toybox-diagonal"):
        return []
    from fifo_diffusion.toybox import describe

    known = set(re.findall(r"[a-z]+", describe().lower()))
    text = prompt if isinstance(prompt, str) else " ".join(prompt.values())
    return list(dict.fromkeys(word for word in re.findall(r"\w+", text.lower()) if word not in known))
