"""The file that a video starts from (`--start`)."""

from typing import TYPE_CHECKING, Any

from fifo_diffusion.app.errors import usage
from fifo_diffusion.app.request import STARTS, Request
from fifo_diffusion.video import VideoFileError

if TYPE_CHECKING:
    from fifo_diffusion.given import Given


def frames_given(model: Any, request: Request) -> "Given | None":
    """The frames of the file that a new video starts from; None where it starts otherwise."""
    start = request.get("start", "clip")
    if start in STARTS:
        return None
    from fifo_diffusion.given import take_given

    options = {name: request.given[name] for name in ("start_every_frame", "start_fit") if name in request.given}
    try:
        return take_given(model, start, **options)
    except VideoFileError as error:  # told before the weights are loaded, like all that was typed wrongly
        raise usage(f"--start: {error}") from error
