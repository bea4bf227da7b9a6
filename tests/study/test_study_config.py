"""Configurations of evaluations: mistakes cost one line each, and the defaults are the paper's."""

import json

import pytest

from evaluations import FIFO_ROW, SMALL
from fifo_diffusion.cli.main import main
from fifo_diffusion.errors import UserError
from fifo_diffusion.study.config import Config, ablation_rows, default_prompts, default_rows
from fifo_diffusion.toybox import checker


def test_a_bad_row_and_missing_features_cost_one_line_each(evaluated):
    rows = {"fifo": FIFO_ROW, "bad": {"method": "genl", "stride": 99}}
    files = {"features": "/nowhere/i3d.pt", "clip_model": "/nowhere/clip", "classifier": "/nowhere/c3d.pt"}
    code, report, told = evaluated(rows=rows, **files)
    assert code == 1
    assert len(report["errors"]) == 4
    for word in ("stride=99", *files.values()):
        (line,) = (line for line in report["errors"] if word in line)
        assert "\n" not in line
        assert line in told
    assert set(report["results"]["quality"]) == {"fifo"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--config", "nowhere.json"], "nowhere.json"),
        (["--config", "given.json", "--seed", "3"], "leave --seed out"),
        (["--config", "given.json", "--methods", "best"], "there is no best"),
        (["--cost-frames", "12,x"], "12,x"),
        (["--methods", "best"], "there is no best; there are fifo, "),
        (["--prompts", "nowhere.txt"], "nowhere.txt"),
        (["--table", "best"], "best"),
    ],
)
def test_what_was_typed_wrongly(options, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "given.json").write_text(json.dumps({"model": "toybox"} | SMALL))
    assert main(["evaluate", "-o", "report", *options]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rows": {"fifo": {"num_partitions": 1}}}, 'the row fifo needs a "method"'),
        ({"tables": ["best"]}, "'best'"),
        ({"colour": 1}, "'colour' is not known"),
        ({"prompts": []}, "prompts is missing"),
        ({"rows": {"../../evil": FIFO_ROW}}, "the row '../../evil' needs another name"),
        ({"rows": {"/tmp/x": FIFO_ROW}}, "needs another name"),
        ({"rows": {"..": FIFO_ROW}}, "needs another name"),
        ({"rows": {"a\nb": FIFO_ROW}}, "needs another name"),
        ({"rows": {"base": FIFO_ROW}}, "needs another name"),
        ({"rows": {"a": FIFO_ROW, "A": FIFO_ROW}}, "the rows a and A would have the same files"),
        ({"rows": [FIFO_ROW]}, "rows must be an object"),
        ({"rows": {"a": {"method": "best"}}}, "method 'best': one of fifo, "),
        ({"rows": {"a": FIFO_ROW | {"eta": float("nan")}}}, "has eta nan"),
        ({"rows": {"a": FIFO_ROW | {"num_frames": "x"}}}, "has num_frames 'x'"),
        ({"rows": {"a": FIFO_ROW | {"seed": 3}}}, "has seed 3: it must be left out"),
        ({"rows": {"a": FIFO_ROW | {"tables": 5}}}, "has tables 5"),
        ({"tables": 5}, "tables must be a list"),
        ({"prompts": 5}, "prompts must be a list of texts, not 5"),
        ({"prompts": ["a", 5]}, "prompts must be a list of texts"),
        ({"prompts": ["\ud800"]}, "prompts must be a list of texts"),
        ({"num_frames": "x"}, "num_frames must be a whole number"),
        ({"num_frames": True}, "num_frames must be a whole number"),
        ({"num_frames": 10**12}, "num_frames must be a whole number from 1 to 10000000"),
        ({"num_frames": 12.5}, "num_frames must be a whole number"),
        ({"cost_frames": 5}, "cost_frames must be a list"),
        ({"partitions": ["x"]}, "partitions must be a list"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"dtype": "__class__"}, "dtype must be one of float32"),
        ({"dtype": "nothing"}, "dtype must be one of float32"),
        ({"device": 5}, "device must be a text"),
        ({"features": ["a"]}, "features must be a text"),
        ({"model": 5}, "model must be a text"),
        ({"model": "toybx"}, "unknown model 'toybx'"),
        ({"versions": [1]}, "versions must be an object"),
    ],
)
def test_a_configuration_with_mistakes(evaluated, changes, words):
    """Told in one line before anything is computed; there is no folder that would be in the way of the right one."""
    code, report, told = evaluated(**changes)
    assert (code, report) == (2, None)
    assert words in told
    assert len(told.splitlines()) == 1
    assert not evaluated.folder.exists()


@pytest.mark.parametrize("text", ["[" * 100_000, "null", "[1]", "{", b"\xff\xfe{", '{"model": ' + "9" * 5000])
def test_a_configuration_that_is_none(text, tmp_path, capsys):
    file = tmp_path / "given.json"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert main(["evaluate", "--config", str(file), "-o", str(tmp_path / "report")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(file) in line
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(("method", "ranks"), [("genl", 2), ("fifo", 0), ("fifo", "two")])
def test_ranks_that_cannot_be(method, ranks):
    values = {"model": "toybox", **SMALL, "rows": {"a": {"method": method, "ranks": ranks}}}
    with pytest.raises(UserError, match="the row a has ranks"):
        Config.from_json(values, "x")


def test_defaults_are_the_papers():
    assert [name for name in default_rows(2, None, gpus=8) if "ranks" in name] == ["fifo-2-ranks", "fifo-4-ranks"]
    rows = default_rows(4, None)
    assert rows["fifo"] == {"method": "fifo", "num_partitions": 4, "lookahead": True}
    assert rows["chunked-8"]["overlap"] == 8
    assert default_rows(None, None) == rows
    assert [row["lookahead"] for row in ablation_rows(rows).values()] == [False, False, True]
    assert [row["num_partitions"] for row in ablation_rows(rows).values()] == [1, 4, 4]
    prompts = default_prompts("toybox")
    assert len(set(prompts)) == 12
    assert {checker.parse(prompt)["family"] for prompt in prompts} == {"shape", "landscape", "robot"}
    config = Config(model="toybox", tables=("cost",), rows=rows, prompts=prompts)
    assert Config.from_json(config.to_json(), "it") == config


def test_a_preset_is_that_of_the_rows_of_fifo(capsys, tmp_path, monkeypatch):
    rows = default_rows(None, None, gpus=2, preset="live")
    assert rows["fifo"] == {"method": "fifo", "preset": "live"}
    assert rows["fifo-no-lookahead"] == {"method": "fifo", "preset": "live", "lookahead": False}
    assert rows["fifo-2-ranks"] == {"method": "fifo", "preset": "live", "ranks": 2, "tables": ["cost"]}
    assert "preset" not in rows["genl"]
    assert default_rows(2, None, preset="fast")["fifo"] == {"method": "fifo", "num_partitions": 2, "preset": "fast"}
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", "--preset", "quick", "-o", "report"]) == 2
    assert "--preset must be 'paper' or 'quality' or 'fast' or 'live', not quick" in capsys.readouterr().err
    made = []
    monkeypatch.setattr("fifo_diffusion.study.run._do_all", lambda results, *_: made.append(results.config))
    assert main(["evaluate", "--preset", "live", "--table", "cost", "-o", "report", "--quiet"]) == 0
    assert {name: row.get("preset") for name, row in made[0].rows.items() if row["method"] == "fifo"} == {
        "fifo": "live",
        "fifo-no-lookahead": "live",
    }
    assert Config.read(tmp_path / "report" / "config.json").rows == made[0].rows
