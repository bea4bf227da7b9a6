"""Class-conditional Latte (UCF-101 and the like), as in the class `Latte` of the public repository Vchitect/Latte.

Attributes of the modules are the published names, so that a published state dict fits as it is. It is another network
than diffusers' `LatteTransformer3DModel`: every block has a modulation of its own, and a class takes the place of text.

Tensor names: B rows, F frames, P patches, D width, N tokens that see each other.
"""

import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as functional
from diffusers import AutoencoderKL, ConfigMixin, DDPMScheduler, DiffusionPipeline, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.utils.torch_utils import randn_tensor
from diffusers.video_processor import VideoProcessor
from torch import Tensor, nn

from fifo_diffusion.decoding.frames import pixels_per_latent
from fifo_diffusion.models.loading.parts import first_line, load_from, out_of_memory
from fifo_diffusion.models.shared.published_weights import assign, refuse, rename
from fifo_diffusion.models.unet3d.pipeline import TextToVideoOutput

AUTOENCODER = "stabilityai/sd-vae-ft-ema"
HEADS = {1152: 16, 1024: 16, 768: 12, 384: 6}
"""Heads of the published sizes (XL, L, B, S), by their width; no tensor tells them."""


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., N, D): the N tokens see each other."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).transpose(-4, -2).unbind(-3)
        flat = (part.flatten(0, -4) for part in (q, k, v))
        return self.proj(functional.scaled_dot_product_attention(*flat).transpose(1, 2).reshape(x.shape))


class Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(x), approximate="tanh"))


class Block(nn.Module):
    """Attention and MLP, shifted, scaled and gated by the condition of each token."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn, self.mlp = Attention(width, heads), Mlp(width)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Both (..., N, D); the condition may have ones for N or what is before it."""
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = self.adaLN_modulation(condition).chunk(6, -1)
        x = x + gate * self.attn(_normed(x) * (1 + scale) + shift)
        return x + gate_mlp * self.mlp(_normed(x) * (1 + scale_mlp) + shift_mlp)


def _normed(x: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], eps=1e-6)


class ClassLatteTransformer(ModelMixin, ConfigMixin):
    """Takes one timestep and one class for every frame as it is.

    Args:
        hidden_size, depth, num_heads, patch_size: of the blocks, which look in turns at a frame and through time.
        in_channels, out_channels: of latents, and of the prediction (noise, then a variance that nobody reads).
        input_size: side of the latents; positions are stored for this one only.
        num_frames: places in time.
        num_classes: classes; one more stands for none.
    """

    @register_to_config
    def __init__(
        self,
        hidden_size: int = 1152,
        depth: int = 28,
        num_heads: int = 16,
        patch_size: int = 2,
        in_channels: int = 4,
        out_channels: int = 8,
        input_size: int = 32,
        num_frames: int = 16,
        num_classes: int = 101,
    ) -> None:
        super().__init__()
        width, patches = hidden_size, (input_size // patch_size) ** 2
        self.x_embedder = nn.Module()
        self.x_embedder.proj = nn.Conv2d(in_channels, width, patch_size, patch_size)
        self.t_embedder, self.y_embedder, self.final_layer = nn.Module(), nn.Module(), nn.Module()
        self.t_embedder.mlp = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        self.y_embedder.embedding_table = nn.Embedding(num_classes + 1, width)
        self.pos_embed = nn.Parameter(torch.zeros(1, patches, width), requires_grad=False)
        self.temp_embed = nn.Parameter(torch.zeros(1, num_frames, width), requires_grad=False)
        self.blocks = nn.ModuleList(Block(width, num_heads) for _ in range(depth))
        self.final_layer.linear = nn.Linear(width, patch_size**2 * out_channels)
        self.final_layer.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, latents_BCFHW: Tensor, timestep: Tensor, classes: Tensor) -> Tensor:
        """The prediction, (B, out_channels, F, H, W).

        Args:
            timestep: (B,), or (B, F).
            classes: embeddings (B, D), or (B, F, D).
        """
        b, _, f, h, w = latents_BCFHW.shape
        size, dtype = self.config.patch_size, self.dtype
        x = self.x_embedder.proj(latents_BCFHW.transpose(1, 2).flatten(0, 1)).flatten(2).transpose(1, 2)
        x_BFPD = (x + self.pos_embed).unflatten(0, (b, f))
        sinusoid = get_timestep_embedding(timestep.flatten(), 256, flip_sin_to_cos=True, downscale_freq_shift=0)
        time = self.t_embedder.mlp(sinusoid.to(dtype)).unflatten(0, timestep.shape)
        condition = (time if time.dim() == 3 else time[:, None]) + (classes if classes.dim() == 3 else classes[:, None])
        condition = condition.expand(-1, f, -1)[:, :, None]  # (B, F, 1, D)
        for index in range(0, len(self.blocks), 2):
            x_BFPD = self.blocks[index](x_BFPD, condition)
            x_BPFD = x_BFPD.transpose(1, 2)
            x_BPFD = x_BPFD + self.temp_embed[:, None, :f] if index == 0 else x_BPFD
            x_BFPD = self.blocks[index + 1](x_BPFD, condition.transpose(1, 2)).transpose(1, 2)
        shift, scale = self.final_layer.adaLN_modulation(condition).chunk(2, -1)
        x = self.final_layer.linear(_normed(x_BFPD) * (1 + scale) + shift)
        x = x.unflatten(-1, (size, size, -1)).unflatten(2, (h // size, w // size))  # (B, F, H', W', p, q, C)
        return x.permute(0, 6, 1, 2, 4, 3, 5).reshape(b, -1, f, h, w)


class ClassLattePipeline(DiffusionPipeline):
    """A class to a short clip. A prompt is the number of a class, as a text or a number.

    Args:
        vae: Stable Diffusion's autoencoder.
        transformer, scheduler: see `load_class_latte`.
    """

    model_cpu_offload_seq = "transformer->vae"

    def __init__(self, vae: AutoencoderKL, transformer: ClassLatteTransformer, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(vae=vae, transformer=transformer, scheduler=scheduler)
        self.vae_scale_factor = pixels_per_latent(vae)
        self.video_processor = VideoProcessor(do_resize=False, vae_scale_factor=self.vae_scale_factor)

    def embed(self, prompts: list[str | int], guided: bool, negatives: list[str | int] | None = None) -> Tensor:
        """Embeddings (G, B, D) of classes: with guidance, first those of the negative class (none), then theirs.

        Raises:
            ValueError: no number of a class.
        """
        none = self.transformer.config.num_classes
        negative = [none if text == "" else self._class_of(text) for text in negatives or [""] * len(prompts)]
        rows = [self._class_of(text) for text in prompts]
        numbers = torch.tensor([negative, rows] if guided else [rows], device=self._execution_device)
        return self.transformer.y_embedder.embedding_table(numbers)

    def _class_of(self, text: str | int) -> int:
        most = self.transformer.config.num_classes - 1
        if not str(text).strip().isdecimal() or int(text) > most:
            raise ValueError(f"prompt {text!r} is not a class of this model: give a number from 0 to {most}")
        return int(text)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | int | list[str | int],
        height: int | None = None,
        width: int | None = None,
        num_frames: int = 16,
        num_inference_steps: int = 250,
        guidance_scale: float = 7.0,
        negative_prompt: str | list[str] | None = None,
        generator: torch.Generator | None = None,
        latents: Tensor | None = None,
        output_type: str = "np",
        return_dict: bool = True,
    ) -> TextToVideoOutput | tuple[Any]:
        """One clip per prompt.

        Args:
            prompt: number of a class, or several.
            height, width: only to be explicit: the model makes one size.
            negative_prompt: number of a class to guide away from; none unless said.
            output_type: "np", "pt", "pil" or "latent".

        Raises:
            ValueError: another size, or no number of a class.
        """
        side = self.transformer.config.input_size * self.vae_scale_factor
        if (height or side, width or side) != (side, side):
            raise ValueError(f"height {height} and width {width}: this model makes {side} and {side} only")
        prompts = [prompt] if isinstance(prompt, str | int) else list(prompt)
        negatives = [negative_prompt] * len(prompts) if isinstance(negative_prompt, str) else negative_prompt
        config, guided = self.transformer.config, guidance_scale > 1
        classes = self.embed(prompts, guided, negatives).flatten(0, 1)
        shape = (len(prompts), config.in_channels, num_frames, config.input_size, config.input_size)
        if latents is None:
            latents = randn_tensor(shape, generator=generator, device=self._execution_device, dtype=classes.dtype)
        self.scheduler.set_timesteps(num_inference_steps, device=self._execution_device)
        latents = latents * self.scheduler.init_noise_sigma
        for t in self.progress_bar(self.scheduler.timesteps):
            inputs = torch.cat([latents] * 2) if guided else latents
            prediction = self.transformer(inputs, t.expand(len(inputs)), classes)[:, : config.in_channels]
            if guided:
                without, with_class = prediction.chunk(2)
                prediction = without + guidance_scale * (with_class - without)
            latents = self.scheduler.step(prediction, t, latents).prev_sample
        frames = latents if output_type == "latent" else self.decode(latents, output_type)
        self.maybe_free_model_hooks()
        return TextToVideoOutput(frames=frames) if return_dict else (frames,)

    def decode(self, latents_BCFHW: Tensor, output_type: str) -> Any:
        """Latents to frames in the wanted form, frame by frame."""
        z = (latents_BCFHW / self.vae.config.scaling_factor).to(self.vae.dtype)
        video = torch.stack([self.vae.decode(frame, return_dict=False)[0].float() for frame in z.unbind(2)], 2)
        return self.video_processor.postprocess_video(video, output_type=output_type)


def load_class_latte(
    path: Path,
    tensors: dict[str, Tensor],
    *,
    dtype: torch.dtype | None = None,
    hub: dict[str, Any] | None = None,
    heads: int | None = None,
    **parts: Any,
) -> ClassLattePipeline:
    """The pipeline of published weights. Sizes are read from the shapes.

    Args:
        path: of the file; a folder `vae` beside it is the autoencoder, else stabilityai/sd-vae-ft-ema.
        tensors: published names to tensors.
        heads: of attention; None: those of the published sizes.
        **parts: vae or scheduler to use instead (DDPM without clipping, trailing timesteps).

    Raises:
        ValueError: names that are missing or unknown, shapes that do not fit; no autoencoder. One line.
        TypeError: an unknown part.
    """
    for unknown in sorted(parts.keys() - {"vae", "scheduler"}):
        raise TypeError(f"a class-conditional Latte is not loaded with an argument {unknown!r}")
    what = "class-conditional Latte"
    try:
        transformer = _transformer(what, tensors, heads, dtype)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    except (RuntimeError, IndexError, KeyError, TypeError, ArithmeticError) as error:  # shapes that fit nothing
        if out_of_memory(error):
            raise
        raise ValueError(f"{path}: its tensors make no {what} ({first_line(error)})") from error
    if "vae" not in parts:
        beside = path.parent / "vae"
        source = str(beside) if beside.is_dir() else AUTOENCODER
        try:
            parts["vae"] = load_from(AutoencoderKL, source, dtype, hub or {})
        except (OSError, ValueError) as error:
            raise ValueError(
                f"the autoencoder is not part of Latte's file, and {source} cannot be loaded ({first_line(error)}): "
                f"where there is a connection run `hf download {AUTOENCODER} --local-dir {beside}`"
            ) from error
    scheduler = parts.get("scheduler") or DDPMScheduler(clip_sample=False, timestep_spacing="trailing")
    return ClassLattePipeline(parts["vae"], transformer, scheduler)


def _transformer(
    what: str, tensors: dict[str, Tensor], heads: int | None, dtype: torch.dtype | None
) -> ClassLatteTransformer:
    needed = ("x_embedder.proj.weight", "pos_embed", "final_layer.linear.weight")
    refuse(what, "missing", set(needed) - tensors.keys())
    width, channels, patch, _ = tensors["x_embedder.proj.weight"].shape
    if heads is None and width not in HEADS:
        raise ValueError(f"{what}: width {width} is none of the published sizes: give heads=")
    with torch.device("meta"):
        transformer = ClassLatteTransformer(
            hidden_size=width,
            depth=len({name.split(".")[1] for name in tensors if name.startswith("blocks.")}),
            num_heads=heads or HEADS[width],
            patch_size=patch,
            in_channels=channels,
            out_channels=tensors["final_layer.linear.weight"].shape[0] // patch**2,
            input_size=math.isqrt(tensors["pos_embed"].shape[1]) * patch,
            num_frames=tensors["temp_embed"].shape[1],
            num_classes=tensors["y_embedder.embedding_table.weight"].shape[0] - 1,
        )
    return assign(transformer, rename(what, transformer, tensors, lambda name: name), dtype)
