"""T2V-Turbo and T2V-Turbo-v2 in the form of their published files, on a tiny VideoCrafter2 with random weights."""

import math
import shutil

import pytest
import torch
from torch import nn

from fifo_diffusion import FIFO
from fifo_diffusion.cli.main import main
from fifo_diffusion.method import sample_clip
from fifo_diffusion.models.loading.source import find_model
from fifo_diffusion.models.videocrafter.model import load_unet, published_name
from fifo_diffusion.models.videocrafter.scheduler import T2VTurboScheduler
from fifo_diffusion.models.videocrafter.turbo import add_pairs, load_turbo, lora_layers, prepare_turbo
from fifo_diffusion.models.videocrafter.unet import TimestepsAndMotion
from fifo_diffusion.testing import distance, frames, published, tiny_videocrafter
from videocrafter_files import UNET, part, refused

WIDTH, LEVELS, BLOCKS = 256, 2, 1
CALL = {"height": 32, "width": 32, "window": 4, "seed": 0, "num_frames": 2}


# -- the published code, as far as it is needed here (Ji4chenLi/t2v-turbo) -------------------------------------------


def published_layers(levels=LEVELS, blocks=BLOCKS):
    """The linear layers and the convolutions over pictures and time in the order in which the published U-Net makes
    them (`lvdm/modules/networks/openaimodel3d.py`); of the tiny one only the first level has attention."""
    tail = levels - 1

    def residual(place, *, skip):
        names = ["in_layers.2", "emb_layers.1", "out_layers.3", *["skip_connection"] * skip]
        names += [f"temopral_conv.conv{k}.{2 if k == 1 else 3}" for k in (1, 2, 3, 4)]
        return [f"{place}.0.{name}" for name in names]

    def attention(name):
        return [f"{name}.to_{each}" for each in ("q", "k", "v", "out.0")]

    def transformer(place, *, ends=True):
        block = [*attention("attn1"), "ff.net.0.proj", "ff.net.2", *attention("attn2")]
        inner = [f"{place}.transformer_blocks.0.{name}" for name in block]
        return [f"{place}.proj_in", *inner, f"{place}.proj_out"] if ends else inner

    found = ["time_embed.0", "time_embed.2", "fps_embedding.0", "fps_embedding.2", "time_cond_proj"]
    found += ["input_blocks.0.0"]
    number = 1
    for level in range(levels):
        for _ in range(blocks):
            found += residual(f"input_blocks.{number}", skip=False)  # all levels are of one width
            if level != tail:
                found += [*transformer(f"input_blocks.{number}.1"), *transformer(f"input_blocks.{number}.2")]
            number += 1
        if level != tail:
            found += [f"input_blocks.{number}.0.op"]
            number += 1
    found += transformer("init_attn.0", ends=False)
    found += residual("middle_block", skip=False)
    found += [*transformer("middle_block.1"), *transformer("middle_block.2")]
    found += [name.replace(".0.", ".3.", 1) for name in residual("middle_block", skip=False)]
    for number in range(levels * (blocks + 1)):
        level = tail - number // (blocks + 1)
        found += residual(f"output_blocks.{number}", skip=True)
        if level != tail:
            found += [*transformer(f"output_blocks.{number}.1"), *transformer(f"output_blocks.{number}.2")]
        if level and number % (blocks + 1) == blocks:
            found += [f"output_blocks.{number}.{1 if level == tail else 3}.conv"]
    return [*found, "out.2"]


def embedded(scale):
    """`get_w_embedding` of the published pipeline."""
    half = WIDTH // 2
    rates = torch.exp(torch.arange(half) * -(math.log(10000) / (half - 1)))
    angles = torch.tensor([scale * 1000.0])[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)


def sinusoid(values, width):
    """`timestep_embedding` of the published U-Net."""
    rates = torch.exp(-math.log(10000) * torch.arange(width // 2) / (width // 2))
    angles = torch.as_tensor(values, dtype=torch.float32)[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], 1)


def published_embedding(state, timestep, fps, scale, motion=None):
    """What every block of the published U-Net is told: (1, 4 x width)."""

    def layers(name, x):
        x = nn.functional.silu(nn.functional.linear(x, state[f"{name}.0.weight"], state[f"{name}.0.bias"]))
        return nn.functional.linear(x, state[f"{name}.2.weight"], state[f"{name}.2.bias"])

    width = state["time_embed.0.weight"].shape[1]
    told = embedded(scale) @ state["time_cond_proj.weight"].T
    if "combine_proj.weight" in state:
        motion = embedded(motion if timestep >= 700 else 0.0) @ state["motion_cond_proj.weight"].T
        told = torch.cat([told, motion], 1) @ state["combine_proj.weight"].T
    return layers("time_embed", sinusoid([timestep], width) + told) + layers("fps_embedding", sinusoid([fps], width))


def published_clip(predict, start, draws, steps, original):
    """`T2VTurboVC2Pipeline` with `T2VTurboScheduler`: the clean latents of its last step."""
    every = 1000 // original
    steps_of_training = [k * every - 1 for k in range(1, original + 1)]
    timesteps = steps_of_training[:: -(original // steps)][:steps]
    alphas = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0)
    x = start
    for k, t in enumerate(timesteps):
        x0 = (x - (1 - alphas[t]).sqrt() * predict(x, t)) / alphas[t].sqrt()
        kept = 0.25 / ((t / 0.1) ** 2 + 0.25)
        clean = (t / 0.1) / ((t / 0.1) ** 2 + 0.25) ** 0.5 * x0 + kept * x
        if k + 1 < steps:
            x = alphas[timesteps[k + 1]].sqrt() * clean + (1 - alphas[timesteps[k + 1]]).sqrt() * draws[k]
    return timesteps, clean


# -- files -----------------------------------------------------------------------------------------------------------


def pairs_for(shapes, rank=3, seed=0):
    """A random LoRA for layers of these shapes, in their order, as the published `save_lora_weight` saves it."""
    generator, tensors = torch.Generator().manual_seed(seed), []
    for shape in shapes:
        up = torch.randn(shape[0], rank, *[1] * (len(shape) - 2), generator=generator)
        down = torch.randn(rank, *shape[1:], generator=generator)
        tensors += [nn.Parameter(0.05 * up), nn.Parameter(0.05 * down)]
    return tensors


@pytest.fixture(scope="module")
def base():
    """The published names and weights of the tiny U-Net."""
    return {name: tensor.float() for name, tensor in part(published.small_state_dict(), "unet").items()}


@pytest.fixture(scope="module")
def shapes(base):
    added = {"time_cond_proj.weight": (base["time_embed.0.weight"].shape[1], WIDTH)}
    return {name: added.get(name) or base[name].shape for name in (f"{each}.weight" for each in published_layers())}


@pytest.fixture(scope="module")
def folder(videocrafter_folder, shapes, base, tmp_path_factory):
    """VideoCrafter2's checkpoint, and beside it T2V-Turbo's LoRA and both U-Nets of v2."""
    path = tmp_path_factory.mktemp("turbo")
    shutil.copytree(videocrafter_folder, path, dirs_exist_ok=True)
    torch.save(pairs_for(shapes.values()), path / "unet_lora.pt")
    width, generator = base["time_embed.0.weight"].shape[1], torch.Generator().manual_seed(3)
    told = {"time_cond_proj.weight": torch.randn(width, WIDTH, generator=generator) / 16}
    torch.save(base | told, path / "unet_no_mg.pt")
    told |= {"motion_cond_proj.weight": torch.randn(width, WIDTH, generator=generator) / 16}
    told |= {"combine_proj.weight": torch.randn(width, 2 * width, generator=generator) / 6}
    torch.save(base | told, path / "unet_mg.pt")
    return path


def opened(folder, file=None, **arguments):
    lora = [] if file != "unet_lora.pt" else [str(folder / file)]
    name = folder / ("model.ckpt" if file in (None, "unet_lora.pt") else file)
    return FIFO.from_pretrained(name, device="cpu", lora=lora, **arguments)


# -- T2V-Turbo: a LoRA by the order of layers ------------------------------------------------------------------------


def test_the_order_is_that_of_the_published_unet(base, shapes):
    """The tiny one by its constructor's loops; the full one by the recorded names, on the meta device."""
    full = {n.removeprefix(UNET): s for n, s in published.full_shapes("vc2").items() if n.startswith(UNET)}
    recorded = [name for name, shape in full.items() if name.endswith(".weight") and len(shape) in (2, 4, 5)]
    recorded.insert(4, "time_cond_proj.weight")
    for state, expected in ((base, list(shapes)), (full, recorded)):
        empty = {
            name: torch.empty(tensor if isinstance(tensor, list) else tensor.shape, device="meta")
            for name, tensor in state.items()
        }
        pipe = tiny_videocrafter.pipeline()
        pipe.unet = load_unet(empty)
        prepare_turbo(pipe)
        assert [published_name(name, pipe.unet.config) for name in lora_layers(pipe.unet)] == expected
    assert len(recorded) == 575


def test_every_pair_goes_to_its_layer(folder, base, shapes):
    tensors = torch.load(folder / "unet_lora.pt", weights_only=True)
    for scale in (1.0, 0.5):
        lora = f"{folder / 'unet_lora.pt'}:{scale}"
        unet = find_model(folder / "model.ckpt").load(dtype=torch.float32, lora=lora).unet
        ours = {published_name(name, unet.config): weight for name, weight in unet.named_parameters()}
        for name, up, down in zip(shapes, tensors[::2], tensors[1::2], strict=True):
            added = torch.einsum("or,r...->o...", up.flatten(1), down)
            before = torch.zeros(shapes[name]) if name == "time_cond_proj.weight" else base[name].half().float()
            torch.testing.assert_close(ours[name], (before + scale * added).reshape(ours[name].shape))
        untouched = [name for name in base if name not in shapes]
        assert all(torch.equal(ours[n], base[n].half().float().reshape(ours[n].shape)) for n in untouched)


def test_two_pairs_in_each_others_place_are_seen(folder):
    """Where their shapes are the same nothing can refuse them: the videos differ, so the check above has teeth."""
    videos = []
    tensors = torch.load(folder / "unet_lora.pt", weights_only=True)
    layers = published_layers()
    here, there = (2 * layers.index(f"input_blocks.1.1.transformer_blocks.0.attn1.to_{each}") for each in "qv")
    swapped = list(tensors)
    swapped[here : here + 2], swapped[there : there + 2] = tensors[there : there + 2], tensors[here : here + 2]
    for each in (tensors, swapped):
        pipe = find_model(folder / "model.ckpt").load(dtype=torch.float32)
        prepare_turbo(pipe)
        add_pairs(pipe.unet, each)
        with FIFO(pipe) as fifo:
            videos.append(frames(fifo.stream("a ball", **CALL)))
    assert (videos[0] != videos[1]).any()
    wrong = [*tensors[2:], *tensors[:2]]
    with pytest.raises(ValueError, match=r"its tensors for time_embedding\.\S+ \(\d+, \d+\) have shapes"):
        add_pairs(pipe.unet, wrong)


def test_it_is_told_the_scale_and_lives_by_few_steps(folder):
    with opened(folder, "unet_lora.pt") as fifo:
        assert (fifo.model.told_guidance, fifo.model.few_steps) == (True, True)
        stream = fifo.stream("a ball", **CALL)
        assert (stream.settings.preset, stream.settings.frames_per_level) == ("live", 1)
        assert stream.settings.guidance_scale == 7.5
        first = frames(stream)
        passes = fifo.model.passes(fifo.model.condition(["a ball"], height=32, width=32))
        assert len(passes) == 1
        other = frames(fifo.stream("a ball", guidance_scale=12.0, **CALL))
        assert (first != other).any()
    with opened(folder) as fifo:
        assert (fifo.model.told_guidance, fifo.model.few_steps, fifo.model.defaults["eta"]) == (False, False, 1.0)


def test_a_state_belongs_to_it(folder):
    call = {**CALL, "num_partitions": 1, "eta": 0.0}
    del call["num_frames"]
    with opened(folder, "unet_lora.pt") as turbo, opened(folder) as plain:
        states = [fifo.stream("a ball", **call).state() for fifo in (turbo, plain)]
        next(turbo.stream(start=states[0]))
        for fifo, state in ((plain, states[0]), (turbo, states[1])):
            with pytest.raises(ValueError, match="LoRA"):
                fifo.stream(start=state)


def test_the_command_takes_it(folder, tmp_path, capsys):
    options = ["--model", str(folder / "model.ckpt"), "--lora", str(folder / "unet_lora.pt"), "--device", "cpu"]
    size = ["--height", "32", "--width", "32", "--window", "4", "-n", "2", "--seed", "0"]
    assert main(["generate", "a ball", *options, *size, "--dry-run"]) == 0
    output = capsys.readouterr().out
    assert "live: " in output
    assert "cost      8 frame-forwards per frame\n" in output  # no second pass
    assert main(["generate", "a ball", *options, *size, "-o", str(tmp_path / "out/")]) == 0


def test_what_is_not_its_form_is_refused(folder, tmp_path, shapes, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tensors = torch.load(folder / "unet_lora.pt", weights_only=True)
    for content, told in (
        (tensors[:-2], f"it holds {len(tensors) - 2} tensors, and this U-Net takes {len(tensors)}"),
        ({"a": tensors[0]}, "holds no list of tensors"),
        (pairs_for([(2, 2)] * len(shapes)), "its tensors for time_embedding"),
    ):
        torch.save(content, tmp_path / "unet_lora.pt")
        with pytest.raises(ValueError, match=rf"^lora=.*unet_lora.pt:1.*{told}"):
            find_model(folder / "model.ckpt").load(lora="unet_lora.pt")
    (tmp_path / "evil.pt").write_bytes(b"cposix\nsystem\n(S'true'\ntR.")
    with pytest.raises(ValueError, match=r"^lora="):
        find_model(folder / "model.ckpt").load(lora=str(tmp_path / "evil.pt"))
    with pytest.raises(ValueError, match="for VideoCrafter2 alone"):
        find_model("toybox").load_without_weights(lora=str(folder / "unet_lora.pt"))
    with pytest.raises(ValueError, match="for VideoCrafter2 alone"):
        find_model(folder / "unet_mg.pt").load(lora=str(folder / "unet_lora.pt"))
    refused(folder / "unet_lora.pt", "a list of tensors: if it is T2V-Turbo's, give it as lora")


# -- both: what they are told, and their steps -----------------------------------------------------------------------


@pytest.mark.parametrize("file", ["unet_lora.pt", "unet_no_mg.pt", "unet_mg.pt"])
def test_the_embedding_is_the_published_one(folder, file):
    with opened(folder, file) as fifo:
        unet = fifo.pipe.unet
        state = {published_name(name, unet.config): weight for name, weight in unet.named_parameters()}
        guided = unet.config.motion_cond_proj_dim is not None
        assert guided == (file == "unet_mg.pt")
        for timestep, motion in ((999, 0.1), (700, 0.1), (699, 0.1), (259, 0.0)):
            told = {"motion_scale": motion} if guided else {}
            condition = fifo.pipe.told_arguments(16.0, 9.0, **told)["timestep_cond"]
            found = unet.time_embedding(unet.time_proj(torch.tensor([timestep] * 3)), condition)
            expected = published_embedding(state, timestep, 16.0, 9.0, motion)
            assert distance(found[:1], expected) < 1e-4  # angles of thousands, in float32
            for other in ((timestep, 16.0, 9.5, motion), (timestep - 1, 16.0, 9.0, motion)):
                assert distance(found[:1], published_embedding(state, *other)) > 1e-3
        assert TimestepsAndMotion.guided_from == 700


@pytest.mark.parametrize(("file", "original"), [("unet_lora.pt", 50), ("unet_mg.pt", 200)])
@pytest.mark.parametrize("steps", [4, 8])
def test_a_clip_is_the_published_one(folder, file, original, steps):
    """Its timesteps, and with them its clean latents."""
    with opened(folder, file) as fifo:
        model = fifo.model
        condition = model.condition(["a ball"], height=32, width=32)
        told = fifo.pipe.told_arguments(None, 7.5)
        text = fifo.pipe.encode_text(["a ball"])
        generator = torch.Generator().manual_seed(1)
        start, *draws = (torch.randn(1, 4, 3, 4, 4, generator=generator) for _ in range(steps))

        @torch.no_grad()
        def published(x, t):
            return fifo.pipe.unet(x.float(), t, text, **told).sample

        timesteps, expected = published_clip(published, start, draws, steps, original)
        levels = model.levels(steps)
        assert levels.timestep.flip(0).tolist() == timesteps
        scheduler = fifo.pipe.scheduler
        scheduler.set_timesteps(steps)
        assert scheduler.timesteps.tolist() == timesteps

        def noise(frame, level, use):
            return (start if level == steps else draws[steps - 1 - level])[:, :, frame]

        *_, found = sample_clip(levels, lambda x, t, _: model.predict(x, t, condition), noise, range(3), start)
        assert distance(found, expected) < 1e-4
        shifted = [draws[-1], *draws[:-1]]
        assert distance(found, published_clip(published, start, shifted, steps, original)[1]) > 1e-2


def test_the_timesteps_are_the_published_ones():
    """As the published scheduler's comment has them: every k-th of the original ones, from the noisiest on."""
    scheduler = T2VTurboScheduler()
    for steps, expected in ((4, [999, 759, 519, 279]), (8, [999, 879, 759, 639, 519, 399, 279, 159])):
        scheduler.set_timesteps(steps)
        assert scheduler.timesteps.tolist() == expected
    scheduler.set_timesteps(4, original_inference_steps=200)
    assert scheduler.timesteps.tolist() == [999, 749, 499, 249]
    scheduler.set_timesteps(timesteps=[999, 500])
    assert scheduler.timesteps.tolist() == [999, 500]


# -- T2V-Turbo-v2: a U-Net alone -------------------------------------------------------------------------------------


def test_a_unet_alone_finds_the_rest_beside_it(folder, tmp_path, monkeypatch):
    with opened(folder, "unet_mg.pt") as fifo:
        assert (fifo.model.told_guidance, fifo.model.few_steps, fifo.model.family) == (True, True, "VideoCrafter2")
        assert fifo.stream("a ball", **CALL).settings.preset == "live"
        videos = [frames(fifo.stream("a ball", motion_scale=scale, **CALL)) for scale in (0.0, 0.1)]
        assert (videos[0] != videos[1]).any()
        fifo.pipe.save_pretrained(tmp_path / "saved")
    with FIFO.from_pretrained(tmp_path / "saved", device="cpu") as again:
        assert (again.pipe.scheduler.config.original_inference_steps, again.model.few_steps) == (200, True)
        assert (frames(again.stream("a ball", motion_scale=0.1, **CALL)) == videos[1]).all()
    with opened(folder, "unet_no_mg.pt") as fifo, pytest.raises(ValueError, match="no scale of motion guidance"):
        fifo.stream("a ball", motion_scale=0.1, **CALL)
    shutil.copy(folder / "unet_mg.pt", tmp_path / "unet_mg.pt")
    monkeypatch.setattr("fifo_diffusion.models.videocrafter.turbo.fetch", lambda *_: folder / "model.ckpt")
    assert find_model(tmp_path / "unet_mg.pt").load().unet.config.motion_cond_proj_dim == WIDTH

    def offline(*_):
        raise OSError("no connection")

    monkeypatch.setattr("fifo_diffusion.models.videocrafter.turbo.fetch", offline)
    refused(tmp_path / "unet_mg.pt", "is T2V-Turbo-v2's U-Net alone; put VideoCrafter2's model.ckpt beside it")


def test_full_size_names(folder, monkeypatch):
    """Every published name at its published size, on the meta device."""
    full = {n.removeprefix(UNET): t for n, t in published.meta("vc2").items() if n.startswith(UNET)}
    full |= {"time_cond_proj.weight": torch.empty(320, 256, device="meta")}
    full |= {"motion_cond_proj.weight": torch.empty(320, 256, device="meta")}
    full |= {"combine_proj.weight": torch.empty(320, 640, device="meta")}
    monkeypatch.setattr("fifo_diffusion.models.videocrafter.turbo.read_weights", lambda _: published.meta("vc2"))
    pipe = load_turbo(folder / "unet_mg.pt", full, tokenizer=None)
    config = pipe.unet.config
    assert (config.time_cond_proj_dim, config.motion_cond_proj_dim, config.sample_size) == (256, 256, (40, 64))
    assert sum(p.numel() for p in pipe.unet.parameters()) == sum(t.numel() for t in full.values())
    with pytest.raises(ValueError, match=r"1 missing tensor\(s\): combine_proj.weight"):
        load_turbo(folder / "unet_mg.pt", {k: v for k, v in full.items() if k != "combine_proj.weight"}, tokenizer=None)
