"""The file that a video starts from (`--start`)."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fifo_diffusion.errors import Setting, message_of, usage
from fifo_diffusion.jobs.request import Request
from fifo_diffusion.settings import STARTS
from fifo_diffusion.video import VideoFileError
from fifo_diffusion.video.readers import read_timeline
from fifo_diffusion.video.sound import CODECS, add_sound, has_sound
from fifo_diffusion.video.timeline import SAME

if TYPE_CHECKING:
    from fifo_diffusion.streaming.given import Given


def frames_given(model: Any, request: Request) -> "Given | None":
    """The frames of the file that a new video starts from; None where it starts otherwise."""
    settings = request.settings
    if request.method != "fifo":
        return None
    from fifo_diffusion.streaming.given import take_given

    how = {"start_every_frame": settings.start_every_frame, "start_fit": settings.start_fit}
    try:
        return take_given(model, settings.start, **how)
    except VideoFileError as error:  # told before the weights are loaded, like all that is wrong with the request
        raise usage(Setting("start"), ": ", message_of(error)) from error


@dataclass(frozen=True)
class Sound:
    """The sound of the given frames that open a video, put into it when it is closed.

    Attributes:
        source: the file that has it.
        first: where it begins in that file, in seconds.
        seconds: how long it is.
    """

    source: str
    first: float
    seconds: float

    def put_into(self, output: str, seconds: float) -> None:
        """Add it to a closed video of this length.

        Raises:
            VideoFileError: that failed; the video is as it was, without sound.
        """
        add_sound(output, self.source, first=self.first, seconds=min(self.seconds, seconds))


def sound_of(notes: dict[str, Any], output: str, fps: float, rate: float) -> tuple[Sound | None, list[str]]:
    """The sound that goes into a video, or None; and remarks: where it comes from, or why some is lost.

    Args:
        notes: of the state that is continued, or the options of a new video.
        output: where the video goes.
        fps: at which it plays.
        rate: the model's frames per second.
    """
    start = notes["start"]
    if not notes["include_start"] or start in STARTS or Path(start).is_dir():
        return None, []
    if not Path(start).exists():  # its frames are shown already
        return None, [f"{start} is gone: if it had sound, that is lost"]
    if not has_sound(start):
        return None, []
    try:
        times = read_timeline(start)
    except VideoFileError:
        return None, []
    taken = times.rate if notes["start_every_frame"] else rate
    why = ""
    if Path(output).suffix.lower() not in CODECS:
        why = f"{Path(output).suffix or 'the output'} holds none (.mp4 and .webm do)"
    elif taken is None or abs(taken / fps - 1) > SAME:
        why = "the given frames do not play at their own speed"
    if why:
        return None, [f"the sound of {start} is left out: {why}"]
    seconds = len(times.taken(None if notes["start_every_frame"] else rate)) / fps
    return Sound(start, times.first, seconds), [f"the sound of {start} is added when the video is closed"]
