"""GPU memory of each model at the paper's setting, computed: nothing here runs on a GPU.

    python benchmarks/model_memory.py

Every part is built at its published size on PyTorch's meta device, where tensors have sizes and no contents. One pass
is made there, and what is alive at each moment is added up: weights and activations in half precision (2 bytes), text
embeddings and latents. Attention is counted as the fused kernels that half precision uses on GPUs, which keep no
matrix of scores. Not counted: what kernels need to work (cuDNN's workspaces), PyTorch's and CUDA's own memory and gaps
between tensors. So this is a lower bound. For models that decode frame by frame the arithmetic is counted as well: how
much of an iteration is the decoding of its frame, which is the most that could be won by hiding it. Writes
docs/results/model_memory.json.
"""

import weakref
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import common
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from fifo_diffusion.method import QueueLayout
from fifo_diffusion.testing import published

GB = 1e9
META = torch.device("meta")


class Alive(TorchDispatchMode):
    """Adds up the storages that are alive, but for the module's own; `most` is the highest sum."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.now = self.most = 0
        own = [*module.parameters(), *module.buffers()]
        self._seen = {tensor.untyped_storage()._cdata for tensor in own}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, list | tuple) else (result,):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage())
        return result

    def _add(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return
        self._seen.add(key)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size


@contextmanager
def fused_attention():
    """Scaled dot product attention that allocates its result only."""
    stock = nn.functional.scaled_dot_product_attention
    nn.functional.scaled_dot_product_attention = lambda q, k, v, *_, **__: q.new_empty((*q.shape[:-1], v.shape[-1]))
    try:
        yield
    finally:
        nn.functional.scaled_dot_product_attention = stock


def activations(module: nn.Module, work: Callable[[], Any]) -> float:
    """The most GB alive during `work`, inputs made inside it included, weights not."""
    with fused_attention(), torch.no_grad(), Alive(module) as alive:
        work()
    return alive.most / GB


def teraflops(work: Callable[[], Any]) -> float:
    """Floating point operations (an addition or a multiplication each), in 10^12."""
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        work()
    return counted.get_total_flops() / 1e12


def weights(*modules: nn.Module) -> float:
    """GB of all parameters in half precision."""
    return sum(p.numel() for module in modules for p in module.parameters()) * 2 / GB


def half(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float16, device=META)


# ---------------------------------------------------------------------- the models


def clip_text(layers: int) -> nn.Module:
    from transformers import CLIPTextConfig, CLIPTextModel

    sizes = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16}
    return CLIPTextModel(CLIPTextConfig(**sizes, num_hidden_layers=layers))


def t5_xxl() -> nn.Module:
    from transformers import T5Config, T5EncoderModel

    sizes = {"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64}
    return T5EncoderModel(T5Config(**sizes, feed_forward_proj="gated-gelu"))


def image_autoencoder() -> nn.Module:
    return AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        layers_per_block=2,
    )


def unet_pass(unet: nn.Module, frames: int, height: int, width: int, tokens: int = 77) -> Callable[[int], None]:
    """A pass of so many rows (windows, doubled by guidance), as the hooks have it: text for every frame."""

    def run(rows: int) -> None:
        arguments = {"timestep_cond": torch.ones(1, device=META)} if hasattr(unet, "fps_embedding") else {}
        unet(
            half(rows, 4, frames, height, width),
            torch.ones(rows, device=META),
            encoder_hidden_states=half(rows, tokens, 1024),
            **arguments,
        )

    return run


def latte_pass(transformer: nn.Module, frames: int, tokens: int = 60) -> Callable[[int], None]:
    from fifo_diffusion.models.latte.hooks import LatteHooks

    hooks = LatteHooks(transformer)

    def run(rows: int) -> None:
        latents, text = half(rows * frames, 4, 1, 64, 64), half(rows * frames, tokens, 4096)
        with hooks.active(frames):
            transformer(latents, torch.ones(rows * frames, device=META), encoder_hidden_states=text)

    return run


def videocrafter(variant: str) -> nn.Module:
    from fifo_diffusion.models.videocrafter.model import UNET_PREFIX, load_unet

    state = published.meta(variant)
    names = {name: t for name, t in state.items() if name.startswith(UNET_PREFIX)}
    return load_unet({name.removeprefix(UNET_PREFIX): tensor for name, tensor in names.items()})


def zeroscope() -> nn.Module:
    from diffusers import UNet3DConditionModel

    return UNet3DConditionModel(sample_size=32, cross_attention_dim=1024, attention_head_dim=64)


def open_sora(frames: int) -> nn.Module:
    from fifo_diffusion.models.opensora.transformer import OpenSoraPlanTransformer

    return OpenSoraPlanTransformer(video_length=frames)


def latte() -> nn.Module:
    from diffusers import LatteTransformer3DModel

    sizes = {"in_channels": 4, "out_channels": 8, "num_layers": 28, "attention_head_dim": 72, "patch_size": 2}
    sizes |= {"cross_attention_dim": 1152, "caption_channels": 4096, "attention_bias": True, "norm_eps": 1e-6}
    kinds = {"activation_fn": "gelu-approximate", "norm_type": "ada_norm_single", "norm_elementwise_affine": False}
    return LatteTransformer3DModel(**sizes, **kinds, sample_size=64, num_embeds_ada_norm=1000, video_length=16)


def frame_decoding(vae: nn.Module, height: int, width: int) -> float:
    return activations(vae, lambda: vae.decode(half(1, 4, height, width)))


def piece_decoding(vae: nn.Module) -> float:
    """A piece of 17 latents in tiles of 32 x 32, and the frames of two pieces."""
    vae.enable_tiling()
    kept = 2 * 3 * 65 * 512 * 512 * 2 / GB
    return activations(vae, lambda: vae.decode(half(1, 4, 17, 64, 64))) + kept


def measure(name: str, layout: QueueLayout, latent: tuple[int, int], build: Callable[[], Any]) -> dict[str, Any]:
    """All numbers of one model, in GB."""
    with META:
        denoiser, run, text, vae, decode = build()
    for module in (denoiser, text, vae):
        module.half().eval()
    windows = len(layout.windows)
    found = {
        "model": name,
        "frames": layout.frames,
        "partitions": layout.partitions,
        "size": [8 * side for side in latent],
        "denoiser": weights(denoiser),
        "autoencoder": weights(vae),
        "text_encoder": weights(text),
        "queue": layout.size * 4 * latent[0] * latent[1] * 4 / GB,
        "one_window": activations(denoiser, lambda: run(2)),
        "windows": windows,
        "all_windows": activations(denoiser, lambda: run(2 * windows)),
        "decoding": decode(vae),
    }
    resident = found["denoiser"] + found["autoencoder"] + found["queue"]
    most = max(found["one_window"], found["decoding"])
    found |= {
        "total_one_window": resident + found["text_encoder"] + most,
        "total_text_offloaded": resident + max(most, found["text_encoder"]),
        "total_all_windows": resident + found["text_encoder"] + max(found["all_windows"], found["decoding"]),
    }
    if isinstance(vae, AutoencoderKL):
        window, frame = teraflops(lambda: run(2)), teraflops(lambda: vae.decode(half(1, 4, *latent)))
        found |= {"teraflops_window": window, "teraflops_decoding": frame}
        found["decoding_share"] = round(frame / (windows * window), 4)
    found = {
        key: round(value, 2) if isinstance(value, float) and key != "decoding_share" else value
        for key, value in found.items()
    }
    print(found)
    return found


def unet_model(make: Callable[[], nn.Module], frames: int, latent: tuple[int, int]) -> Callable[[], Any]:
    def build() -> Any:
        unet = make()
        return (
            unet,
            unet_pass(unet, frames, *latent),
            clip_text(23),
            image_autoencoder(),
            lambda vae: frame_decoding(vae, *latent),
        )

    return build


def transformer_model(make: Callable[[], nn.Module], frames: int, video: bool) -> Callable[[], Any]:
    def build() -> Any:
        from fifo_diffusion.models.opensora.vae import CausalVideoAutoencoder

        transformer = make()
        vae = CausalVideoAutoencoder() if video else image_autoencoder()
        decode = piece_decoding if video else (lambda vae: frame_decoding(vae, 64, 64))
        return transformer, latte_pass(transformer, frames), t5_xxl(), vae, decode

    return build


def main() -> None:
    rows = [
        ("VideoCrafter2", 16, 4, (40, 64), unet_model(lambda: videocrafter("vc2"), 16, (40, 64))),
        ("VideoCrafter1 512", 16, 4, (40, 64), unet_model(lambda: videocrafter("vc1_512"), 16, (40, 64))),
        ("VideoCrafter1 1024", 16, 4, (72, 128), unet_model(lambda: videocrafter("vc1_1024"), 16, (72, 128))),
        ("zeroscope_v2_576w", 24, 4, (40, 72), unet_model(zeroscope, 24, (40, 72))),
        ("Open-Sora Plan v1.1.0, 65 frames", 17, 8, (64, 64), transformer_model(lambda: open_sora(17), 17, True)),
        ("Open-Sora Plan v1.1.0, 221 frames", 56, 4, (64, 64), transformer_model(lambda: open_sora(56), 56, True)),
        ("Latte-1", 16, 4, (64, 64), transformer_model(latte, 16, False)),
    ]
    found = [measure(name, QueueLayout(f, n), latent, build) for name, f, n, latent, build in rows]
    common.write("model_memory", {"unit": "GB, computed on the meta device", "models": found})


if __name__ == "__main__":
    main()
