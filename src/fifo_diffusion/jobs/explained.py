"""Any error of a run as one line for its user, and as a word for programs."""

import errno

from fifo_diffusion.errors import ArgumentError, Message, Setting, UsageError, UserError, message_of
from fifo_diffusion.execution.memory import is_out_of_memory

OUT_OF_MEMORY = UserError(
    "the device is out of memory: add ",
    Setting("offload", "model"),
    " (weights wait in host memory), ",
    Setting("vae_tiling", True),
    ", ",
    Setting("quantize", "int8"),
    " or ",
    Setting("windows_per_batch", 1),
    ", or use a smaller ",
    Setting("height"),
    " and ",
    Setting("width"),
    ", or ",
    Setting("device", "cpu"),
)


class Unexpected(UserError):
    """An error that nobody foresaw, of which `--debug` tells more."""


def explain(error: Exception) -> UserError:
    """Any error as one for the user."""
    if isinstance(error, UserError):
        return error
    from fifo_diffusion.video import VideoFileError

    said, kind = message_of(error), type(error).__name__
    if isinstance(error, ArgumentError):
        return UsageError(said)
    if isinstance(error, MemoryError):
        return UserError(
            *("this machine is out of memory: use fewer ", Setting("num_partitions"), ", or a smaller "),
            *(Setting("height"), " and ", Setting("width")),
        )
    if is_out_of_memory(error):
        return OUT_OF_MEMORY
    if "can't start new thread" in str(said):
        return UserError("this machine gives no further thread: end other programs, or raise the limit (ulimit -u)")
    if "InvalidCxxCompiler" in str(said):
        compiling = Setting("compile", True)
        return UserError(compiling, " needs a C++ compiler on a CPU, and there is none: install g++, or leave it out")
    if isinstance(error, ModuleNotFoundError) and error.name:
        return UserError(f"the Python package {error.name} is missing: fifo-diffusion doctor says what to install")
    if isinstance(error, OSError) and error.strerror:
        return UserError(error.strerror + (f": {error.filename}" if error.filename else ""))
    if isinstance(error, VideoFileError | OSError | FloatingPointError) or kind == "RankError":
        return UserError(said if str(said) else Message(kind))
    return Unexpected(f"unexpected {kind}", *([": ", said] if str(said) else []))


def code_of(error: BaseException) -> str:
    """A word for programs: what kind of error it is."""
    if isinstance(error, UsageError) and error.__cause__ is None:
        return "invalid_request"
    from fifo_diffusion.jobs.runs.snapshots import NoRoom
    from fifo_diffusion.video.writers import NO_ROOM

    if isinstance(error, NoRoom):
        return "no_room"
    cause: BaseException | None = error
    while cause is not None:
        if getattr(cause, "errno", None) in NO_ROOM | {errno.ENOSPC}:
            return "disk_full"
        if isinstance(cause, Exception) and is_out_of_memory(cause):
            return "out_of_memory"
        cause = cause.__cause__
    if isinstance(error, ArgumentError) or type(error).__name__ in ("UsageError", "TypeError", "ValueError"):
        return "invalid_request"
    return "not_finite" if isinstance(error, FloatingPointError) else "error"
