"""The measures of the report: each must find what it is for, and only that."""

import csv
import importlib
import json
from importlib.resources import files

import numpy as np
import pytest
import torch

from fifo_diffusion.cli import user_study
from fifo_diffusion.evaluation import metrics, report, whole_files
from fifo_diffusion.evaluation.metrics import METRICS, cuts, frechet, inception, jerk, optical_flow, scene_cuts
from fifo_diffusion.evaluation.summary import summary
from fifo_diffusion.study import user_study as study
from fifo_diffusion.study import vbench
from fifo_diffusion.testing import tiny
from fifo_diffusion.toybox.world import FAMILIES, make_clip
from fifo_diffusion.video import count_frames, iter_frames, read_frames, write_video


def texture(seed=0, size=64):
    """A smooth random picture, (size, size, 3) in 0 to 255."""
    rough = torch.rand(1, 3, size // 5, size // 5, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(rough, (size, size), mode="bicubic")[0].clamp(0, 1)
    return (smooth.permute(1, 2, 0) * 255).numpy()


def of_clips(space, clips):
    return np.concatenate([space(np.stack(clips[k : k + 32])) for k in range(0, len(clips), 32)])


@pytest.fixture(scope="module")
def real():
    rng = np.random.default_rng(0)
    return [make_clip(rng, 16, FAMILIES[k % 3])[0] for k in range(200)]


@pytest.fixture(scope="module")
def space():
    return frechet.SmallFeatures()


@pytest.fixture(scope="module")
def features(real, space):
    return of_clips(space, real)


# ---------------------------------------------------------------------------- Fréchet distance


def test_the_distance_of_gaussians_is_the_formula():
    """Against the closed form for covariances that share their axes."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 3))
    x = (x - x.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T  # mean 0, covariance 1, exactly
    a, b = x * [1.0, 2.0, 3.0], x * [2.0, 2.0, 1.0] + [1.0, 0.0, -2.0]
    expected = (1 + 4) + (1 - 2) ** 2 + (3 - 1) ** 2
    assert frechet.frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert frechet.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    assert frechet.frechet_distance(a @ turn, b @ turn) == pytest.approx(expected, rel=1e-9)


def test_it_grows_with_every_defect(real, space, features):
    """Noise, flicker, standing still; and what differs by chance alone is little against clips of pure noise."""
    rng = np.random.default_rng(1)

    def distance(spoil):
        spoiled = [np.clip(spoil(clip.astype(float)), 0, 255).astype(np.uint8) for clip in real]
        return frechet.frechet_distance(features, of_clips(space, spoiled))

    defects = {
        "noise": lambda s: distance(lambda c: c + rng.normal(0, 10 * s, c.shape)),
        "flicker": lambda s: distance(lambda c: c + rng.normal(0, 8 * s, (16, 1, 1, 3))),
        "still": lambda s: distance(lambda c: c[np.minimum(np.arange(16), 16 - 5 * s)]),
    }
    for name, spoiled in defects.items():
        values = [spoiled(strength) for strength in (1, 3)]
        assert values[1] > 2 * values[0] > 0, name
    worst = distance(lambda c: rng.integers(0, 255, c.shape))
    assert 0 < frechet.half_split_floor([features]) <= 0.05 * worst


def test_the_floor_takes_halves_of_every_group():
    """Else it would be of how the prompts fall, which is the same for all methods."""
    rng = np.random.default_rng(0)
    groups = [rng.normal(0, 10, 3) + rng.normal(size=(8, 3)) for _ in range(12)]
    assert frechet.half_split_floor(groups) < 0.2 * frechet.half_split_floor([np.concatenate(groups)])


def test_the_error_of_a_distance_is_the_jackknife_over_groups():
    """Of a mean it is the standard error; each left-out distance is that of all other groups."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=12)
    means = [np.delete(values, k).mean() for k in range(12)]
    assert frechet.jackknife(means) == pytest.approx(values.std(ddof=1) / 12**0.5)
    references, videos = (list(rng.normal(loc, 1, (3, 9, 2))) for loc in (0, 1))
    found = frechet.without_each(references, videos)
    assert found[1] == frechet.frechet_distance(*(np.concatenate([x[0], x[2]]) for x in (references, videos)))
    assert len(set(found)) == 3
    with pytest.raises(ValueError, match="single group"):
        frechet.without_each(references[:1], videos[:1])


def test_too_few_windows_are_refused(features):
    with pytest.raises(ValueError, match="more than 32 windows, not 20"):
        frechet.frechet_distance(features, features[:20])
    with pytest.raises(ValueError, match="15 frames has no window"):
        frechet.features_of(frechet.SmallFeatures(), np.zeros((15, 64, 64, 3), np.uint8))


def test_sliding_windows(space):
    frames = np.arange(40, dtype=np.uint8)[:, None, None, None].repeat(3, 3)
    clips = np.concatenate(list(frechet.sliding_clips(frames)))
    assert clips.shape[:2] == (25, 16)
    assert (clips[:, 0, 0, 0, 0] == np.arange(25)).all()
    assert (clips[-1, :, 0, 0, 0] == np.arange(24, 40)).all()


def test_distances_over_time_find_where_a_video_goes_wrong(features):
    spoiled = [np.concatenate([features[k : k + 50], features[k : k + 50] + 3]) for k in (0, 50, 100)]
    curve = frechet.over_time(features, spoiled, parts=4)
    assert [start for start, _ in curve] == [0, 25, 50, 75]
    assert min(curve[2][1], curve[3][1]) > 10 * max(curve[0][1], curve[1][1])


def test_videos_of_thousands_of_frames_have_more_parts():
    rng = np.random.default_rng(0)
    reference, video = rng.normal(size=(50, 2)), rng.normal(size=(4000, 2))
    video[3500:] += 5
    found = frechet.over_time(reference, [video])
    assert [start for start, _ in found] == list(range(0, 4000, 500))
    assert found[-1][1] > 10 > max(distance for _, distance in found[:-1])


def test_any_size_of_picture(space, real):
    larger = real[0].repeat(2, 1).repeat(2, 2)
    assert np.allclose(space(larger[None]), space(real[0][None]), atol=1e-3)


class FakeI3D(torch.nn.Module):
    def forward(self, x: torch.Tensor, rescale: bool, resize: bool, return_features: bool) -> torch.Tensor:
        return x.mean((2, 3, 4)) if return_features and rescale and resize else x


def test_i3d_from_its_file(tmp_path):
    """A TorchScript file that is called as FVD's I3D is; anything else is refused in one line."""
    torch.jit.script(FakeI3D()).save(str(tmp_path / "i3d.pt"))
    i3d = frechet.I3D(tmp_path / "i3d.pt")
    assert (i3d.name, i3d.size) == ("i3d-kinetics400", 3)
    clips = np.random.default_rng(0).integers(0, 255, (2, 16, 8, 8, 3), dtype=np.uint8)
    assert np.allclose(i3d(clips), clips.mean((1, 2, 3)), atol=1e-3)
    (tmp_path / "text.pt").write_text("no network")
    for name in ("text.pt", "missing.pt"):
        with pytest.raises(ValueError, match=name) as error:
            frechet.I3D(tmp_path / name)
        assert "\n" not in str(error.value)


# ---------------------------------------------------------------------------- motion


@pytest.mark.parametrize(("x", "y"), [(0, 0), (1, 0), (0, 2), (-2, 1), (4, -3)])
def test_flow_is_the_shift(x, y):
    picture = torch.from_numpy(texture(size=96)).mean(2)
    found = optical_flow.flow(picture[None], torch.roll(picture, (y, x), (0, 1))[None])[0, :, 20:-20, 20:-20]
    assert float((found[0] - x).abs().median()) < 0.3
    assert float((found[1] - y).abs().median()) < 0.3


def test_what_stands_still_has_no_motion():
    frames = np.stack([texture()] * 5).astype(np.uint8)
    assert optical_flow.flow_magnitudes(frames).max() == 0
    assert (jerk.jerk(frames), cuts.cuts(frames)) == (0, 0)


def test_jerk_tells_even_from_uneven():
    ramp = np.stack([np.full((8, 8, 3), 10 * k, np.uint8) for k in range(12)])
    noise = np.random.default_rng(0).integers(0, 255, (40, 16, 16, 3), dtype=np.uint8)
    assert jerk.jerk(ramp) == 0
    assert jerk.jerk(noise) == pytest.approx(3**0.5, abs=0.02)


def test_cuts_are_counted():
    rng = np.random.default_rng(3)
    clips = [make_clip(rng, 20, family)[0] for family in FAMILIES]
    assert [cuts.cuts(clip) for clip in clips] == [0, 0, 0]
    assert cuts.cuts(np.concatenate(clips)) == 2


def test_cuts_as_pyscenedetect_finds_them():
    """Hard cuts between clips of the world; none within them; and not two within 15 frames."""
    pytest.importorskip("scenedetect")
    rng = np.random.default_rng(3)
    clips = [make_clip(rng, 20, family)[0] for family in FAMILIES]
    assert [scene_cuts.scene_cuts(clip) for clip in clips] == [0, 0, 0]
    assert scene_cuts.scene_cuts(np.concatenate(clips)) == 2
    red, cyan = np.zeros((2, 20, 16, 16, 3), np.uint8)
    red[..., 0], cyan[..., 1:] = 200, 200
    assert scene_cuts.scene_cuts(np.concatenate([red, cyan])) == 1


# ---------------------------------------------------------------------------- inception score


def test_inception_score_of_what_is_known():
    """K for as many sure classes, 1 for samples that are alike or unsure."""
    assert inception.inception_score(np.eye(5)[[0, 1, 2, 3, 4] * 3]) == pytest.approx(5)
    assert inception.inception_score(np.eye(5)[[2] * 9]) == pytest.approx(1)
    assert inception.inception_score(np.full((9, 5), 0.2)) == pytest.approx(1)
    half = np.array([[0.75, 0.25], [0.25, 0.75]])
    assert inception.inception_score(half) == pytest.approx(2 * 0.75**0.75 * 0.25**0.25)


def test_a_classifier_from_its_file(tmp_path):
    """It is given RGB of 0 to 255, the middle of each clip; anything else is refused in one line."""
    torch.jit.script(tiny.FakeClassifier()).save(str(tmp_path / "classes.pt"))
    classifier = inception.Classifier(tmp_path / "classes.pt")
    frames = np.zeros((40, 64, 96, 3), np.uint8)
    frames[:16, :, :, 0], frames[16:, :, :, 2] = 200, 200
    frames[:, :, :10], frames[:, :, -10:] = 255, 255  # cut off
    found = inception.probabilities(classifier, frames)
    assert found.shape == (2, 3)  # 8 frames are left over
    assert np.allclose(found, [[1, 0, 0], [0, 0, 1]], atol=1e-6)
    (tmp_path / "text.pt").write_text("no network")
    torch.jit.script(FakeI3D()).save(str(tmp_path / "i3d.pt"))
    torch.jit.script(torch.nn.Identity()).save(str(tmp_path / "same.pt"))
    for name in ("text.pt", "missing.pt", "i3d.pt", "same.pt"):
        with pytest.raises(ValueError, match=name) as error:
            inception.Classifier(tmp_path / name)
        assert "\n" not in str(error.value)


# ---------------------------------------------------------------------------- a whole video


def measured(clip, prompt):
    plain = [metric for metric in METRICS.values() if not metric.of_sets and not metric.lacks({})]
    return {name: value for metric in plain for name, value in metric.load({})(clip, prompt).items()}


def test_a_video_and_its_caption():
    clip, caption, _ = make_clip(np.random.default_rng(0), 70, "robot")
    found = measured(clip, caption)
    assert (found["score"], found["score_slices"]) == (1.0, [1.0, 1.0])
    assert found["speed"] == pytest.approx(2, abs=0.1)
    other = measured(clip, "a red panda in a forest")
    assert "score" not in other
    assert summary([found, found | {"motion": found["motion"] + 2}])["motion_se"] == pytest.approx(1, abs=1e-3)


def test_what_metrics_lack_is_said(monkeypatch):
    with monkeypatch.context() as without:
        without.setattr(metrics, "installed", lambda package: False)
        assert metrics.skipped({"base_clips": 1, "clip_model": "clip/"}) == [
            "no scene cuts: it needs scenedetect: pip install 'fifo-diffusion[cuts]'",
            "no inception score: it needs --classifier",
        ]
    monkeypatch.setattr(metrics, "installed", lambda package: True)
    assert metrics.skipped({"base_clips": 1, "clip_model": "clip/", "classifier": "classes.pt"}) == []
    assert metrics.skipped({"clip_model": "clip/", "classifier": "classes.pt"}) == [
        "no Fréchet distance: it needs clips to compare with: --base-clips"
    ]


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_in_its_file(name):
    module, _, member = METRICS[name].measure.partition(":")
    assert callable(getattr(importlib.import_module(f"fifo_diffusion.evaluation.metrics.{module}"), member))


# ---------------------------------------------------------------------------- report, study, VBench


def test_the_report_holds_everything(tmp_path):
    (tmp_path / "a.png").write_bytes(b"picture")
    table = [{"method": "a <b>", "x": 1.23456, "n": 12345, "yes": True, "none": None}, {"method": "c", "more": "m"}]
    section = report.Section("T & C", ["note"], table, [tmp_path / "a.png"], errors=["bad <input>"])
    report.write_html(tmp_path / "r.html", "title", [section])
    text = (tmp_path / "r.html").read_text()
    for part in (
        "T &amp; C",
        "a &lt;b&gt;",
        "1.235",
        "12,345",
        ">yes<",
        "bad &lt;input&gt;",
        "cGljdHVyZQ==",
        "<th>more</th>",
    ):
        assert part in text
    assert "None" not in text


@pytest.fixture
def videos(tmp_path):
    made = {}
    for name in ("fifo", "genl", "plain"):
        for k, prompt in enumerate(("a cat", "a dog / a ball")):
            folder = tmp_path / name / f"{k}"
            folder.parent.mkdir(exist_ok=True)
            write_video(f"{folder}/", np.full((4, 16, 16, 3), 50 * k, np.uint8), fps=8)
            made.setdefault(name, []).append((prompt, folder))
    return made


def test_study_is_blind_and_analysed(tmp_path, videos, capsys):
    study.write_study(tmp_path / "study", videos, "fifo", seed=1)
    key = json.loads((tmp_path / "study" / "key.json").read_text())
    page = (tmp_path / "study" / "index.html").read_text()
    assert len(key) == 4
    assert all("fifo" in (pair["A"], pair["B"]) for pair in key.values())
    assert "fifo" not in page
    assert "genl" not in page
    assert page.count("<fieldset") == 4 * 5
    assert len(list((tmp_path / "study" / "videos").iterdir())) == 8
    assert {pair["A"] for pair in key.values()} != {"fifo"}

    rows = [
        {"who": "x", "pair": pair, "criterion": name, "answer": "A" if sides["A"] == "fifo" else "B"}
        for pair, sides in key.items()
        for name in study.CRITERIA
    ]
    found = study.analyse(key, rows, "fifo")
    assert len(found) == 2 * 5
    assert all((row["ours"], row["draw"], row["theirs"], row["p"]) == (2, 0, 0, 0.5) for row in found)
    with open(tmp_path / "answers.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    assert user_study.main([str(tmp_path / "study" / "key.json"), str(tmp_path / "answers.csv")]) == 0
    assert "baseline genl  criterion overall  ours 2" in capsys.readouterr().out
    with pytest.raises(ValueError, match="makes no sense"):
        study.analyse(key, [{"pair": "99", "criterion": "overall", "answer": "A"}], "fifo")


def told_apart(folder, videos):
    """The methods of a study's videos by what they show, and the names that key.json gives them."""
    key = json.loads((folder / "key.json").read_text())
    shades = {round(float(np.mean(list(iter_frames(path))))): name for name, own in videos.items() for _, path in own}
    for number, pair in key.items():
        for letter in "AB":
            shade = float(np.mean(read_frames(folder / "videos" / f"{number}{letter}.mp4")))
            yield shades[min(shades, key=lambda known: abs(known - shade))], pair[letter]


@pytest.fixture
def shaded(tmp_path):
    """Videos that their grey tells apart."""
    made = {}
    for j, name in enumerate(("fifo", "genl", "plain", "chunked-1")):
        for k in range(3):
            folder = tmp_path / name / f"{k}"
            folder.parent.mkdir(exist_ok=True)
            write_video(f"{folder}/", np.full((4, 16, 16, 3), 20 + 60 * j + 15 * k, np.uint8), fps=8)
            made.setdefault(name, []).append((f"prompt {k}", folder))
    return made


def test_a_study_written_again_is_of_the_same_pairs(tmp_path, shaded):
    """Rows are added and left out between two writings: each video is of the method that key.json says, pairs keep
    their names and sides, and answers to those that were left out still count."""
    folder, keys = tmp_path / "study", []
    for names in (("fifo", "genl"), tuple(shaded), ("plain", "fifo"), tuple(reversed(shaded))):
        study.write_study(folder, {name: shaded[name] for name in names}, "fifo")
        assert all(shown == said for shown, said in told_apart(folder, shaded))
        keys.append(json.loads((folder / "key.json").read_text()))
        assert (folder / "index.html").read_text().count("<section") == 3 * (len(names) - 1)
    assert keys[0].items() < keys[1].items()
    assert keys[1] == keys[2] == keys[3]
    assert {pair["A"] == "fifo" for pair in keys[3].values()} == {True, False}


def test_a_study_of_other_videos_under_the_same_names_is_another(tmp_path, shaded):
    study.write_study(tmp_path / "study", shaded, "fifo")
    before = set(json.loads((tmp_path / "study" / "key.json").read_text()))
    for _, path in shaded["genl"]:
        write_video(f"{path}/", np.full((4, 16, 16, 3), 3, np.uint8), fps=8)
    study.write_study(tmp_path / "study", shaded, "fifo")
    after = json.loads((tmp_path / "study" / "key.json").read_text())
    assert {pair["A" if pair["B"] == "fifo" else "B"] for number, pair in after.items() if number not in before} == {
        "genl"
    }


@pytest.mark.parametrize("part", ["study", "vbench"])
def test_interrupted_while_a_video_is_written_it_is_written_again(tmp_path, videos, monkeypatch, part):
    """After Ctrl-C there is no short video under a name that counts as done."""
    write = {"study": lambda: study.write_study(tmp_path / "out", videos, "fifo")}.get(
        part, lambda: vbench.export(tmp_path / "out", videos)
    )
    real, handed = whole_files.write_video, []

    def stopping(path, frames, **options):
        handed.append(path)

        def some():
            for k, frame in enumerate(frames):
                if len(handed) == 2 and k == 2:
                    raise KeyboardInterrupt
                yield frame

        return real(path, some(), **options)

    monkeypatch.setattr(whole_files, "write_video", stopping)
    with pytest.raises(KeyboardInterrupt):
        write()
    write()
    films = list((tmp_path / "out").rglob("*.mp4"))
    assert len(films) == {"study": 8, "vbench": 6}[part]
    assert {count_frames(film) for film in films} == {4}


@pytest.mark.parametrize(("wins", "losses", "p"), [(0, 0, 1), (5, 5, 1), (10, 0, 2 / 1024), (8, 2, 2 * 56 / 1024)])
def test_sign_test(wins, losses, p):
    assert study.sign_test(wins, losses) == study.sign_test(losses, wins) == pytest.approx(p)


def test_vbench_layout(tmp_path, videos):
    commands = vbench.export(tmp_path / "vbench", videos)
    assert len(commands) == 3
    assert all("--mode=custom_input" in command for command in commands)
    assert count_frames(tmp_path / "vbench" / "genl" / "a dog   a ball-0.mp4") == 4


def test_vbench_names_that_files_can_have(tmp_path, videos):
    """Long ones, ones that begin alike, and ones that no system takes."""
    prompts = ["写真" * 200, "写真" * 200 + "!", "a\nb", "..", "a/b", "a b"]
    path = videos["fifo"][0][1]
    vbench.export(tmp_path / "vbench", {"fifo": [(prompt, path) for prompt in prompts]})
    assert len(list((tmp_path / "vbench" / "fifo").iterdir())) == len(prompts)


def test_clip_score_from_a_local_folder(tmp_path):
    """The cosine of the model's own embeddings, over every eighth frame."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(str(files("fifo_diffusion.toybox") / "pipeline" / "tokenizer"))
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    words = {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id, "max_position_embeddings": 20}
    config = CLIPConfig(text_config=small | words, vision_config=small | {"image_size": 32, "patch_size": 8})
    torch.manual_seed(0)
    model, images = CLIPModel(config).eval(), CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32)
    model.save_pretrained(tmp_path)
    CLIPProcessor(images, tokenizer).save_pretrained(tmp_path)

    frames = np.random.default_rng(0).integers(0, 255, (17, 32, 32, 3), dtype=np.uint8)
    score = METRICS["clip_score"].load({"clip_model": tmp_path})
    pixels = images([*frames[::8]], return_tensors="pt").pixel_values
    tokens = tokenizer("a red ball", return_tensors="pt").input_ids
    with torch.no_grad():
        seen = model.visual_projection(model.vision_model(pixels).pooler_output)
        read = model.text_projection(model.text_model(tokens).pooler_output)
    expected = 100 * float(torch.nn.functional.cosine_similarity(seen, read).mean())
    assert score(frames, "a red ball")["clip_score"] == pytest.approx(expected, abs=1e-3)
    assert score(frames[:8], "a red ball")["clip_score"] != pytest.approx(expected, abs=1e-3)
