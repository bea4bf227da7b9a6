"""Image-to-video pipelines of Wan and SkyReels-V2, which are told the picture that a clip begins with.

Wan 2.2 TI2V-5B begins with a clean latent in the place of a noisy one, as `clip_after` does it. The others (Wan 2.1 and
2.2 14B, SkyReels-V2) have it in channels of their own, of which every latent frame has 20: a mask that says which of
its frames are known, and a latent in which all others are grey (diffusers' `WanImageToVideoPipeline.prepare_latents`).
Wan 2.1 and SkyReels-V2 are also told CLIP's tokens of it, in every frame.

Those channels belong to a place in the clip, and FIFO's windows go on for ever. So the clip that opens a video has what
the pipeline gives it, and all later frames have what its last frame has: nothing is known of them. The tokens stay.
That is FIFO's choice. Their public code never shows these models a clip without a picture, so how their later windows
look nobody knows before they are run with published weights. They are taken all the same: the opening is exact, and
such windows say nothing that is not so.

Tensor names end in their axes: R rows (windows x videos), W windows, F latent frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fifo_diffusion.errors import Message, Setting
from fifo_diffusion.method import to_device
from fifo_diffusion.models.shared.base import VideoModel
from fifo_diffusion.models.shared.fingerprint import content_hash
from fifo_diffusion.models.shared.replaced import weak
from fifo_diffusion.models.wan.model import SkyReelsModel, WanCondition, WanModel

_TOKENS = "encoder_hidden_states_image"
_CHANNELS = "channels of the picture"


def wan_from_picture(pipe: Any, **known: Any) -> VideoModel:
    """How a checkpoint is told its picture, a `WanImageToVideoPipeline` says in its configuration."""
    return (WanPictureModel if pipe.config.get("expand_timesteps") else WanToldModel)(pipe, **known)


class WanPictureModel(WanModel):
    """`WanImageToVideoPipeline` of Wan 2.2 TI2V-5B, whose clips begin with a clean latent instead of a noisy one. The
    picture is the start of a video (`start=`); without one it is text to video.

    Args: as in `WanModel`.
    """

    family = "Wan 2.2 TI2V-5B"
    no_effect = ("last_image", "image_embeds")

    def clip_length(self) -> dict[str, Any]:
        """With a picture that its call wants, and which texts do not depend on."""
        return super().clip_length() | {"image": Image.new("RGB", (64, 64))}

    def condition(self, prompts: Sequence[str], **call: Any) -> WanCondition:
        _refuse_image(call)
        return super().condition(prompts, **call)


@dataclass(frozen=True)
class ToldCondition(WanCondition):
    """With a picture that is told.

    Attributes:
        channels: (1, mask and latent, F, H, W), for each frame of the clip that the picture begins.
        places: (W, F) or (R, F), which of these frames' channels each frame has; None: all windows begin with the
            picture.
    """

    channels: Tensor | None = None
    places: Tensor | None = None

    def of(self, index_R: Tensor, rows: int) -> WanCondition:
        found = super().of(index_R, rows)
        if self.places is None:
            return found
        places = to_device(self._places_of(rows), index_R.device)
        return replace(found, places=places.index_select(0, index_R))

    def channels_of(self, rows: int, frames: int) -> Tensor:
        """Those of so many rows, (R, mask and latent, F, H, W)."""
        assert self.channels is not None
        places = torch.arange(frames).expand(rows, -1) if self.places is None else self._places_of(rows)
        places = places.clamp(0, self.channels.shape[2] - 1)
        return self.channels[0][:, to_device(places, self.channels.device)].movedim(1, 0)

    def _places_of(self, rows: int) -> Tensor:
        assert self.places is not None
        return self.places.repeat_interleave(rows // len(self.places), 0)


class WanToldModel(WanModel):
    """`WanImageToVideoPipeline` of Wan 2.1 and 2.2 14B: every video is made of a picture (`start=`), under every prompt
    of a schedule.

    Args: as in `WanModel`.

    Raises:
        ValueError: the transformer takes no picture, or also one that a clip ends with.
    """

    family = "Wan from a picture"
    told_picture = True
    no_effect = ("last_image", "image_embeds")
    _encoded: tuple[Any, Tensor] | None = None

    @property
    def told_channels(self) -> int:  # type: ignore[override]
        """A mask for each frame of a latent, and the latent of the picture."""
        return int(self.timing.further + self.pipe.vae.config.z_dim)

    def check_denoisers(self) -> None:
        for name, denoiser in self.denoisers.items():
            config = getattr(denoiser, "config", None) or {}
            given, returned = config.get("in_channels", 0), config.get("out_channels", 0)
            if denoiser is not None and given - self.told_channels != returned:
                wanted = returned + self.told_channels
                raise ValueError(
                    f"pipe.{name} takes {given} channels, and with the picture that a video begins with they would be "
                    f"{wanted}: load the image-to-video version, or the text-to-video pipeline"
                )
            if config.get("pos_embed_seq_len"):
                raise ValueError(
                    f"pipe.{name} is made for a first and a last picture, and an endless video has no last: load an "
                    "image-to-video version"
                )
        self.check_experts()

    def about_picture(self, picture_HWC: np.ndarray, window: int) -> dict[str, Any]:
        return {"picture": picture_HWC, "window": window}

    def condition(self, prompts: Sequence[str], **call: Any) -> WanCondition:
        _refuse_image(call)
        if call.get("picture") is None:
            what = f"{type(self.pipe).__name__} makes a video of a picture: give it as "
            raise ValueError(Message(what, Setting("start")))
        call["image"] = Image.fromarray(call.pop("picture"))
        plain = super().condition(prompts, **call)
        channels = plain.arguments.pop(_CHANNELS)
        return ToldCondition(**vars(plain), channels=channels)

    def captured(self, **call: Any) -> list[dict[str, Any]]:
        """Also the picture's channels. They are made once for a picture: to encode a clip takes a while, which a new
        prompt must not."""
        frames = self.timing.frames(call.pop("window", None) or self.frames)
        size = [call["height"], call["width"], frames]
        made_of = [content_hash([np.asarray(call["image"]), *size]), self.autoencoder_state()]
        known = self._encoded is not None and self._encoded[0] == made_of
        calls = super().captured(**call | {"num_frames": 1 if known else frames})
        if not known:
            latents = calls[0][self.latent_argument]
            self._encoded = made_of, latents[:1, latents.shape[1] - self.told_channels :].clone()
        assert self._encoded is not None
        calls[0][_CHANNELS] = self._encoded[1]
        return calls

    def at_frames(self, condition: ToldCondition, windows: Sequence[Sequence[int]]) -> ToldCondition:
        return replace(condition, places=torch.tensor([list(window) for window in windows]))

    def denoise(self, latents_RCFHW: Tensor, timestep_RF: Tensor, condition: ToldCondition) -> Tensor:
        rows, frames = len(latents_RCFHW), latents_RCFHW.shape[2]
        arguments = condition.arguments
        if (tokens := arguments.get(_TOKENS)) is not None:
            texts = rows * frames if condition.per_frame else rows
            arguments = arguments | {_TOKENS: tokens[:1].expand(texts, -1, -1)}
        channels = condition.channels_of(rows, frames).to(latents_RCFHW.dtype)
        told = torch.cat([latents_RCFHW, channels], 1)
        return super().denoise(told, timestep_RF, replace(condition, arguments=arguments))

    def text_state(self) -> Any:
        encoded_by = weak([getattr(self.pipe, "image_processor", None)]), self.autoencoder_state()
        return super().text_state(), encoded_by

    def parts(self) -> dict[str, Any]:
        encoder = getattr(self.pipe, "image_encoder", None)
        return super().parts() | ({} if encoder is None else {"image_encoder": encoder})


class SkyReelsToldModel(WanToldModel, SkyReelsModel):
    """`SkyReelsV2ImageToVideoPipeline`: as Wan 2.1's."""

    family = "SkyReels-V2 from a picture"


def _refuse_image(call: dict[str, Any]) -> None:
    if call.pop("image", None) is not None:
        raise ValueError(Message("give the picture as ", Setting("start"), " instead of image"))
