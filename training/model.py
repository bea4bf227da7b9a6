"""The networks (stock diffusers classes), a forward with one noise level per frame, and speed-ups for training.

Legend: B batch, C channels, F frames, H and W latent height and width, L tokens, D width of a token.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet3DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import AttnProcessor
from diffusers.models.resnet import ResnetBlock2D, TemporalConvLayer
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from latents import CHANNELS
from text import WIDTH
from torch.nn import functional

from fifo_diffusion.execution.precision import computes

# Linear betas end at alpha_bar = 4e-5: a flat background cannot leak through the noisiest level, and there is no
# division by zero as with zero terminal signal-to-noise ratio.
SCHEDULE = {"num_train_timesteps": 1000, "beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02,
            "prediction_type": "v_prediction", "clip_sample": False, "set_alpha_to_one": True,
            "timestep_spacing": "trailing"}  # fmt: skip


def alphas() -> torch.Tensor:
    """alpha_bar of the 1000 levels, level 0 being almost clean."""
    return DDIMScheduler(**SCHEDULE).alphas_cumprod


def mixed_precision(device: str, wanted: bool = True) -> torch.autocast:
    """A context that computes in bfloat16, but on a processor for which float32 is faster."""
    return torch.autocast(device, torch.bfloat16, enabled=wanted and (device != "cpu" or computes(torch.bfloat16)))


def make_unet() -> UNet3DConditionModel:
    """7.5 M parameters; one pass over 16 frames takes about 0.05 s on two CPU threads."""
    unet = UNet3DConditionModel(
        sample_size=8, in_channels=CHANNELS, out_channels=CHANNELS, down_block_types=("CrossAttnDownBlock3D",) * 2,
        up_block_types=("CrossAttnUpBlock3D",) * 2, block_out_channels=(64, 128), layers_per_block=1,
        attention_head_dim=16, norm_num_groups=16, cross_attention_dim=WIDTH)  # fmt: skip
    for module in unet.modules():  # temporal transformers start as the identity, as temporal convolutions do
        if isinstance(module, TransformerTemporalModel):
            torch.nn.init.zeros_(module.proj_out.weight)
            torch.nn.init.zeros_(module.proj_out.bias)
    return unet


def make_vae() -> AutoencoderKL:
    """3.1 M parameters, factor 8 (four blocks)."""
    return AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=CHANNELS, block_out_channels=(24, 48, 96, 128),
        layers_per_block=1, norm_num_groups=8, down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, sample_size=64, mid_block_add_attention=False,
        scaling_factor=1.0)  # fmt: skip


def _temporal_convolution(self: TemporalConvLayer, hidden: torch.Tensor, num_frames: int = 1) -> torch.Tensor:
    """TemporalConvLayer whose (3, 1, 1) Conv3d runs as a (3, 1) Conv2d over (frames, pixels); no dropout."""
    bf, c, h, w = hidden.shape
    x = hidden.permute(0, 2, 3, 1).reshape(bf // num_frames, num_frames, h * w, c).permute(0, 3, 1, 2)
    y = x
    for norm, *_, conv in (self.conv1, self.conv2, self.conv3, self.conv4):
        y = functional.silu(functional.group_norm(y, norm.num_groups, norm.weight, norm.bias, norm.eps))
        y = functional.conv2d(y, conv.weight.squeeze(-1), conv.bias, padding=(1, 0))
    return (x + y).permute(0, 2, 3, 1).reshape(bf, h, w, c).permute(0, 3, 1, 2)


def _compiled_for_training(forward: Callable) -> Callable:
    """The forward through torch.compile while gradients are wanted, as it is otherwise (no second compilation)."""
    compiled = torch.compile(forward, dynamic=False)

    @functools.wraps(forward)
    def call(self: torch.nn.Module, *args, **kwargs):
        return (compiled if torch.is_grad_enabled() else forward)(self, *args, **kwargs)

    return call


def speed_up(unet: UNet3DConditionModel, compile_blocks: bool = False) -> UNet3DConditionModel:
    """Same results, about twice as fast to train on a CPU: plain attention (the CPU backward of the fused one is
    slow for many short sequences), channels_last convolutions, temporal convolutions in two dimensions.

    `compile_blocks` compiles three kinds of blocks (not the whole network: that takes far too long) for another
    third; the first step then takes two minutes.
    """
    convolution, blocks = _temporal_convolution, {}
    if compile_blocks:
        torch._dynamo.config.cache_size_limit = 64  # one graph per shape
        convolution = _compiled_for_training(convolution)
        blocks = {kind: _compiled_for_training(kind.forward) for kind in (BasicTransformerBlock, ResnetBlock2D)}
    for module in unet.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.to(memory_format=torch.channels_last)
        if isinstance(module, TemporalConvLayer):
            module.forward = convolution.__get__(module)
        elif type(module) in blocks:
            module.forward = blocks[type(module)].__get__(module)
    unet.set_attn_processor(AttnProcessor())
    return unet


def predict(
    unet: UNet3DConditionModel, latents_BCFHW: torch.Tensor, timestep: torch.Tensor, text_BLD: torch.Tensor
) -> torch.Tensor:
    """The stock forward of the U-Net, for timesteps (B,) and also for one timestep per frame (B, F)."""
    b, c, f, h, w = latents_BCFHW.shape
    timestep_BF = timestep[:, None].expand(b, f) if timestep.dim() == 1 else timestep
    time = unet.time_embedding(unet.time_proj(timestep_BF.reshape(-1)).to(unet.dtype))
    text = text_BLD.repeat_interleave(f, 0)
    y = latents_BCFHW.permute(0, 2, 1, 3, 4).reshape(b * f, c, h, w).contiguous(memory_format=torch.channels_last)
    y = unet.transformer_in(unet.conv_in(y), num_frames=f, return_dict=False)[0]
    skips = (y,)
    for block in unet.down_blocks:
        y, more = block(hidden_states=y, temb=time, encoder_hidden_states=text, num_frames=f)
        skips += more
    y = unet.mid_block(y, time, encoder_hidden_states=text, num_frames=f)
    for block in unet.up_blocks:
        count = len(block.resnets)
        more, skips = skips[-count:], skips[:-count]
        y = block(hidden_states=y, temb=time, res_hidden_states_tuple=more, encoder_hidden_states=text, num_frames=f)
    y = unet.conv_out(unet.conv_act(unet.conv_norm_out(y)))
    return y.reshape(b, f, -1, h, w).permute(0, 2, 1, 3, 4)


@contextlib.contextmanager
def images_only(unet: UNet3DConditionModel) -> Iterator[None]:
    """Inside, every temporal layer is skipped: each frame is an image of its own."""
    layers = [m for m in unet.modules() if isinstance(m, TransformerTemporalModel | TemporalConvLayer)]
    before = [layer.__dict__.get("forward") for layer in layers]
    for layer in layers:
        transformer = isinstance(layer, TransformerTemporalModel)
        layer.forward = (lambda hidden, **_: (hidden,)) if transformer else (lambda hidden, num_frames=1: hidden)
    try:
        yield
    finally:
        for layer, forward in zip(layers, before, strict=True):
            del layer.forward
            if forward is not None:
                layer.forward = forward
