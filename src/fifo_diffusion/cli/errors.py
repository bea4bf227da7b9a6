"""Errors as one line for the shell, and their exit codes."""

from fifo_diffusion.errors import Message, Setting, UsageError, UserError, message_of
from fifo_diffusion.settings import Settings, option_of, specs
from fifo_diffusion.settings.spec import is_pythons
from fifo_diffusion.text import one_line, shell_word, shortened

FAILURE, USAGE = 1, 2
LONGEST = 80  # of a word that is quoted


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
