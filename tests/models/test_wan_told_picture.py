"""Wan and SkyReels-V2 told a picture in channels of their own: the contract, and which frames are told what."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from diffusers import WanImageToVideoPipeline, WanPipeline
from PIL import Image

from fifo_diffusion import FIFO
from fifo_diffusion.cli.main import main
from fifo_diffusion.models import registry
from fifo_diffusion.streaming.state import RunState
from fifo_diffusion.testing import TOLERANCE, distance, frames, same
from fifo_diffusion.testing.contract import VARIANT
from fifo_diffusion.testing.contract.families import WanFromAPictureContract
from fifo_diffusion.testing.tiny_wan import (
    WITH_PICTURE,
    WITH_TOKENS,
    components,
    image_encoder,
    skyreels_told_picture,
    told_picture,
    told_picture_twice,
)

PICTURE = WanFromAPictureContract.start
SIZE = {"height": 32, "width": 32, "guidance_scale": 3.0}
CALL = SIZE | {"window": 3, "num_partitions": 1, "seed": 1, "start": PICTURE}


class TestWanToldAPicture(WanFromAPictureContract):
    """With CLIP's tokens, as Wan 2.1."""


class TestWanOfTwoTransformersToldAPicture(WanFromAPictureContract):
    """Without tokens, as Wan 2.2 A14B."""

    without = VARIANT

    def make_pipe(self):
        return told_picture_twice()

    def denoisers(self, pipe):
        return [pipe.transformer, pipe.transformer_2]

    def transformer_at(self, pipe, timestep):
        return pipe.transformer if timestep >= 600 else pipe.transformer_2


@pytest.mark.slow
class TestSkyReelsToldAPicture(WanFromAPictureContract):
    without = VARIANT

    def make_pipe(self):
        return skyreels_told_picture()


def condition(model, windows=None, prompts=("a cat",)):
    found = model.condition(list(prompts), **SIZE, **model.about_picture(PICTURE, 3))
    return found if windows is None else model.at_frames(found, windows)


@pytest.mark.parametrize("make", [told_picture, told_picture_twice])
@pytest.mark.parametrize("videos", [1, 2])
def test_every_frame_is_told_what_belongs_to_its_number(make, videos):
    """Later ones than the clip's are told what its last one is: a mask of zeros, and grey."""
    pipe = make()
    model, prompts = registry.wrap(pipe), ("a cat", "a dog")[:videos]
    windows = [range(3), range(1, 4), range(7, 10), [0, 0, 1]]
    x = torch.randn(4 * videos, 4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([[100, 500, 900]]).expand(len(x), -1)
    found = model.predict(x, t, condition(model, windows, prompts)).unflatten(0, (4, videos))
    channels = condition(model).channels
    assert channels[0, :4, :, 0, 0].T.tolist() == [[1] * 4, [0] * 4, [0] * 4]
    for window, part, mine in zip(windows, x.split(videos), found, strict=True):
        by_hand = [channels[:, :, [min(frame, 2)]] for frame in window]
        told = dataclasses.replace(condition(model, None, prompts), channels=torch.cat(by_hand, 2))
        assert distance(mine, model.predict(part, t[:videos], told)) < TOLERANCE
        for other in set(map(tuple, windows)) - {tuple(window), (1, 2, 3), (7, 8, 9)}:
            wrong = model.predict(part, t[:videos], condition(model, [other], prompts))
            assert distance(mine, wrong) > 100 * TOLERANCE


@pytest.mark.parametrize("shown", [True, False])
def test_the_opening_clip_is_the_pipelines(shown):
    """All frames after the first; that one, where it is shown, is the picture as the autoencoder shows it."""
    pipe = told_picture()
    with FIFO(pipe) as fifo:
        noise = torch.randn(1, 4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
        opens = 0 if shown else -1

        def drawn(frame, level, use):
            return noise[:, :, (frame - opens) % 3]

        call = CALL | {"noise": drawn, "lookahead": False, "include_start": shown}
        made = frames(fifo.stream("a cat", num_frames=8 + shown, **call))
        image = Image.fromarray(PICTURE)
        told = {"num_frames": 9, "num_inference_steps": 3, "latents": noise, "output_type": "np"} | SIZE
        expected = pipe(image, "a cat", **told).frames
        assert same(made[shown:], np.round(expected[0][1:] * 255))
        if shown:
            assert not same(made[1:], np.round(expected[0][:-1] * 255), 3)


def test_the_picture_stays_under_other_prompts_and_in_states(tmp_path, monkeypatch):
    pipe = told_picture()
    counted = []
    encode = pipe.vae.encode
    monkeypatch.setattr(pipe.vae, "encode", lambda x, *a, **k: (counted.append(x.shape[2]), encode(x, *a, **k))[1])
    schedule = {0: "a cat", 6: "a dog"}
    with FIFO(pipe) as fifo:
        stream = fifo.stream(schedule, **CALL)
        whole = frames(stream, 20)
        assert sum(count == 9 for count in counted) == 1  # a clip, for both prompts
        conditions = stream._prompts._conditions
        assert len({found.channels.data_ptr() for found in conditions.values()}) == 1
        stream = fifo.stream(schedule, **CALL)
        frames(stream, 9)
        stream.state().save(tmp_path / "state")
        state = RunState.load(tmp_path / "state")
        assert (state.picture.numpy() == PICTURE).all()
    with FIFO(copy.deepcopy(told_picture())) as fifo:
        assert (frames(fifo.stream(start=tmp_path / "state"), 11) == whole[9:]).all()
        other = dataclasses.replace(state, picture=255 - state.picture)
        assert not same(frames(fifo.stream(start=other), 11), whole[9:], 3)


def test_what_is_wrong_is_said_in_one_line(tmp_path, monkeypatch, capsys):
    with FIFO(told_picture()) as fifo:
        call = {name: value for name, value in CALL.items() if name != "start"}
        for start in ({}, {"start": "noise"}):
            with pytest.raises(ValueError, match=r"^start='(clip|noise)': this model makes a video of a picture: give"):
                fifo.stream("a cat", **call, **start)
        with pytest.raises(ValueError, match=r"begins with one picture, and these are 2: give one$"):
            fifo.stream("a cat", start=[PICTURE] * 2, **call)
        with pytest.raises(ValueError, match=r"give the picture as start instead of image$"):
            fifo.stream("a cat", image=PICTURE, **CALL)
        with pytest.raises(ValueError, match=r"last_image would have no effect here: leave it out$"):
            fifo.stream("a cat", last_image=PICTURE, **CALL)
    monkeypatch.chdir(tmp_path)
    told_picture().save_pretrained("model")
    assert main(["generate", "a cat", "--model", "model", "--dry-run", "-o", "out/"]) == 2
    assert "--start clip: this model makes a video of a picture: give the picture here" in capsys.readouterr().err


def test_transformers_for_something_else_are_refused():
    with pytest.raises(ValueError, match=r"takes 4 channels, and with the picture .* would be 12: load the image-to"):
        registry.wrap(WanImageToVideoPipeline(**components(), **image_encoder()))
    with pytest.raises(ValueError, match=r"load the text-to-video version$"):
        registry.wrap(WanPipeline(**components(**WITH_PICTURE)))
    two = components(**WITH_PICTURE, **WITH_TOKENS, pos_embed_seq_len=5)
    with pytest.raises(ValueError, match="a first and a last picture, and an endless video has no last"):
        registry.wrap(WanImageToVideoPipeline(**two, **image_encoder()))
