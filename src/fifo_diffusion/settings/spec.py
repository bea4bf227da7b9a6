"""What a field of the settings says of itself, and what can be asked of a class of them."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from types import FunctionType, MappingProxyType
from typing import Any, TypeVar

from fifo_diffusion.settings.kinds import Flag, Function, Kind, Numbers, Switch, Texts, number_text

SAMPLING, LOAD, STREAM, OUTPUT, RUN = "sampling", "load", "stream", "output", "run"
"""Stages that use a setting: what the model is sampled by (an argument of `FIFO.from_pretrained` that a model without
weights needs too), how it is loaded, `FIFO.stream` or a baseline's stream, the file that is written, the run itself."""

LENGTH, LOOK, METHOD = "Length", "Prompt and appearance", "Method (FIFO-Diffusion)"
BEYOND = "Beyond the paper (all off by default)"
BASELINES, MODEL, FILES, LOGGING = "Baselines, to compare with", "Model", "Files", "Logging"
PANELS = (FILES, MODEL, LENGTH, LOOK, METHOD, BEYOND, BASELINES, LOGGING)
"""Of the command's help, in this order. A setting without a panel is Python's alone."""

FIFO = ("fifo",)
IN_SETTINGS, IN_NOTES = "settings", "notes"
"""Parts of a state file: what shapes the stream, and what the command wants to find again."""

REQUIRED: Any = object()

S = TypeVar("S")


@dataclass(frozen=True)
class Spec:
    """One setting.

    Attributes:
        name, default, annotation: of its field.
        kind: what it may be, as text, JSON and the command have it.
        stage: who uses it, see above.
        doc: for Python's documentation.
        help, panel, metavar, names: of the option: names such as -o; without them it is called like the field.
        usual: what counts where the default is None, in words.
        wider: Python takes more than `kind`; the code that uses it checks it.
        methods: that know it; None: all.
        saved: part of a state file that holds it.
        nullable: None is a value of its own there, and not only a default to be filled in.
        older: value that counts for state files that came before it (`state_migration`). Without one all must have it.
        of_file: it says how the file that the video starts from is taken, and means nothing without one.
        positional: an argument on the command line, not an option.
        remade: part of the command that makes a video again.
    """

    name: str
    default: Any
    annotation: Any
    kind: Kind
    stage: str
    doc: str = ""
    help: str = ""
    panel: str = ""
    metavar: str = ""
    names: tuple[str, ...] = ()
    usual: str = ""
    wider: bool = False
    methods: tuple[str, ...] | None = None
    saved: str = ""
    nullable: bool = False
    older: Any = REQUIRED
    of_file: bool = False
    positional: bool = False
    remade: bool = True

    @property
    def whole_help(self) -> str:
        """The help of its option, with the default."""
        usual = self.usual
        if not usual and self.default is not None and not isinstance(self.kind, Flag):
            usual = ("off", "on")[self.default] if isinstance(self.default, bool) else str(self.default)
        return f"{self.help} [dim]Default: {usual}.[/dim]" if usual else self.help

    def take(self, value: Any) -> Any:
        """A value from Python, checked; None where that is the default.

        Raises:
            ArgumentError: it does not fit.
        """
        if self.wider or (value is None and self.default is None):
            return value
        return self.kind.take(self.name, value)

    def fits_in_file(self, value: Any) -> bool:
        """Whether a state file may hold it."""
        return (value is None and self.nullable) or self.kind.fits(value)


def setting(default: Any, kind: Kind, stage: str, help: str = "", panel: str = "", **more: Any) -> Any:
    """A field of the settings; see `Spec`. What a function is given for is asked of it each time: it may change."""
    return field(
        default=default, metadata={"spec": {"kind": kind, "stage": stage, "help": help, "panel": panel} | more}
    )


def specs(settings: Any) -> Mapping[str, Spec]:
    """The settings of a class, or of one of its instances, by name."""
    found = {}
    for each in fields(settings):
        said = each.metadata.get("spec")
        if said is not None:
            assert each.default is not MISSING
            said = {key: value() if isinstance(value, FunctionType) else value for key, value in said.items()}
            found[each.name] = Spec(each.name, each.default, each.type, **said)
    return MappingProxyType(found)


def checked(settings: S) -> S:
    """The same, each value checked and as Python's own.

    Raises:
        ArgumentError: one does not fit.
    """
    return replace(settings, **{name: spec.take(getattr(settings, name)) for name, spec in specs(settings).items()})


def names_of(
    settings: Any, *, stages: Collection[str] = (), method: str | None = None, saved: str | None = None
) -> list[str]:
    """Names of the settings with these stages, that a method knows, that this part of a state file holds."""
    return [
        name
        for name, spec in specs(settings).items()
        if (not stages or spec.stage in stages)
        and (method is None or spec.methods is None or method in spec.methods)
        and (saved is None or spec.saved == saved)
    ]


def json_schema(settings: Any, names: Iterable[str] | None = None) -> dict[str, Any]:
    """JSON Schema of an object that holds some of the settings, as a server of HTTP would take it.

    Args:
        settings: the class.
        names: which of them; None: all that are not Python's alone.
    """
    every = specs(settings)
    names = [name for name, spec in every.items() if spec.panel or spec.positional] if names is None else list(names)
    properties = {}
    for name in names:
        spec = every[name]
        said = {"description": spec.help} if spec.help else {}
        default = list(spec.default) if isinstance(spec.default, tuple) else spec.default
        said |= {} if default is None else {"default": default}
        properties[name] = spec.kind.schema | said
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }


# ------------------------------------------------------------------ on the command line


def as_option(name: str) -> str:
    """num_partitions -> --num-partitions"""
    return "--" + name.replace("_", "-")


def option_of(spec: Spec, value: Any = True) -> list[str]:
    """A setting and its value as words of the command line: --lookahead, -o ball.mp4, --lora a --lora b."""
    name = "-o" if spec.name == "output" else as_option(spec.name)
    if isinstance(spec.kind, Switch) and not isinstance(value, bool):
        return [as_option(f"{value}_{spec.name}")]
    if value is True or value is False:
        return [name if value else as_option(f"no_{spec.name}")]
    if isinstance(spec.kind, Texts):
        return [word for each in ([value] if isinstance(value, str) else value) for word in (name, each)]
    if isinstance(spec.kind, Numbers) and not isinstance(value, str):
        return [name, ",".join(map(number_text, value))]
    return [name, number_text(value) if isinstance(value, float) else str(value)]


def is_pythons(spec: Spec) -> bool:
    """Whether only Python has it."""
    return (not spec.panel and not spec.positional) or isinstance(spec.kind, Function)
