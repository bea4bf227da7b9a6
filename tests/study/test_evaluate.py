"""`fifo-diffusion evaluate` on a tiny random model: tables, resuming, and what happens to bad input."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import types

import numpy as np
import pytest
import torch

from fifo_diffusion.cli.main import main
from fifo_diffusion.errors import UserError
from fifo_diffusion.evaluation import metrics
from fifo_diffusion.evaluation.metrics import frechet, inception, scene_cuts
from fifo_diffusion.jobs import locks
from fifo_diffusion.jobs.keeper import StateKeeper
from fifo_diffusion.study import distances as evaluate_distances
from fifo_diffusion.study import run as evaluate
from fifo_diffusion.study import worker as evaluate_worker
from fifo_diffusion.study.config import Config, ablation_rows, default_prompts, default_rows
from fifo_diffusion.study.tasks import base_folders
from fifo_diffusion.testing import tiny
from fifo_diffusion.toybox import checker, world
from fifo_diffusion.video import count_frames, read_frames, write_video

FIFO_ROW = {"method": "fifo", "num_partitions": 1, "lookahead": True, "window": 4}
SMALL = {
    "tables": ["quality"],
    "rows": {"fifo": FIFO_ROW, "genl": {"method": "genl", "window": 4, "num_inference_steps": 2}},
    "prompts": ["a red ball", "a cat"],
    "num_frames": 18,
    "base_clips": 1,
    "base_steps": 1,
    "cost_frames": [5],
    "partitions": [1],
    "mse_clips": 2,
    "ablation_frames": 6,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with a tiny pipeline, and one video."""
    folder = tmp_path_factory.mktemp("model")
    tiny.pipeline(**tiny.LIGHT).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def evaluated(model, tmp_path, monkeypatch, capsys):
    """Runs an evaluation, tasks in this process: (exit code, report, what was said)."""
    done = []

    def here(task, result):
        done.append(task)
        code = evaluate_worker.work(task | {"result": str(result)})
        return json.loads((result if code == 0 else result.with_suffix(".error")).read_text())

    monkeypatch.setattr(evaluate, "run_task", here)

    def run(*options, folder="report", **changes):
        file = tmp_path / "given.json"
        file.write_text(json.dumps({"model": model} | SMALL | changes))
        done.clear()
        code = main(["evaluate", "--config", str(file), "-o", str(tmp_path / folder), *options])
        path = tmp_path / folder / "report.json"
        report = json.loads(path.read_text()) if path.exists() else None
        return code, report, capsys.readouterr().err

    run.folder, run.done = tmp_path / "report", done
    return run


# ---------------------------------------------------------------------------- tables


def test_quality_and_what_is_left_of_it_without_enough_clips(evaluated):
    """Two base clips are too few for a Fréchet distance: one line, and everything else is there."""
    code, report, told = evaluated()
    assert code == 1
    (line,) = report["errors"]
    assert "more than 32 windows, not 2" in line
    assert line in told
    rows = report["results"]["quality"]
    assert set(rows) == {"fifo", "genl"}
    assert all(row["videos"] == 2 and row["frames"] == 18 and row["motion"] > 0 for row in rows.values())
    frames = read_frames(evaluated.folder / "videos" / "genl" / "001")
    assert frames.shape == (18, 16, 16, 3)

    text = (evaluated.folder / "report.html").read_text()
    assert text.count("data:video/mp4;base64,") == 4
    assert text.count("data:image/png;base64,") == 3  # motion, and a sheet for each prompt
    assert 'src="http' not in text
    assert "href=" not in text
    assert (evaluated.folder / "figures" / "motion.svg").exists()
    assert count_frames(evaluated.folder / "vbench" / "fifo" / "a red ball-0.mp4") == 18
    assert len(json.loads((evaluated.folder / "study" / "key.json").read_text())) == 2
    assert report["hardware"]["torch"]
    assert report["config"]["seed"] == 0


def test_inception_score_and_scene_cuts(evaluated, tmp_path, monkeypatch):
    """Videos that were measured before PySceneDetect was installed get what they lack."""
    pytest.importorskip("scenedetect")
    file = str(tmp_path / "classes.pt")
    torch.jit.script(tiny.FakeClassifier()).save(file)
    with monkeypatch.context() as without:
        without.setattr(metrics, "installed", lambda package: False)
        _, before, _ = evaluated(classifier=file)
    assert not any("scene_cuts" in row for row in before["results"]["quality"].values())
    for name, row in before["results"]["quality"].items():
        clips = np.stack([read_frames(evaluated.folder / f"videos/{name}/{k:03d}")[:16] for k in range(2)])
        assert row["IS"] == pytest.approx(inception.inception_score(inception.Classifier(file)(clips)), abs=1e-3)
        assert row["IS_clips"] == 2
    monkeypatch.setattr(scene_cuts, "scene_cuts", lambda frames: len(frames))
    _, after, _ = evaluated(classifier=file)
    for name, row in after["results"]["quality"].items():
        assert row.pop("scene_cuts") == 18
        assert row.pop("scene_cuts_se") == 0
        assert row == before["results"]["quality"][name]


def test_a_metric_that_is_registered_is_measured(evaluated, monkeypatch):
    """In videos that were measured before too; and where it is missing again, the report is as it was."""
    rows = {"fifo": FIFO_ROW}
    _, before, told = evaluated(rows=rows)
    assert "no CLIP score: it needs --clip-model" in told
    toy = types.SimpleNamespace(measure=lambda frames, prompt: {"redness": float(frames[..., 0].mean()), "words": 2})
    monkeypatch.setitem(sys.modules, "fifo_diffusion.evaluation.metrics.redness", toy)
    monkeypatch.setitem(metrics.METRICS, "redness", metrics.Metric("redness", "redness:measure", "redness: mean red"))
    _, after, _ = evaluated(rows=rows)
    row = after["results"]["quality"]["fifo"]
    red = [read_frames(evaluated.folder / f"videos/fifo/{k:03d}")[..., 0].mean() for k in range(2)]
    assert row.pop("redness") == pytest.approx(np.mean(red), abs=1e-3)
    assert row.pop("redness_se") > 0
    assert row.pop("words") == 2
    assert row.pop("words_se") == 0
    assert row == before["results"]["quality"]["fifo"]
    assert "redness: mean red" in (evaluated.folder / "report.html").read_text()


class Brightness:
    """Two features, so that a few clips are enough."""

    name, size = "brightness", 2

    def __call__(self, clips):
        return np.stack([clips.mean((1, 2, 3, 4)), clips.std((1, 2, 3, 4))], 1)


def test_frechet_distances_and_their_floor(evaluated, monkeypatch):
    """Each row against the base clips of its own prompts."""
    monkeypatch.setattr(frechet, "SmallFeatures", Brightness)
    rows = {"fifo": FIFO_ROW, "one": FIFO_ROW | {"num_prompts": 1}}
    _, report, _ = evaluated(base_clips=6, rows=rows, num_frames=20)
    assert report["errors"] == []
    found = report["results"]["frechet"]
    assert found["space"] == "brightness"
    check = found["checks"]["base"]
    assert check["clips"] == 12
    whole, one = (report["results"]["quality"][name] for name in rows)
    without = found["without_each_prompt"]["base"]
    assert len(without.pop("fifo")) == 2
    assert not without  # one prompt cannot be left out
    assert "FVD (brightness) to base clips_se" not in one
    assert whole["FVD (brightness) to base clips_se"] > 0
    assert whole["FVD (brightness) to base clips"] == check["worst_method"] > 0
    assert [start for start, _ in whole["fvd_over_time (base clips)"]] == [0, 2]
    clips = [read_frames(evaluated.folder / f"videos/base/000-{k:02d}") for k in range(6)]
    windows = frechet.features_of(Brightness(), read_frames(evaluated.folder / "videos/one/000"))
    expected = frechet.frechet_distance(Brightness()(np.stack(clips)), windows)
    assert one["FVD (brightness) to base clips"] == pytest.approx(expected, abs=1e-4)


def test_real_clips_are_those_of_the_prompt_between_whole_frames_too(tmp_path, monkeypatch):
    monkeypatch.setattr(frechet, "SmallFeatures", Brightness)
    monkeypatch.setattr(evaluate_distances, "REAL_CLIPS", 6)
    prompts = ["blue triangle moving down over white", "hills scrolling left at sunset"]
    config = Config.from_json({**SMALL, "model": "toybox", "prompts": prompts, "base_clips": 2}, "x")
    (tmp_path / "videos" / "base").mkdir(parents=True)
    for prompt, folder in base_folders(config, tmp_path):
        write_video(folder, world.render(checker.parse(prompt), 3, 16), fps=10)
    known = evaluate_distances._Distances(evaluate.Results(config, tmp_path))
    for prompt, found in zip(prompts, known.reference("real", prompts), strict=True):
        starts = [64 * k / 6 for k in range(6)]
        clips = [world.render(checker.parse(prompt), start, 16) for start in starts]
        assert np.allclose(found, Brightness()(np.stack(clips)))
        assert np.array_equal(clips[3], world.render(checker.parse(prompt), 32, 16))
        assert not np.array_equal(clips[1], world.render(checker.parse(prompt), 10, 16))
    check = known.check("real", 1.0)
    assert check["clips"] == 12
    assert check["distance_with_noise"]["40"] > check["distance_with_noise"]["5"] > 0


def test_a_row_with_too_few_prompts_for_a_distance_has_a_note(evaluated, monkeypatch):
    monkeypatch.setattr(frechet, "SmallFeatures", Brightness)
    rows = {"fifo": FIFO_ROW, "one": FIFO_ROW | {"num_prompts": 1}}
    _, report, _ = evaluated(base_clips=2, rows=rows)
    whole, one = (report["results"]["quality"][name] for name in rows)
    assert "FVD (brightness) to base clips" in whole
    assert "FVD (brightness) to base clips" not in one
    assert "no Fréchet distance of one to base clips" in (evaluated.folder / "report.html").read_text()


def test_a_row_with_videos_too_short_for_a_score_costs_no_other(evaluated, tmp_path, monkeypatch):
    monkeypatch.setattr(frechet, "SmallFeatures", Brightness)
    torch.jit.script(tiny.FakeClassifier()).save(str(tmp_path / "classes.pt"))
    rows = {"fifo": FIFO_ROW, "short": FIFO_ROW | {"num_frames": 12}}
    code, report, _ = evaluated(base_clips=6, rows=rows, classifier=str(tmp_path / "classes.pt"))
    assert code == 1
    assert report["errors"] == [
        "no Fréchet distance of short: a video of 12 frames has no window of 16",
        "no inception score of short: a video of 12 frames has no stretch of 16",
    ]
    assert {"FVD (brightness) to base clips", "IS"} <= set(report["results"]["quality"]["fifo"])
    assert "flicker" in report["results"]["quality"]["short"]


def test_videos_of_other_lengths_have_plots_of_their_own(evaluated, monkeypatch):
    monkeypatch.setattr(frechet, "SmallFeatures", Brightness)
    rows = {"fifo": FIFO_ROW, "long": FIFO_ROW | {"num_frames": 24}}
    evaluated(base_clips=6, rows=rows)
    names = {path.stem for path in (evaluated.folder / "figures").glob("fvd*.svg")}
    assert names == {"fvd-over-time-base", "fvd-over-time-base-24"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_it_goes_on_where_it_was(evaluated, monkeypatch, number):
    whole = evaluated(folder="whole")[1]["results"]["quality"]
    real, names = evaluate.run_task, []

    def stopping(task, result):
        names.append(result.stem)
        if len(names) == 3:
            os.kill(os.getpid(), number)
            time.sleep(1)  # as a process takes a while to end
            return {"error": "ended", "out_of_memory": False}
        return real(task, result)

    monkeypatch.setattr(evaluate, "run_task", stopping)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell hands down an ignored one
    try:
        code, report, told = evaluated()
    finally:
        signal.signal(signal.SIGINT, before)
    assert (code, report) == (128 + number, None)
    assert "goes on" in told
    _, report, _ = evaluated()
    assert names == ["videos-base", "videos-fifo", "videos-genl", "videos-genl"]
    assert report["results"]["quality"] == whole
    evaluated()
    assert len(names) == 4  # nothing is left to do


def test_a_stopped_fifo_video_goes_on_at_its_last_state(model, tmp_path, monkeypatch):
    """Not from its first frame; and the frames are those of one that was never stopped."""
    task = {"kind": "videos", "model": model, "device": "cpu", "dtype": None, "row": FIFO_ROW}
    video = {"prompt": "a cat", "num_frames": 12, "seed": 3}

    def made(name):
        videos = [video | {"folder": str(tmp_path / name)}]
        return evaluate_worker.work(task | {"videos": videos, "result": str(tmp_path / f"{name}.json")})

    assert made("whole") == 0
    monkeypatch.setattr(evaluate_worker, "STATE_EVERY", 3)
    after_frame = StateKeeper.after_frame

    def killed(keeper, stream, writer):
        after_frame(keeper, stream, writer)
        if stream.frame_index == 8:
            raise KeyboardInterrupt

    monkeypatch.setattr(StateKeeper, "after_frame", killed)
    with pytest.raises(KeyboardInterrupt):
        made("stopped")
    assert not (tmp_path / "stopped").exists()
    monkeypatch.setattr(StateKeeper, "after_frame", after_frame)
    assert made("stopped") == 0
    assert json.loads((tmp_path / "stopped.json").read_text())["made_now"] == 6
    assert (read_frames(tmp_path / "stopped") == read_frames(tmp_path / "whole")).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stopped", "stopped.json", "whole", "whole.json"]


def test_several_tasks_at_a_time(tmp_path, monkeypatch):
    """As many as were asked for; those that are timed alone, after the others; one that fails stops no other."""
    running, most, order, told = set(), {}, [], []

    def task(payload, result):
        kind = payload["kind"]
        running.add(result)
        time.sleep(0.05)
        most[kind] = max(most.get(kind, 0), len(running))
        running.remove(result)
        order.append(kind)
        return {"error": "a bad day", "out_of_memory": False} if len(order) == 1 else {}

    monkeypatch.setattr(evaluate, "run_task", task)
    config = Config.from_json({"model": "toybox", **SMALL, "tables": ["cost", "quality", "ablation"]}, "x")
    results = evaluate.Results(config, tmp_path)
    evaluate._do_all(results, 3, told.append)
    assert most == {"videos": 3, "cost": 1}
    assert order == sorted(order, reverse=True)
    assert len(results.errors) == 1
    assert len(results.found) == len(order) - 1
    assert sum(line.startswith("[") for line in told) == len(order)
    assert sum(line.startswith("  done in") for line in told) == len(order) - 1


def test_interrupted_nothing_goes_on_behind(tmp_path, monkeypatch):
    """Ctrl-C ends the processes of all tasks, and none of them counts as done."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell hands down an ignored one
    sleeping = [sys.executable, "-c", "import time; time.sleep(600)"]
    stock = subprocess.Popen
    monkeypatch.setattr(evaluate_worker.subprocess, "Popen", lambda _command, **how: stock(sleeping, **how))
    config = Config.from_json({"model": "toybox", **SMALL}, "x")
    interrupt = threading.Timer(1, lambda: os.kill(os.getpid(), signal.SIGINT))
    interrupt.start()
    began = time.monotonic()
    (tmp_path / "parts").mkdir()
    try:
        with pytest.raises(KeyboardInterrupt):
            evaluate._do_all(evaluate.Results(config, tmp_path), 2, lambda _: None)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not list((tmp_path / "parts").iterdir())
    assert not evaluate_worker._RUNNING
    assert time.monotonic() < began + 60


def test_a_configuration_makes_a_row_again(evaluated, tmp_path, capsys):
    """The config.json of a report, and one of its rows, in another folder: the same frames and numbers."""
    _, report, _ = evaluated()
    again = tmp_path / "again"
    config = str(evaluated.folder / "config.json")
    main(["evaluate", "--config", config, "--methods", "genl", "-o", str(again)])
    repeated = json.loads((again / "report.json").read_text())
    assert repeated["results"]["quality"]["genl"] == report["results"]["quality"]["genl"]
    assert set(repeated["results"]["quality"]) == {"genl"}
    for k in range(2):
        place = f"videos/genl/{k:03d}"
        assert np.array_equal(read_frames(again / place), read_frames(evaluated.folder / place))


def test_cost_and_out_of_memory_as_a_row(evaluated, monkeypatch):
    real = evaluate.run_task

    def small_machine(task, result):
        if task["row"]["method"] == "genl":
            return {"error": "out of memory", "out_of_memory": True}
        return real(task, result)

    monkeypatch.setattr(evaluate, "run_task", small_machine)
    code, report, _ = evaluated(tables=["cost"])
    assert code == 0
    fifo, genl = report["results"]["cost"]
    assert (fifo["method"], fifo["frames"]) == ("fifo", 5)
    assert fifo["host MB, peak"] > 100
    assert 0 < fifo["first frame, s"] <= 5 * fifo["s per frame"]
    assert genl == {"method": "genl", "frames": 5, "host MB, peak": "out of memory"}
    assert "out of memory" in (evaluated.folder / "report.html").read_text()


def test_ablation(evaluated):
    code, report, _ = evaluated(tables=["ablation"], rows={"fifo": FIFO_ROW})
    assert (code, report["errors"]) == (0, [])
    figures = {path.name for path in (evaluated.folder / "figures").iterdir()}
    sheets = ("ablation-0", "ablation-1", "prompt-change")
    assert figures == {f"{name}.{kind}" for name in sheets for kind in ("png", "svg")}


def test_relative_mse_from_a_folder_of_videos(evaluated, tmp_path):
    from fifo_diffusion.video import write_video

    folder = tmp_path / "clips"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for k in range(2):
        write_video(folder / f"{k}.mp4", rng.integers(0, 255, (25, 16, 16, 3), dtype=np.uint8), fps=8)
    (folder / "1.txt").write_text("a cat")
    code, report, _ = evaluated(tables=["relative-mse"], clips=str(folder), rows={"fifo": FIFO_ROW})
    assert (code, report["errors"]) == (0, [])
    off, on = report["results"]["relative-mse"]
    assert (off["lookahead"], on["lookahead"], off["clips"], len(off["curve"])) == (False, True, 2, 16)
    assert on["norms_above_lookahead"][0] == 0
    assert "Protocol" in (evaluated.folder / "report.html").read_text()

    (folder / "0.mp4").write_bytes(b"no video")
    _, report, _ = evaluated(tables=["relative-mse"], clips=str(folder), rows={"fifo": FIFO_ROW}, folder="b")
    (line,) = report["errors"]
    assert "0.mp4" in line


# ---------------------------------------------------------------------------- bad input


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


def test_half_written_parts_are_made_again(evaluated):
    """As after a power cut, or a kill by an earlier version: named, and nothing of the report is lost."""
    rows = {"fifo": FIFO_ROW}
    _, whole, _ = evaluated(rows=rows)
    parts = evaluated.folder / "parts"
    for path in parts.iterdir():
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    code, report, told = evaluated(rows=rows)
    assert f"{parts / 'videos-fifo.json'} is damaged: it is made again" in told
    assert "unexpected" not in told
    assert report["results"]["quality"] == whole["results"]["quality"]
    assert all(json.loads(path.read_text()) for path in parts.glob("*.json"))
    assert code == 1  # too few clips for a distance, as before


def test_a_second_evaluation_in_one_folder_is_refused(evaluated):
    with locks.locked(evaluated.folder):
        code, report, told = evaluated()
    assert (code, report) == (1, None)
    assert "is at work on" in told
    assert not evaluated.folder.exists()


def test_another_evaluation_in_the_folder_is_refused(evaluated):
    evaluated(tables=["ablation"], rows={"fifo": FIFO_ROW})
    code, _, told = evaluated(tables=["ablation"], rows={"fifo": FIFO_ROW}, seed=7)
    assert code == 2
    assert "with seed 0" in told


# ---------------------------------------------------------------------------- processes


def test_the_time_of_several_ranks(model, tmp_path, capfd):
    """They make the video together: each computes its share of the windows."""
    task = {"kind": "cost", "model": model, "device": "cpu", "dtype": None, "prompt": "a cat"}
    task |= {"row": FIFO_ROW | {"ranks": 2}, "num_frames": 6, "seed": 0}
    found = evaluate_worker.run_task(task, tmp_path / "a.json")
    assert found["num_frames"] == 6
    assert found["ranks"] == 2
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]
    broken = evaluate_worker.run_task(task | {"model": str(tmp_path)}, tmp_path / "b.json")
    assert "out_of_memory" in broken
    assert not broken["out_of_memory"]


@pytest.mark.parametrize(("method", "ranks"), [("genl", 2), ("fifo", 0), ("fifo", "two")])
def test_ranks_that_cannot_be(method, ranks):
    values = {"model": "toybox", **SMALL, "rows": {"a": {"method": method, "ranks": ranks}}}
    with pytest.raises(UserError, match="the row a has ranks"):
        Config.from_json(values, "x")


def test_a_task_in_a_process_of_its_own(model, tmp_path):
    row = {"method": "plain", "num_inference_steps": 1}
    task = {"kind": "cost", "model": model, "device": "cpu", "dtype": None, "row": row, "prompt": "a cat"}
    found = evaluate_worker.run_task(task | {"num_frames": 3, "seed": 0}, tmp_path / "a.json")
    assert found["num_frames"] == 3
    assert found["host_mb_peak"] > found["host_mb_loaded"] > 100


def test_a_worker_ends_with_the_process_that_waits_for_it(model, tmp_path):
    """Killed by a signal that nobody can catch, it leaves nobody behind who goes on computing."""
    row = {"method": "fifo", "num_partitions": 1, "window": 4}
    video = {"folder": str(tmp_path / "video"), "prompt": "a cat", "num_frames": 100_000, "seed": 0}
    task = {"kind": "videos", "model": model, "device": "cpu", "dtype": None, "row": row, "videos": [video]}
    code = (
        "import pathlib, sys; from fifo_diffusion.study import worker as w; "
        f"w.run_task({task!r}, pathlib.Path({str(tmp_path / 'a.json')!r}))"
    )
    waiting = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    partial = tmp_path / "video.partial"

    def frames():
        return len(list(partial.glob("*.png")))

    try:
        deadline = time.monotonic() + 100
        while frames() < 3 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert frames() >= 3
    finally:
        waiting.kill()
        waiting.wait()
    time.sleep(1)
    before = frames()
    time.sleep(1)
    assert frames() == before


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", ("killed by the system", True)),
        ("import os; os._exit(7)", ("code 7", False)),
    ],
)
def test_a_process_that_dies_is_a_result(tmp_path, monkeypatch, body, expected):
    real = subprocess.Popen
    monkeypatch.setattr(
        evaluate_worker.subprocess, "Popen", lambda command, **more: real([sys.executable, "-c", body], **more)
    )
    found = evaluate_worker.run_task({}, tmp_path / "a.json")
    assert expected[0] in found["error"]
    assert found["out_of_memory"] is expected[1]


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (MemoryError(), True),
        (ValueError("no such row"), False),
    ],
)
def test_running_out_of_memory_is_recognised(tmp_path, monkeypatch, error, memory):
    def fail(_):
        raise error

    monkeypatch.setattr(evaluate_worker, "_cost", fail)
    result = tmp_path / "a.json"
    assert evaluate_worker.work({"kind": "cost", "result": str(result)}) == 1
    assert json.loads(result.with_suffix(".error").read_text())["out_of_memory"] is memory


# ---------------------------------------------------------------------------- defaults


def test_defaults_are_the_papers():
    assert [name for name in default_rows(2, None, gpus=8) if "ranks" in name] == ["fifo-2-ranks", "fifo-4-ranks"]
    rows = default_rows(4, None)
    assert rows["fifo"] == {"method": "fifo", "num_partitions": 4, "lookahead": True}
    assert rows["chunked-8"]["overlap"] == 8
    assert [row["lookahead"] for row in ablation_rows(rows).values()] == [False, False, True]
    assert [row["num_partitions"] for row in ablation_rows(rows).values()] == [1, 4, 4]
    prompts = default_prompts("toybox")
    assert len(set(prompts)) == 12
    assert {checker.parse(prompt)["family"] for prompt in prompts} == {"shape", "landscape", "robot"}
    config = Config(model="toybox", tables=("cost",), rows=rows, prompts=prompts)
    assert Config.from_json(config.to_json(), "it") == config
