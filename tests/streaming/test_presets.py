"""Settings that go together, by one name."""

import diffusers
import numpy as np
import pytest

from fifo_diffusion import FIFO, RunState
from fifo_diffusion.cli.main import main
from fifo_diffusion.errors import ArgumentError, UsageError
from fifo_diffusion.layout_list import LAYOUTS
from fifo_diffusion.settings.fitting import frame_forwards, preset_values
from fifo_diffusion.settings.presets import PRESETS
from fifo_diffusion.streaming.presets import with_preset
from fifo_diffusion.study.config import Config
from fifo_diffusion.study.worker import job_of_row
from fifo_diffusion.testing import frames, tiny
from layouts import queue_layout
from toy_layout import TOY

SIZE = {"height": 16, "width": 16}
LIVE = {"num_partitions": 1, "lookahead": True, "frames_per_level": 1, "guidance_scale": 1.0}


@pytest.fixture(scope="module")
def fifo():
    """Of four frames."""
    with FIFO(tiny.pipeline(**tiny.LIGHT)) as fifo:
        fifo.model.frames = 4
        yield fifo


def test_a_preset_is_its_settings(fifo):
    expected = fifo.stream("a cat", seed=1, num_frames=6, **SIZE, **LIVE)
    found = fifo.stream("a cat", seed=1, num_frames=6, preset="live", **SIZE)
    assert found.metadata["preset"] == "live"
    assert (found.metadata["frames_per_level"], found.metadata["guidance_scale"]) == ("1", "1.0")
    assert fifo.layout(preset="live") == fifo.layout(num_partitions=1)
    assert np.array_equal(frames(found), frames(expected))


@pytest.mark.parametrize("given", [{"num_partitions": 4}, {"guidance_scale": 3}, {"lookahead": False}])
def test_what_is_given_counts_even_where_it_is_the_default(fifo, given):
    settings = fifo.stream("a cat", preset="live", **SIZE, **given).settings
    assert {name: getattr(settings, name) for name in LIVE} == LIVE | given
    other = fifo.stream("a cat", preset="fast", num_partitions=4, lookahead=True, **SIZE).settings
    assert (other.num_partitions, other.lookahead) == (4, True)


def test_a_saved_run_goes_on_under_what_the_preset_was(fifo, tmp_path, monkeypatch):
    whole = frames(fifo.stream("a cat", seed=1, num_frames=8, preset="fast", **SIZE))
    stream = fifo.stream("a cat", seed=1, preset="fast", **SIZE)
    first = frames(stream, 5)
    stream.state().save(tmp_path / "run.safetensors")
    state = RunState.load(tmp_path / "run.safetensors")
    changed = dict(PRESETS) | {"fast": PRESETS["paper"]}
    monkeypatch.setattr("fifo_diffusion.streaming.presets.PRESETS", changed)  # a later version
    for again in ({}, {"preset": "fast"}):
        rest = fifo.stream(start=state, num_frames=8, **again)
        assert rest.metadata["preset"] == "fast"
        assert np.array_equal(np.concatenate([first, frames(rest)]), whole)
    with pytest.raises(ValueError, match="saved with preset='fast', not preset='live'"):
        fifo.stream(start=state, preset="live")


def test_models_of_few_steps_have_one_of_their_own(fifo):
    before = fifo.pipe.scheduler
    config = {"beta_schedule": "scaled_linear"}
    try:
        for kind, few in (
            (diffusers.DDIMScheduler, False),
            (diffusers.EulerDiscreteScheduler, False),
            (diffusers.LCMScheduler, True),
            (diffusers.TCDScheduler, True),
        ):
            fifo.pipe.scheduler = kind.from_config(config)
            stream = fifo.stream("a cat", **SIZE)
            assert stream.settings.preset == ("live" if few else None)
            assert (stream.settings.num_partitions, stream.settings.guidance_scale) == ((1, 1) if few else (4, 9))
            assert fifo.stream("a cat", preset="paper", **SIZE).settings.num_partitions == 4
            given = fifo.stream("a cat", num_inference_steps=2, **SIZE) if few else None
            assert given is None or given.settings.frames_per_level == 2
        for stochastic in (False, True):
            fifo.pipe.scheduler = diffusers.FlowMatchEulerDiscreteScheduler(stochastic_sampling=stochastic)
            assert fifo.model.few_steps is stochastic
    finally:
        fifo.pipe.scheduler = before


@pytest.mark.parametrize(
    ("frames", "given", "expected"),
    [
        (16, {}, {"frames_per_level": 4}),
        (21, {}, {"frames_per_level": 5, "window": 20}),  # Wan
        (56, {}, {"frames_per_level": 14}),
        (24, {"window": 16}, {"frames_per_level": 4, "window": 16}),
        (24, {"window": 18}, {"frames_per_level": 5, "window": 18}),  # of four or five frames
        (16, {"num_inference_steps": 8}, {"frames_per_level": 2}),
        (16, {"timesteps": [999, 499]}, {"frames_per_level": 8}),
        (16, {"sigmas": [14, 3, 0]}, {"frames_per_level": 8}),
        (3, {}, {}),
    ],
    ids=str,
)
def test_live_has_four_levels_where_the_window_allows_it(fifo, frames, given, expected, monkeypatch):
    monkeypatch.setattr(fifo.model, "frames", frames)
    asked = with_preset(fifo.model, {"preset": "live"} | given)
    assert asked.frames_per_level == expected.get("frames_per_level", 1)
    assert asked.window == expected.get("window")
    assert (asked.num_partitions, asked.guidance_scale) == (1, 1)


def test_guidance_that_a_model_is_told_stays():
    assert "guidance_scale" in preset_values(PRESETS["live"], 16)
    assert "guidance_scale" not in preset_values(PRESETS["live"], 16, told_guidance=True)
    told = tiny.pipeline(**tiny.LIGHT)
    assert not FIFO(told).model.told_guidance
    told.unet.register_to_config(time_cond_proj_dim=4)
    assert FIFO(told).model.told_guidance


def test_a_layout_is_given_what_it_takes(fifo, monkeypatch):
    monkeypatch.setitem(LAYOUTS, "toy", TOY)
    settings = fifo.stream("a cat", preset="live", layout="toy", **SIZE).settings
    assert (settings.num_partitions, settings.lookahead, settings.guidance_scale) == (4, True, 1)  # as it finds them
    with pytest.raises(ArgumentError, match="layout='toy' does not take it"):
        fifo.stream("a cat", preset="live", layout="toy", num_partitions=1, **SIZE)


def test_there_is_no_other(fifo, capsys):
    with pytest.raises(ArgumentError, match=r"^preset='quick': give 'paper' or 'quality' or 'fast' or 'live'$"):
        fifo.stream("a cat", preset="quick", **SIZE)
    assert main(["generate", "a ball", "--preset", "quick"]) == 2
    assert "--preset must be 'paper' or 'quality' or 'fast' or 'live', not quick" in capsys.readouterr().err


def test_the_dry_run_and_the_list_of_models_tell_what_they_are(capsys):
    assert main(["generate", "a ball", "--preset", "live", "--num-partitions", "2", "--dry-run"]) == 0
    output = capsys.readouterr().out
    assert "live: --lookahead, --frames-per-level 4, --guidance-scale 1, but --num-partitions 2" in output
    assert "cost      16 frame-forwards per frame\n" in output
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  presets    paper 128, quality 128, fast 16, live 8" in lines
    assert "  presets    paper 168, quality 168, fast 21, live 8 (window 20)" in lines


def test_rows_of_evaluations_may_have_one(fifo):
    values = {"model": "toybox", "tables": ["cost"], "prompts": ["a ball"]}
    row = {"method": "fifo", "preset": "live", "lookahead": False}
    config = Config.from_json(values | {"rows": {"live": row}}, "c.json")
    job = job_of_row(fifo, config.rows["live"], "a cat", 4, 1, output="x.mp4")
    settings = fifo.stream(job.prompt, **job.arguments, **SIZE).settings
    assert (settings.preset, settings.num_partitions, settings.lookahead) == ("live", 1, False)
    for row, told in (
        ({"method": "fifo", "preset": "quick"}, "'paper' or"),
        ({"method": "genl", "preset": "live"}, "left out"),
    ):
        with pytest.raises(UsageError, match=told):
            Config.from_json(values | {"rows": {"a": row}}, "c.json")


@pytest.mark.parametrize("frames", [16, 21])
@pytest.mark.parametrize("name", PRESETS)
def test_the_table_of_models_counts_the_work_of_layouts(name, frames):
    values = {"window": frames} | preset_values(PRESETS[name], frames)
    layout = queue_layout(**{key: values[key] for key in ("window", "num_partitions", "lookahead", "frames_per_level")})
    assert frame_forwards(values) == layout.frame_forwards_per_frame
