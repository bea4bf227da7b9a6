"""Options of the command, made from the fields of the settings."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

from fifo_diffusion.cli.errors import FAILURE
from fifo_diffusion.settings import STARTS, Settings, Spec, as_option, specs
from fifo_diffusion.settings.kinds import Choice, Flag, Kind, Listed, Numbers, Switch, Texts
from fifo_diffusion.settings.presets import PRESETS
from fifo_diffusion.settings.spec import METHOD, PANELS
from fifo_diffusion.text import shortened

F = Callable[..., Any]

AsJson = Annotated[bool, typer.Option("--json", help="For programs: one JSON object, in one line.")]
"""Of commands that answer."""


def answer(record: Mapping[str, Any]) -> None:
    """The answer of a command with `--json`; what goes wrong with it ends the command."""
    from fifo_diffusion.cli.json_lines import put

    if not put(record):
        raise typer.Exit(FAILURE)


def option(*names: str, help: str, panel: str, metavar: str = "", kind: Kind | None = None, **more: Any) -> Any:
    """An option in its panel, whose value is checked by its kind."""

    def checked(value: Any) -> Any:
        read = value if kind is None or value is None else kind.read(value)
        if kind is not None and read is not None and (wanted := kind.wanted(read)):
            raise typer.BadParameter(f"must be {wanted}, not {shortened(value, 30)}")
        return read

    return typer.Option(
        *names,
        help=help,
        rich_help_panel=panel,
        show_default=False,
        metavar=metavar or None,
        callback=checked if kind is not None else None,
        **more,
    )


def parameters(settings: type = Settings, names: tuple[str, ...] | None = None) -> list[inspect.Parameter]:
    """Parameters of a command for typer: of some settings, or of all that have a place on the command line."""
    every = specs(settings)
    chosen = [every[name] for name in names] if names is not None else [s for s in every.values() if s.panel]
    chosen.sort(key=lambda spec: (PANELS.index(spec.panel), spec.panel == METHOD and spec.methods is None))
    found = [] if names is not None else [_argument(spec) for spec in every.values() if spec.positional]
    for spec in chosen:
        if isinstance(spec.kind, Switch):
            found += _switch(spec, spec.kind)
            continue
        names_ = spec.names or (as_option(spec.name),)
        kind, annotation = spec.kind, bool if isinstance(spec.kind, Flag) else spec.kind.parsed | None
        if isinstance(kind, Texts):
            annotation = list[str] | None
        if isinstance(kind, Choice):
            annotation = StrEnum(spec.name, {word: word for word in (*kind.words, *kind.meaning)}) | None
        says = option(
            *names_,
            help=spec.whole_help,
            panel=spec.panel,
            metavar=spec.metavar,
            kind=_to_check(kind),
            autocompletion=_completion(spec),
        )
        found.append(_parameter(spec.name, False if annotation is bool else None, annotation, says))
    return found


def _to_check(kind: Kind) -> Kind | None:
    """The parser checks words and switches itself, and text is anything."""
    return kind if kind.parsed in (int, float) or isinstance(kind, Listed | Numbers) else None


def _models() -> dict[str, str]:
    from fifo_diffusion.models.loading.checkpoints import CHECKPOINTS

    return {name: checkpoint.verified for name, checkpoint in CHECKPOINTS.items()}


def _presets() -> dict[str, str]:
    return {name: preset.about for name, preset in PRESETS.items()}


OFFERED: Mapping[str, Callable[[], Iterable[str] | Mapping[str, str]]] = {
    "model": _models,
    "preset": _presets,
    "start": lambda: STARTS,
    "device": lambda: ("cpu", "cuda", "mps"),
    "quantize": lambda: ("int8", "fp8"),
}
"""What a shell offers for options whose values are known in part, or in more words than their kind says."""


def _completion(spec: Spec) -> Callable[[str], Any] | None:
    """What a shell asks for the values that begin so; None: the parser knows them, or nobody does."""
    kind = spec.kind
    values = OFFERED.get(spec.name) or (kind.words if isinstance(kind, Listed) else None)
    if values is None:
        return None

    def completed(incomplete: str) -> list[Any]:
        found = values()
        pairs = found.items() if isinstance(found, Mapping) else ((name, "") for name in found)
        return [(name, about) if about else name for name, about in pairs if name.startswith(incomplete)]

    return completed


def _argument(spec: Spec) -> inspect.Parameter:
    says = typer.Argument(metavar=spec.metavar, help=spec.help, show_default=False)
    return _parameter(spec.name, None, str | None, says)


def _switch(spec: Spec, kind: Switch) -> list[inspect.Parameter]:
    both = f"{as_option(spec.name)}/{as_option(f'no_{spec.name}')}"
    found = [_parameter(spec.name, None, bool | None, option(both, help=spec.whole_help, panel=spec.panel))]
    for value, help in kind.more.items():
        name = f"{value}_{spec.name}"
        found.append(_parameter(name, False, bool, option(as_option(name), help=help, panel=spec.panel)))
    return found


def _parameter(name: str, default: Any, annotation: Any, says: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[annotation, says]
    )


def with_options(*names: str, settings: type = Settings) -> Callable[[F], F]:
    """Decorator of a command that takes `**options`: it has the options of these settings, or of all."""

    def put_on(function: F) -> F:
        own = [p for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
        taken = [*own, *parameters(settings, names or None)]
        function.__signature__ = inspect.Signature(taken)  # type: ignore[attr-defined]
        function.__annotations__ = {p.name: p.annotation for p in taken}
        return function

    return put_on


def given_of(params: dict[str, Any], settings: type = Settings) -> dict[str, Any]:
    """The settings that were given, by name, from the values of the parser.

    Raises:
        UsageError: ways of one switch that exclude each other.
    """
    from fifo_diffusion.errors import Setting, usage

    every, given = specs(settings), {}
    for name, value in params.items():
        value = getattr(value, "value", value)
        if isinstance(value, list | tuple):  # of an option that may be given several times
            value = list(value) or None
        if name in every and value is not None and not (value is False and isinstance(every[name].kind, Flag)):
            given[name] = value
    for spec in every.values():
        for value in spec.kind.more if isinstance(spec.kind, Switch) else ():
            if params.get(f"{value}_{spec.name}"):
                if spec.name in given:
                    before = Setting(spec.name, given[spec.name])
                    raise usage(before, " and ", Setting(spec.name, value), " exclude each other: give one")
                given[spec.name] = value
    return given
