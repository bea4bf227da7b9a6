"""compat="published" from end to end: the recorded runs of the published code through `FIFO.stream`, each stopped,
saved and continued once. Only the opening clip and the texts are put in; both were recorded too."""

import pytest
import torch

from fifo_diffusion import FIFO
from fifo_diffusion.models.latte.model import LatteCondition
from fifo_diffusion.models.shared.conditions import TextCondition
from fifo_diffusion.models.unet3d.pipeline import VideoCrafterPipeline
from fifo_diffusion.models.videocrafter.model import load_unet
from fifo_diffusion.models.videocrafter.scheduler import SignalScaleDDIMScheduler
from fifo_diffusion.testing import distance, golden, tiny
from fifo_diffusion.testing.tiny_opensora import pipeline as opensora
from recorded_runs import OpenSoraNoise, VideoCrafterNoise, recorded_transformer


def videocrafter(tensors, meta):
    """With the recorded U-Net, and a scheduler that rescales the signal: of the clip, but not of the queue."""
    unet = load_unet(golden.load(meta["unet"].removesuffix(".safetensors"))[0])
    told = float(meta["fps"]) if hasattr(unet, "fps_embedding") else None
    scheduler = SignalScaleDDIMScheduler(signal_scale_end=0.7)
    pipe = VideoCrafterPipeline(**tiny.components() | {"unet": unet, "scheduler": scheduler}, fps_condition=told)
    text = torch.stack([tensors["uncond"], tensors["cond"]])
    return pipe, TextCondition(text, meta["cfg_scale"], pipe.told_arguments(None)), VideoCrafterNoise, 16


def opensora_plan(tensors, meta):
    pipe = opensora()
    pipe.register_modules(transformer=recorded_transformer(meta["f"]))
    text = torch.stack([tensors["uncond"], tensors["cond"]])

    def noise(tensors, layout):
        return OpenSoraNoise(tensors, layout, meta["step_noise_draws_per_iteration"])

    return pipe, LatteCondition(text, meta["cfg_scale"], {"return_dict": False}), noise, 64


FAMILIES = {"fifo": videocrafter, "latte": opensora_plan}


RUNS = ("fifo_f4n2_plain", "fifo_f4n2_ld_eta1", "fifo_f8n2_plain_vc1", "latte_fifo_f5n2_plain", "latte_fifo_f5n2_ld")


@pytest.mark.parametrize("name", RUNS)
def test_a_recorded_run_stopped_and_continued(name, monkeypatch, tmp_path):
    tensors, meta = golden.load(name)
    pipe, condition, recorded, size = FAMILIES[name.split("_")[0]](tensors, meta)
    sampled = []

    def sample_clip(levels, *_):
        sampled.append(levels)
        yield tensors["video"]

    monkeypatch.setattr("fifo_diffusion.streaming.opening.sample_clip", sample_clip)
    with FIFO(pipe) as fifo:
        monkeypatch.setattr(fifo.model, "condition", lambda *_, **__: condition)
        layout = {"window": meta["f"], "num_partitions": meta["n"], "lookahead": meta["lookahead"]}
        noise = recorded(tensors, fifo.layout(**layout))
        arguments = layout | {"eta": meta.get("eta"), "height": size, "width": size, "compat": "published"}
        frames = fifo.model.timing.frames
        stream = fifo.stream("a cat", num_frames=frames(2), noise=noise, **arguments)
        first = stream.collect("latent").frames
        stream.state().save(tmp_path / "state")
        stream = fifo.stream(start=tmp_path / "state", num_frames=frames(meta["new_frames"]), noise=noise)
        rest, queue = stream.collect("latent").frames, stream.state().queue
        if name.startswith("fifo"):  # the signal is rescaled in the clip, but not in the queue
            alphas = [levels.alpha[-1] for levels in (*sampled, fifo.model.levels(8, published=True))]
            assert float(alphas[0] / alphas[1]) == pytest.approx(0.7)
    found, expected = torch.cat([first, rest], 2), tensors.get("dequeued", tensors.get("handed_out"))
    assert distance(found, expected[:, :, -meta["new_frames"] :]) < 1e-4
    if "final_queue" in tensors:
        assert distance(queue, tensors["final_queue"]) < 1e-4


@pytest.mark.parametrize("lookahead", [False, True])
def test_the_late_queue_with_two_frames_per_level(lookahead, caplog):
    """Without a context there is nothing to cut off. Each latent comes once. With lookahead and even f it is said that
    the published loop does something else."""
    layout = {"window": 4, "num_partitions": 2, "lookahead": lookahead, "frames_per_level": 2}
    with FIFO(opensora()) as fifo:
        call = {"seed": 1, "height": 32, "width": 32, "compat": "published"} | layout
        found = fifo("a cat", num_frames=17, output_type="latent", **call).frames
    assert found.shape[2] == 5
    assert len({latent.numpy().tobytes() for latent in found.unbind(2)}) == 5
    assert found.isfinite().all()
    assert ("is not the published video here" in caplog.text) == lookahead
