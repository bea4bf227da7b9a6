"""One field of the settings is an option, an argument, its documentation and checks, and a value in files."""

import inspect
import re
import shlex
from dataclasses import dataclass, replace

import pytest
import typer
from typer.testing import CliRunner

from fifo_diffusion import FIFO
from fifo_diffusion.cli.main import main
from fifo_diffusion.cli.options import given_of, with_options
from fifo_diffusion.errors import ArgumentError, UsageError
from fifo_diffusion.jobs.baselines import check_method
from fifo_diffusion.settings import (
    Settings,
    StreamSettings,
    as_option,
    checked,
    json_schema,
    names_of,
    repeated,
    specs,
    taking,
)
from fifo_diffusion.settings.kinds import Choice, Listed, Number, Numbers, Size, Switch, Texts, Whole
from fifo_diffusion.settings.spec import FIFO as FIFO_ALONE
from fifo_diffusion.settings.spec import IN_SETTINGS, LOOK, STREAM, setting
from fifo_diffusion.streaming.settings import RunSettings
from fifo_diffusion.streaming.state_checks import declared
from fifo_diffusion.streaming.state_migration import filled
from fifo_diffusion.study.config import Config
from fifo_diffusion.study.tasks import tasks
from streams import SMALL

WOBBLE = setting(
    0.5,
    Number(0, 2),
    STREAM,
    "How much the picture wobbles.",
    LOOK,
    metavar="X",
    methods=FIFO_ALONE,
    saved=IN_SETTINGS,
    older=0.0,
    doc="how much the picture wobbles, 0 to 2.",
)


@dataclass(frozen=True, kw_only=True)
class ToySettings(Settings):
    wobble: float = WOBBLE


@dataclass(frozen=True, kw_only=True)
class ToyRunSettings(RunSettings):
    wobble: float = WOBBLE


def _command(arguments: str) -> tuple[object, dict]:
    app, given = typer.Typer(rich_markup_mode="rich"), {}

    @app.command()
    @with_options(settings=ToySettings)
    def make(ctx: typer.Context, **_: object) -> None:
        given.update(given_of(ctx.params, ToySettings))

    return CliRunner(env={"COLUMNS": "200"}).invoke(app, shlex.split(arguments)), given


def test_a_new_field_is_an_option():
    assert _command("'a ball' --wobble 1.5")[1] == {"prompt": "a ball", "wobble": 1.5}
    assert _command("'a ball'")[1] == {"prompt": "a ball"}
    refused = _command("'a ball' --wobble 3")[0]
    assert refused.exit_code == 2
    assert "a number from 0 to 2" in " ".join(re.findall(r"[\w.]+", refused.output))
    line = next(line for line in _command("--help")[0].output.splitlines() if "--wobble" in line)
    assert re.search(r"--wobble +X +How much the picture wobbles\. Default: 0\.5\.", line)


def test_a_new_field_is_an_argument_with_its_check_and_documentation():
    @taking(ToySettings, rest="more")
    def stream(prompt: str | None = None, **arguments: object) -> None:
        """Frames.

        Args:
            {arguments}
            **more: of the pipeline.
        """

    assert inspect.signature(stream).parameters["wobble"].default == 0.5
    assert inspect.signature(stream).parameters["more"].kind is inspect.Parameter.VAR_KEYWORD
    assert "            wobble: how much the picture wobbles, 0 to 2.\n" in stream.__doc__
    assert checked(ToySettings(wobble=2)).wobble == 2
    with pytest.raises(ArgumentError, match=r"^wobble=3: give a number from 0 to 2$"):
        checked(ToySettings(wobble=3))


def test_a_new_field_is_in_requests_of_http_and_in_the_command_that_makes_a_video_again():
    properties = json_schema(ToySettings)["properties"]
    assert properties["wobble"] == {
        "type": "number",
        "minimum": 0,
        "maximum": 2,
        "default": 0.5,
        "description": "How much the picture wobbles.",
    }
    command = repeated(ToySettings.of({"prompt": "a ball", "wobble": 1.5, "overwrite": True}), seed=3)
    assert command == "fifo-diffusion generate 'a ball' --wobble 1.5 --seed 3"


def test_a_new_field_belongs_to_its_methods():
    assert "wobble" in names_of(ToySettings, stages=[STREAM], method="fifo")
    assert "wobble" not in names_of(ToySettings, stages=[STREAM], method="genl")
    check_method(ToySettings.of({"wobble": 1.5}))
    with pytest.raises(UsageError, match="wobble belongs to FIFO-Diffusion and not to method='genl'"):
        check_method(ToySettings.of({"wobble": 1.5, "method": "genl", "num_frames": 8}))


def test_a_new_field_is_in_state_files_and_older_ones_lack_it(fifo):
    check = declared(ToyRunSettings, IN_SETTINGS)["wobble"]
    assert [check(value) for value in (0.0, 2, 3, None, "1")] == [True, True, False, False, False]

    class Asked(ToySettings):
        pass

    asked = Asked(prompt="a cat", seed=1, wobble=1.5, **SMALL)
    settings = ToyRunSettings.collect(fifo.model, asked, videos=1, batch=False)
    assert settings.to_json()["wobble"] == 1.5
    state = fifo.stream("a cat", seed=1, **SMALL).state()
    assert "wobble" not in state.settings
    for kept, expected in ({}, 0.0), ({"wobble": 1.5}, 1.5):
        saved = replace(state, settings=filled(state.settings | kept, ToyRunSettings, IN_SETTINGS))
        again = ToyRunSettings.collect(fifo.model, Asked(), videos=1, batch=False, state=saved)
        assert again.wobble == expected
        assert again.num_partitions == SMALL["num_partitions"]
        with pytest.raises(ValueError, match=rf"saved with wobble={expected}, not wobble=1\.0: leave wobble out"):
            ToyRunSettings.collect(fifo.model, Asked(wobble=1.0), videos=1, batch=False, state=saved)


# ---------------------------------------------------------------------- those that are there


def test_every_setting_is_documented_where_it_can_be_given():
    taken = inspect.signature(FIFO.stream).parameters
    assert {*specs(StreamSettings), "self", "pipeline_arguments"} == set(taken)
    for name, spec in specs(StreamSettings).items():
        assert taken[name].default == spec.default
        assert re.search(rf"^ {{12}}{name}: \S", FIFO.stream.__doc__, re.M), name
    for name, spec in specs(Settings).items():
        assert bool(spec.help) == bool(spec.panel or spec.positional), name
    assert "{arguments}" not in FIFO.stream.__doc__ + FIFO.layout.__doc__
    assert max(map(len, FIFO.stream.__doc__.splitlines())) <= 120


def _edges(kind: object) -> list[object]:
    """Values on both sides of what a kind takes."""
    odd = [None, True, False, "", "x", "a\0b", 0, 1, -1, 2, 0.5, 1e300, -1e300, 10**20, [], {}]
    if isinstance(kind, Whole | Number):
        for edge in (kind.least, kind.most):
            odd += [edge, edge - 1, edge + 1, float(edge) + 0.5]
    if isinstance(kind, Choice):
        odd += [*kind.words, *kind.meaning, f"{kind.words[0]} "]
    if isinstance(kind, Listed):
        odd += [*kind.words(), "fifo "]
    if isinstance(kind, Switch):
        odd += [*kind.more]
    if isinstance(kind, Size):
        odd += ["20GB", "500 MB", "0.5tb", "0GB", "0.0 kb", "20", "GB", "20Gb", "1e3GB"]
    if isinstance(kind, Texts):
        odd += [[], ["a"], ["a", "b"], ["a", 1], ["a\0"]]
    if isinstance(kind, Numbers):
        odd += [
            [kind.least, kind.most],
            [kind.least] * 3,
            [0.5],
            [kind.least - 1],
            [1, kind.most * 2],
            [1, "a"],
            [True],
            [[1]],
        ]
    return odd


def _is_valid(value: object, schema: dict) -> bool:
    """JSON Schema, as far as it is used here."""
    known = {"type", "enum", "minimum", "maximum", "exclusiveMinimum", "pattern", "default", "description"}
    known |= {"items", "minItems", "maxItems"}
    assert schema.keys() <= known, schema
    number = isinstance(value, int | float) and not isinstance(value, bool)
    whole = number and value == int(value)
    types = {"integer": whole, "number": number, "boolean": isinstance(value, bool), "string": isinstance(value, str)}
    types["array"] = isinstance(value, list)
    return (
        types.get(schema.get("type"), True)
        and any(value is e or (isinstance(e, str) and value == e) for e in schema.get("enum", [value]))
        and all(_is_valid(each, schema["items"]) for each in (value if isinstance(value, list) else []))
        and not (isinstance(value, list) and len(value) < schema.get("minItems", 0))
        and not (isinstance(value, list) and len(value) > schema.get("maxItems", len(value)))
        and not (number and "minimum" in schema and value < schema["minimum"])
        and not (number and "maximum" in schema and value > schema["maximum"])
        and not (number and "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"])
        and not (isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value))
    )


@pytest.mark.parametrize("name", json_schema(Settings)["properties"])
def test_the_schema_of_requests_takes_what_the_checks_take(name):
    schema, kind = json_schema(Settings)["properties"][name], specs(Settings)[name].kind
    found = [_is_valid(value, schema) for value in _edges(kind)]
    # A JSON number 1.0 is an integer to the schema; none of the edges is one.
    assert found == [kind.fits(value) for value in _edges(kind)]
    assert True in found
    assert False in found
    if "default" in schema:
        assert _is_valid(schema["default"], schema)


def test_what_was_given_is_known():
    settings = Settings.of({"num_partitions": 4, "seed": None, "lookahead": False})
    assert settings.given == {"num_partitions": 4, "lookahead": False}
    assert (settings.seed, settings.lookahead, settings.frames_per_level) == (None, False, 1)
    other = settings.but(seed=3, num_partitions=None)
    assert other.given == {"lookahead": False, "seed": 3}
    assert other.num_partitions == specs(Settings)["num_partitions"].default
    with pytest.raises(TypeError, match="unknown"):
        Settings.of({"unknown": 1})


def test_every_option_can_be_given_again():
    """What `repeated` writes is read back as it was."""
    given = {
        name: {Whole: 3, Number: 0.5}.get(type(spec.kind), "toybox" if name == "model" else "x")
        for name, spec in specs(Settings).items()
        if spec.panel and spec.remade and isinstance(spec.kind, Whole | Number)
    } | {
        "timesteps": [999, 759.5, 1],
        "guidance_interval": [0, 0.75],
        "lookahead": "banded",
        "prompt": "-1 degrees",
        "dtype": "fp16",
        "forever": True,
        "output": "my film.mp4",
    }
    words = repeated(Settings.of(given)).removeprefix("fifo-diffusion generate ")
    assert _command(words)[1] == given
    assert as_option("num_frames") == "--num-frames"


@pytest.mark.parametrize("command", [["generate", "a ball"], ["evaluate", "-o", "report"], ["bench"]])
def test_what_a_model_is_sampled_by_can_be_said_wherever_one_is_loaded(command, tmp_path, monkeypatch, capsys):
    """And reaches the model: each refuses what the model cannot be sampled by, before anything is made."""
    monkeypatch.chdir(tmp_path)
    for given, told in (
        (["--scheduler", "eulr"], "--scheduler eulr: there is none of that name; choose Euler"),
        (["--flow-shift", "3"], "--flow-shift 3: it goes with flow-matching models"),
    ):
        assert main([*command, *given]) == 2
        assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_a_model_is_sampled_by_is_part_of_an_evaluation(tmp_path):
    rows = {"fifo": {"method": "fifo", "num_partitions": 2}, "genl": {"method": "genl", "stride": 4}}
    values = {"model": "toybox", "tables": ["cost"], "rows": rows, "prompts": ["a ball"]}
    assert Config.from_json(values, "c.json").sampling == {}
    config = Config.from_json(values | {"sampling": {"scheduler": "euler"}}, "c.json")
    assert {task.payload["sampling"]["scheduler"] for task in tasks(config, tmp_path)} == {"euler"}
    assert Config.from_json(config.to_json(), "c.json") == config
    for changes, told in (
        ({"sampling": {"flow_shift": 0}}, "flow_shift is a number above 0"),
        ({"sampling": {"steps": 3}}, "an object with scheduler and flow_shift"),
        (
            {"rows": {"a": {"method": "fifo", "stride": 4}}},
            "stride 4: it must be left out: it goes with freenoise or genl",
        ),
        ({"rows": {"a": {"method": "fifo", "num_partitions": 0}}}, "it must be a whole number of at least 1"),
        ({"rows": {"a": {"method": "fifo", "lookahead": "on"}}}, "it must be True, False or 'banded'"),
        ({"rows": {"a": {"method": "fifo", "seed": 3}}}, "it belongs to the whole evaluation"),
        ({"rows": {"a": {"method": "fifo", "include_start": True}}}, "it belongs to the whole evaluation"),
    ):
        with pytest.raises(UsageError, match=told):
            Config.from_json(values | changes, "c.json")
