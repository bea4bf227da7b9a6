"""Errors as one line for the shell, and their exit codes."""

from fifo_diffusion.errors import ArgumentError, Message, Setting, UsageError, UserError, message_of
from fifo_diffusion.execution.memory import is_out_of_memory
from fifo_diffusion.settings import Settings, option_of, specs
from fifo_diffusion.settings.spec import is_pythons
from fifo_diffusion.text import one_line, shell_word, shortened

FAILURE, USAGE = 1, 2
LONGEST = 80  # of a word that is quoted

OUT_OF_MEMORY = UserError(
    "the device is out of memory: add ",
    Setting("windows_per_batch", 1),
    " or ",
    Setting("offload_text_encoder", True),
    ", or use fewer ",
    Setting("num_partitions"),
    ", a smaller ",
    Setting("height"),
    " and ",
    Setting("width"),
    ", ",
    Setting("dtype", "float16"),
    " or ",
    Setting("device", "cpu"),
)


class Unexpected(UserError):
    """An error that nobody foresaw, of which `--debug` tells more."""


def in_shell(setting: Setting) -> str:
    """A setting as the command line names it, with its value where a message says it."""
    spec = specs(Settings).get(setting.name)
    if spec is None or is_pythons(spec):
        return str(setting)
    if not setting.has_value or setting.value is None:
        return option_of(spec)[0] if not spec.positional else "the prompt"
    if spec.positional:
        return f"the prompt {_word(setting.value)}"
    option, *value = option_of(spec, setting.value)
    return " ".join([option, *map(_word, value)])


def _word(text: str) -> str:
    return shell_word(text if len(text) <= LONGEST else shortened(text, LONGEST))


def words(message: Message | str) -> str:
    """A message as one line in words of the shell."""
    return one_line(message.worded(in_shell) if isinstance(message, Message) else message)


def told(error: BaseException) -> str:
    """What an error says, as one line in words of the shell."""
    return words(message_of(error))


def exit_code(error: UserError) -> int:
    """2 where the command should be given differently, 1 where a right command failed."""
    return USAGE if isinstance(error, UsageError) else FAILURE


def explain(error: Exception) -> UserError:
    """Any error as one line."""
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
