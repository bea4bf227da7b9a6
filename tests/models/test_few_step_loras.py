"""LoRAs that are known to distil to few steps: by name, by metadata; sampled as their publishers do."""

import logging
from pathlib import Path

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from fifo_diffusion import FIFO
from fifo_diffusion.cli.main import main
from fifo_diffusion.models.loading.adapters import read_adapter
from fifo_diffusion.models.loading.few_step_loras import FEW_STEP_LORAS, known_lora
from fifo_diffusion.models.loading.source import find_model
from fifo_diffusion.models.shared.scheduler_choice import choose_scheduler
from fifo_diffusion.models.shared.schedulers import read_levels
from fifo_diffusion.models.shared.step_rules import is_flow, known_class
from fifo_diffusion.testing import tiny, tiny_wan

peft = pytest.importorskip("peft")

NAMES = {
    "wangfuyun/AnimateLCM/AnimateLCM_sd15_t2v_lora.safetensors": "AnimateLCM",
    "sd15_lora_beta.safetensors": "AnimateLCM",
    "latent-consistency/lcm-lora-sdv1-5": "LCM-LoRA",
    "h1t/TCD-SD15-LoRA": "TCD-LoRA",
    "ByteDance/Hyper-SD/Hyper-SD15-1step-lora.safetensors": "Hyper-SD for any number of steps",
    "ByteDance/Hyper-SD/Hyper-SD15-4steps-lora.safetensors": "Hyper-SD",
    "ByteDance/Hyper-SD/Hyper-SD15-8steps-CFG-lora.safetensors": None,  # is guided
    "lightx2v/Wan2.1-T2V-14B-StepDistill-CfgDistill-Lightx2v": "lightx2v",
    "lightx2v/Wan2.2-Lightning": "lightx2v",
    "Wan21_T2V_14B_lightx2v_cfg_step_distill_lora_rank32.safetensors": "lightx2v",
    "Wan2.2-Lightning_T2V-A14B-4steps-lora_HIGH_fp16.safetensors": "lightx2v",
    "Kijai/WanVideo_comfy/Wan21_CausVid_14B_T2V_lora_rank32.safetensors": "CausVid",
    "Wan2.1_T2V_1.3B_self-forcing_lora.safetensors": "Self-Forcing",
    "FastWan_T2V_1.3B_lora_rank128.safetensors": "FastWan",
    "style.safetensors": None,
    "guoyww/animatediff-motion-lora-zoom-in": None,
}

# of each kind: the scheduler's class, how many steps, and their timesteps
STEPS = {
    "AnimateLCM": ("LCMScheduler", 4, [999, 759, 499, 259]),
    "LCM-LoRA": ("LCMScheduler", 4, [999, 759, 499, 259]),
    "TCD-LoRA": ("TCDScheduler", 4, [999, 759, 499, 259]),
    "Hyper-SD for any number of steps": ("TCDScheduler", 4, [999, 759, 499, 259]),
    "Hyper-SD": ("DDIMScheduler", 4, [999, 749, 499, 249]),
    "lightx2v": ("UniPCMultistepScheduler", 4, [1000.0, 937.5, 833.33, 625.0]),
    "CausVid": ("UniPCMultistepScheduler", 4, [1000.0, 937.5, 833.33, 625.0]),
    "Self-Forcing": ("UniPCMultistepScheduler", 4, [1000.0, 937.5, 833.33, 625.0]),
    "FastWan": ("FlowMatchLCMScheduler", 3, [1000.0, 757.0, 522.0]),
}


@pytest.mark.parametrize("name", NAMES)
def test_names(name):
    found = known_lora([name])
    assert (found and found.name) == NAMES[name]


def test_the_documentation_has_all():
    text = (Path(__file__).parents[2] / "docs" / "few-steps.md").read_text()
    for kind in FEW_STEP_LORAS:
        steps = f" and `--sigmas {','.join(f'{s:g}' for s in kind.sigmas)}`" if kind.sigmas else ""
        assert f"| {kind.name} | `{kind.scheduler}`{steps} | {kind.advice} | {kind.source} |" in text


@pytest.mark.parametrize("kind", FEW_STEP_LORAS, ids=lambda kind: kind.name)
def test_each_is_sampled_on_its_own_timesteps(kind):
    """On top of what models come with: Stable Diffusion's PNDM, Wan's UniPC of shift 3."""
    diffusion = diffusers.PNDMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    flow = diffusers.UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    scheduler = choose_scheduler(flow if kind.flow else diffusion, kind.scheduler)
    name, count, timesteps = STEPS[kind.name]
    assert type(scheduler).__name__ == name
    assert is_flow(scheduler, known_class(scheduler)[1]) == kind.flow
    if kind.name == "AnimateLCM":
        assert scheduler.config.beta_schedule == "linear"
    elif not kind.flow:
        assert (scheduler.config.beta_schedule, scheduler.config.beta_end) == ("scaled_linear", 0.012)
    levels = read_levels(scheduler, count, sigmas=kind.sigmas)
    expected = torch.tensor(timesteps, dtype=torch.float64)
    assert (levels.timestep.flip(0).double() - expected).abs().max() <= (1.5 if kind.flow else 0)


def lora_of(pipe, denoiser, file, metadata=None):
    module = getattr(pipe, denoiser)
    torch.manual_seed(0)
    config = peft.LoraConfig(r=2, init_lora_weights=False, target_modules=["to_q", "to_v"])
    peft.inject_adapter_in_model(config, module, "made")
    weights = peft.get_peft_model_state_dict(module, adapter_name="made")
    save_file({f"{denoiser}.{k}": v.contiguous() for k, v in weights.items()}, file, metadata)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("few")
    tiny.pipeline(**tiny.LIGHT).save_pretrained(folder / "model")
    tiny_wan.pipeline().save_pretrained(folder / "wan")
    lora_of(tiny.pipeline(**tiny.LIGHT), "unet", folder / "AnimateLCM_sd15_t2v_lora.safetensors")
    lora_of(tiny_wan.pipeline(), "transformer", folder / "lightx2v_rank2.safetensors")
    weights = load_file(folder / "lightx2v_rank2.safetensors")
    save_file(weights, folder / "FastWan_lora.safetensors")
    save_file(weights, folder / "mine.safetensors", {"modelspec.title": "Wan 2.1 CausVid rank 2"})
    save_file(weights, folder / "other.safetensors", {"modelspec.title": "a style"})
    return folder


def test_a_known_one_brings_scheduler_and_preset(places, caplog):
    file = places / "AnimateLCM_sd15_t2v_lora.safetensors"
    with caplog.at_level(logging.WARNING, "fifo_diffusion"):
        pipe = find_model(places / "model").load(dtype=torch.float32, lora=f"{file}:0.8")
    assert "is AnimateLCM: sampled by lcm:beta_schedule=linear" in caplog.text
    assert isinstance(pipe.scheduler, diffusers.LCMScheduler)
    with FIFO(pipe) as fifo:
        assert fifo.stream("a cat", seed=0).settings.preset == "live"
    for lora, scheduler, kind, few in (
        (f"{file}:0", None, "DDIMScheduler", False),  # does nothing
        (str(file), "euler:timestep_spacing=trailing", "EulerDiscreteScheduler", True),
        ([], None, "DDIMScheduler", False),
    ):
        pipe = find_model(places / "model").load_without_weights(lora=lora, scheduler=scheduler)
        assert type(pipe.scheduler).__name__ == kind
        with FIFO(pipe) as fifo:
            assert fifo.model.few_steps is few


@pytest.mark.parametrize(
    ("file", "levels", "sigmas"),
    [
        ("lightx2v_rank2.safetensors", 4, None),
        ("mine.safetensors", 4, None),  # by its metadata
        ("FastWan_lora.safetensors", 3, (1.0, 0.757, 0.522)),
    ],
)
def test_of_wan(places, file, levels, sigmas):
    pipe = find_model(places / "wan").load(dtype=torch.float32, lora=str(places / file))
    with FIFO(pipe) as fifo:
        fifo.model.frames = levels * 2
        stream = fifo.stream("a cat", height=32, width=32, seed=0)
        settings = stream.settings
        assert (settings.preset, settings.steps, settings.sigmas) == ("live", levels, sigmas)
        assert (settings.guidance_scale, settings.window) == (1, levels * 2)
        next(stream)
        if sigmas:  # a number of steps counts instead; with another scheduler they are not its any more
            assert fifo.stream("a cat", height=32, width=32, num_inference_steps=2).settings.sigmas is None
            pipe.scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=5.0, stochastic_sampling=True)
            assert fifo.model.few_steps
            assert fifo.stream("a cat", height=32, width=32).settings.sigmas is None
    with FIFO(find_model(places / "wan").load(lora=str(places / "other.safetensors"))) as fifo:
        assert not fifo.model.few_steps


def test_the_users_shift_counts(places):
    pipe = find_model(places / "wan").load_without_weights(lora=str(places / "mine.safetensors"), flow_shift=8.0)
    assert (pipe.scheduler.config.flow_shift, pipe.scheduler.config.solver_order) == (8.0, 1)


def test_the_dry_run_knows_it(places, capsys):
    options = ["--lora", str(places / "AnimateLCM_sd15_t2v_lora.safetensors"), "--device", "cpu", "--dry-run"]
    assert main(["generate", "a cat", "--model", str(places / "model"), *options]) == 0
    found = capsys.readouterr()
    assert "live: " in found.out
    assert "AnimateLCM" in found.err


def test_what_its_file_lacks_is_said_by_whoever_loads_it(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"no")
    assert read_adapter(str(tmp_path / "x.safetensors")).kind is None
