"""The measures of the report: each must find what it is for, and only that."""

import importlib
from importlib.resources import files

import numpy as np
import pytest
import torch

from fifo_diffusion.evaluation import metrics, report
from fifo_diffusion.evaluation.metrics import METRICS, cuts, inception, jerk, optical_flow, scene_cuts
from fifo_diffusion.evaluation.summary import summary
from fifo_diffusion.testing import tiny
from fifo_diffusion.toybox.world import FAMILIES, make_clip


def texture(seed=0, size=64):
    """A smooth random picture, (size, size, 3) in 0 to 255."""
    rough = torch.rand(1, 3, size // 5, size // 5, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(rough, (size, size), mode="bicubic")[0].clamp(0, 1)
    return (smooth.permute(1, 2, 0) * 255).numpy()


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
    torch.jit.script(tiny.FakeI3D()).save(str(tmp_path / "i3d.pt"))
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
    assert summary([other, found, found])["score"] == 1.0  # of those that have one, whichever comes first
    assert summary([found, found | {"motion": found["motion"] + 2}])["motion_se"] == pytest.approx(1, abs=1e-3)


def test_what_metrics_lack_is_said(monkeypatch):
    with monkeypatch.context() as without:
        without.setattr(metrics, "installed", lambda package: False)
        assert metrics.skipped({"base_clips": 1, "clip_model": "clip/"}) == [
            "no scene cuts: it needs scenedetect: pip install scenedetect-headless",
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


# ---------------------------------------------------------------------------- the report, CLIP


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
