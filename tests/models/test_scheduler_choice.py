"""Schedulers by name (`--scheduler`, `--flow-shift`), and what publishers sample their checkpoints with."""

import diffusers
import pytest
import torch

from fifo_diffusion import FIFO
from fifo_diffusion.cli.main import main
from fifo_diffusion.models.loading.source import find_model
from fifo_diffusion.models.shared.scheduler_choice import choose_scheduler, flow_shift_of
from fifo_diffusion.models.videocrafter.scheduler import SignalScaleDDIMScheduler
from fifo_diffusion.streaming.state import RunState
from fifo_diffusion.testing import tiny, tiny_wan
from fifo_diffusion.video import read_metadata

FEW = ["--window", "4", "--num-partitions", "1", "--num-frames", "5", "--seed", "3", "--device", "cpu", "-q"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("euler", "EulerDiscreteScheduler"),
        ("Euler Ancestral", "EulerAncestralDiscreteScheduler"),
        ("euler_a", "EulerAncestralDiscreteScheduler"),
        ("dpm++", "DPMSolverMultistepScheduler"),
        ("DPMSolverSinglestep", "DPMSolverSinglestepScheduler"),
        ("unipc", "UniPCMultistepScheduler"),
        ("DDIMScheduler", "DDIMScheduler"),
    ],
)
def test_names(text, kind):
    assert type(choose_scheduler(tiny.scheduler(), text)).__name__ == kind


def test_what_the_model_was_trained_with_is_kept():
    """diffusers' `from_config` drops what was a default of the class before: here betas and prediction."""
    ours = SignalScaleDDIMScheduler(prediction_type="v_prediction")
    chosen = choose_scheduler(ours, "euler:use_karras_sigmas=true,timestep_spacing=trailing")
    assert isinstance(chosen, diffusers.EulerDiscreteScheduler)
    assert chosen.config.use_karras_sigmas is True
    assert chosen.config.prediction_type == "v_prediction"
    torch.testing.assert_close(chosen.alphas_cumprod, ours.alphas_cumprod)


def test_flow_shift_goes_along():
    chosen = choose_scheduler(tiny_wan.unipc(flow_shift=7.0), "FlowMatchEuler")
    assert chosen.config.shift == flow_shift_of(chosen) == 7.0
    back = choose_scheduler(chosen, "dpm++:solver_order=3", 4.0)
    assert (back.config.use_flow_sigmas, back.config.prediction_type) == (True, "flow_prediction")
    assert (back.config.flow_shift, back.config.solver_order) == (4.0, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("eulr", "^scheduler='eulr': there is none of that name; choose Euler"),
        ("euler:use_karas_sigmas=true", "no use_karas_sigmas: choose use_karras_sigmas"),
        ("euler:use_karras_sigmas=2", "must be true or false"),
        ("euler:steps_offset=many", "must be a number"),
        ("euler:use_karras_sigmas", "is not key=value"),
        ("ddim:clip_sample=true,clip_sample=false", "clip_sample is given twice"),
        ("ddim:num_train_timesteps=-5", "^scheduler='ddim:num_train_timesteps=-5': number of steps must be"),
        ("euler:use_karras_sigmas=true,use_exponential_sigmas=true", "Only one of"),
        ("ddiminverse", "it makes noise of a video, not a video of noise; choose "),
        ("flowmatcheuler", "not for models trained by diffusion; choose "),
    ],
)
def test_what_does_not_go_is_refused_with_the_nearest(text, message):
    with pytest.raises(ValueError, match=message) as refusal:
        choose_scheduler(tiny.scheduler(), text)
    assert "\n" not in str(refusal.value)


def test_what_does_not_go_with_a_flow_model():
    with pytest.raises(ValueError, match="not for models trained by flow matching; choose "):
        choose_scheduler(tiny_wan.unipc(), "euler")
    with pytest.raises(ValueError, match="sampled by DDIMScheduler: leave it out"):
        choose_scheduler(tiny.scheduler(), flow_shift=3.0)
    with pytest.raises(ValueError, match="a number above 0"):
        choose_scheduler(tiny_wan.unipc(), flow_shift=-1)


def test_a_shift_reaches_a_class_that_calls_it_otherwise():
    euler = choose_scheduler(tiny_wan.unipc(), "flowmatcheuler", 5)
    assert (flow_shift_of(euler), euler.shift) == (5.0, 5.0)
    assert flow_shift_of(choose_scheduler(euler, "unipc", torch.tensor(7.0))) == 7.0


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.pipeline(**tiny.LIGHT).save_pretrained("model")
    return "model"


def test_the_command_and_python_agree_and_a_run_goes_on_with_the_same(model, capsys):
    euler = "euler:use_karras_sigmas=true"
    typed = ["generate", "a red ball", "--model", model, "--scheduler", euler, "--state", "run.state", *FEW]
    assert main([*typed, "-o", "a.mp4"]) == 0
    facts = read_metadata("a.mp4")
    assert facts["scheduler"] == euler
    assert f"--scheduler {euler}" in facts["command"]
    saved = RunState.load("run.state")
    assert saved.notes["scheduler"] == euler
    with FIFO.from_pretrained(model, device="cpu", scheduler=euler) as fifo:
        assert fifo.model.fingerprint() == saved.fingerprint
    assert main(["generate", "--state", "run.state", "--num-frames", "7", "--device", "cpu", "-q"]) == 0
    assert main(["generate", "--state", "run.state", "--scheduler", "ddim", "--device", "cpu"]) == 2
    assert f"was saved with --scheduler {euler}, not with --scheduler ddim" in " ".join(capsys.readouterr().err.split())


def test_the_command_refuses_in_its_own_words(model, capsys):
    typed = ["generate", "a red ball", "--model", model, *FEW]
    assert main([*typed, "--scheduler", "heunn"]) == 2
    assert "choose Heun" in capsys.readouterr().err
    assert main([*typed, "--flow-shift", "3"]) == 2
    assert "goes with flow-matching models" in capsys.readouterr().err
    assert main([*typed, "--scheduler", "dpm++:thresholding=true"]) == 2
    assert "thresholding" in capsys.readouterr().err


SKYREELS, A14B, WAN14B = (
    "SkyReels-V2-DF-1.3B-540P-Diffusers",
    "Wan2.2-T2V-A14B-Diffusers",
    "Wan2.1-T2V-14B-Diffusers",
)


def two_experts():
    second = tiny.randomize(diffusers.WanTransformer3DModel(**tiny_wan.TRANSFORMER), 9)
    return tiny_wan.pipeline(transformer_2=second, boundary_ratio=0.875)


def test_publishers_shift_is_used_and_said(tmp_path, caplog):
    tiny_wan.skyreels(tiny_wan.unipc(flow_shift=1.0)).save_pretrained(tmp_path / SKYREELS)
    pipe = find_model(tmp_path / SKYREELS).load()
    assert pipe.scheduler.config.flow_shift == 8.0
    assert f"flow shift 8, as the publishers of {SKYREELS} sample (its files: shift 1)" in caplog.text
    caplog.clear()
    with FIFO.from_pretrained(tmp_path / SKYREELS, device="cpu", flow_shift=4.0) as fifo:
        assert fifo.pipe.scheduler.config.flow_shift == 4.0
        assert not caplog.text
        fifo.pipe.scheduler = tiny_wan.unipc(flow_shift=2.0)  # set later: this counts
        assert torch.equal(
            fifo.model.levels(6).sigma, FIFO(tiny_wan.skyreels(tiny_wan.unipc(flow_shift=2.0))).model.levels(6).sigma
        )


@pytest.mark.parametrize(
    ("given", "shift"),
    [
        ({"scheduler": None}, 8.0),
        ({"scheduler": "flowmatcheuler"}, 8.0),
        ({"scheduler": "flowmatcheuler:base_shift=0.7"}, 8.0),
        ({"scheduler": "flowmatcheuler:shift = 7"}, 7.0),
        ({"scheduler": "flowmatcheuler:shift=7", "flow_shift": 9}, 9.0),
        ({"scheduler": tiny_wan.unipc(flow_shift=2.0)}, 2.0),
    ],
    ids=str,
)
def test_what_the_user_says_counts_before_what_publishers_do(tmp_path, given, shift):
    tiny_wan.skyreels(tiny_wan.unipc(flow_shift=1.0)).save_pretrained(tmp_path / SKYREELS)
    scheduler = find_model(tmp_path / SKYREELS).load(**given).scheduler
    assert flow_shift_of(scheduler) == shift
    assert getattr(scheduler, "_shift", shift) == shift


def test_what_is_no_scheduler_is_named():
    for given in (5, tiny_wan.unipc, diffusers.DDIMScheduler):
        with pytest.raises(TypeError, match=r"^scheduler=.*: give a text such as 'euler', or a scheduler of diffusers"):
            find_model("toybox").load(scheduler=given)
    pipe = tiny.pipeline(**tiny.LIGHT)
    fifo = FIFO(pipe)
    stream = fifo.stream("a cat", window=4, num_partitions=1)
    for given in (None, diffusers.DDIMScheduler):
        pipe.scheduler = given
        with pytest.raises(
            ValueError, match=r"cannot be stepped frame by frame: set pipe.scheduler to a DDIMScheduler"
        ):
            fifo.stream("a cat", window=4, num_partitions=1)
        with pytest.raises(ValueError, match=r"pipe.scheduler was replaced while a video runs: put it back"):
            next(stream)


def test_a_pipeline_that_somebody_else_loaded_is_left_alone_and_told(tmp_path, caplog):
    tiny_wan.skyreels(tiny_wan.unipc(flow_shift=1.0)).save_pretrained(tmp_path / SKYREELS)
    pipe = diffusers.DiffusionPipeline.from_pretrained(tmp_path / SKYREELS)
    with FIFO(pipe):
        assert pipe.scheduler.config.flow_shift == 1.0
    assert f"flow shift 1; the publishers of {SKYREELS} sample with 8" in caplog.text


def test_publishers_guidance_of_two_experts(tmp_path, caplog):
    two_experts().save_pretrained(tmp_path / A14B)
    with FIFO.from_pretrained(tmp_path / A14B, device="cpu") as fifo:
        assert flow_shift_of(fifo.pipe.scheduler) == 12.0
        assert "flow shift 12 and guidance 4 at high noise, 3 at low" in caplog.text

        def told(**call):
            condition = fifo.model.condition(["a red ball"], height=32, width=32, **call)
            return fifo.model.guidance(condition, torch.tensor([[900.0, 800.0]])).flatten().tolist()

        assert told(guidance_scale=4.0) == [4.0, 3.0]
        assert told(guidance_scale=4.0, guidance_scale_2=2.0) == [4.0, 2.0]
        condition = fifo.model.condition(["a red ball"], height=32, width=32, guidance_scale=6.0)
        assert fifo.model.guidance(condition, torch.tensor([[900.0, 800.0]])) == 6.0


def test_publishers_shift_by_size(tmp_path, caplog, monkeypatch):
    """Wan 2.1 14B: 3 at 480p, 5 at 720p; whatever is set on the pipeline counts instead. Streams of both sizes go on in
    turns."""
    tiny_wan.pipeline(tiny_wan.unipc(flow_shift=1.0)).save_pretrained(tmp_path / WAN14B)
    monkeypatch.setattr("fifo_diffusion.models.shared.scheduler_choice.LARGE", 48 * 48)
    few = {"window": 3, "num_partitions": 1, "guidance_scale": 1.0}
    with FIFO.from_pretrained(tmp_path / WAN14B, device="cpu") as fifo:
        assert flow_shift_of(fifo.pipe.scheduler) == 3.0
        streams = {size: fifo.stream("a red ball", height=size, width=size, seed=0, **few) for size in (32, 48)}
        found = {size: fifo.model.levels(6, size=(3, size, size)).sigma for size in streams}
        for frame in range(3):
            assert {size: next(stream).shape[0] for size, stream in streams.items()} == {32: 32, 48: 48}, frame
        assert caplog.text.count("flow shift 5, as the publishers sample 48x48") == 1
        assert flow_shift_of(fifo.pipe.scheduler) == 3.0
        for size, shift in ((32, 3.0), (48, 5.0)):
            fifo.pipe.scheduler = tiny_wan.unipc(flow_shift=shift)
            assert torch.equal(fifo.model.levels(6, size=(3, size, size)).sigma, found[size])
        fifo.pipe.scheduler = tiny_wan.unipc(flow_shift=2.0)
        of_two = fifo.model.levels(6, size=(3, 32, 32)).sigma
        assert torch.equal(fifo.model.levels(6, size=(3, 48, 48)).sigma, of_two)
        assert not torch.equal(of_two, found[32])
