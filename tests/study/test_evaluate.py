"""`fifo-diffusion evaluate` on a tiny random model: tables, numbers and figures."""

import json
import sys
import types

import numpy as np
import pytest
import torch

from evaluations import FIFO_ROW, SMALL
from fifo_diffusion.evaluation import metrics
from fifo_diffusion.evaluation.metrics import frechet, inception, scene_cuts
from fifo_diffusion.study import distances as evaluate_distances
from fifo_diffusion.study import run as evaluate
from fifo_diffusion.study.config import Config
from fifo_diffusion.study.tasks import base_folders
from fifo_diffusion.testing import tiny
from fifo_diffusion.toybox import checker, world
from fifo_diffusion.video import count_frames, read_frames, write_video


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
    assert text.count("data:image/png;base64,") == 4  # motion, coherence, and a sheet for each prompt
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
    given = {"prompts": ["a cat"], "classifier": str(tmp_path / "classes.pt")}
    code, report, _ = evaluated(base_clips=6, rows=rows, **given)
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
    evaluated(base_clips=6, rows=rows, prompts=["a cat"])
    names = {path.stem for path in (evaluated.folder / "figures").glob("fvd*.svg")}
    assert names == {"fvd-over-time-base", "fvd-over-time-base-24"}


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
