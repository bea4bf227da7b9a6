"""Texts that are encoded already, notes on texts that are not wholly seen, and prompts assigned in great numbers."""

import numpy as np
import pytest
import torch

from fifo_diffusion import FIFO, RunState
from fifo_diffusion.models import registry
from fifo_diffusion.models.shared.texts import Embeds, embeds_of, unseen
from fifo_diffusion.streaming.prompts import PromptTrack
from fifo_diffusion.streaming.schedule import MOST_MIXED, Schedule
from fifo_diffusion.testing import distance, frames, tiny, tiny_animatediff, tiny_wan
from fifo_diffusion.testing.tiny_latte import pipeline as latte
from streams import SMALL

TEXTS = ("a red ball", "a dog on the sea by night")
LONG = "a red ball moving left right up down on the sea"


def encoded(pipe, text):
    return pipe.encode_text([text]).detach()


@pytest.fixture
def pipe():
    return tiny.pipeline(**tiny.LIGHT)


def encoded_wan(pipe, text):
    return {"prompt_embeds": pipe.encode_prompt(text, do_classifier_free_guidance=False, max_sequence_length=512)[0]}


def encoded_sd(pipe, text):
    return {"prompt_embeds": pipe.encode_prompt(text, "cpu", 1, False)[0]}


def encoded_xl(pipe, text):
    embeds, _, pooled, _ = pipe.encode_prompt(text, do_classifier_free_guidance=False)
    return {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}


def encoded_latte(pipe, text):
    return {"prompt_embeds": pipe.encode_prompt(text, do_classifier_free_guidance=False, mask_feature=False)[0]}


FAMILIES = {
    "unet3d": (lambda: tiny.pipeline(**tiny.LIGHT), lambda pipe, text: {"prompt_embeds": encoded(pipe, text)}),
    "animatediff": (tiny_animatediff.pipeline, encoded_sd),
    "animatediff xl": (lambda: tiny_animatediff.pipeline(xl=True), encoded_xl),
    "wan": (tiny_wan.pipeline, encoded_wan),
    "latte": (latte, encoded_latte),
}


def test_encoded_texts_of_another_length_do_not_go_with_words(pipe):
    """Found at the start of a schedule, and where one is assigned; those of the encoder's length go."""
    good = {"prompt_embeds": encoded(pipe, TEXTS[1])}
    short = {"prompt_embeds": good["prompt_embeds"][:, :-1]}
    with FIFO(pipe) as fifo:
        for pair, call in (([TEXTS[0], short], {}), ([short, TEXTS[0]], {"guidance_scale": 1.0})):
            with pytest.raises(ValueError, match="encode all of them alike"):
                fifo.stream(dict(zip((0, 8), pair, strict=True)), **SMALL | call)
            stream = fifo.stream(pair[0], seed=0, **SMALL | call)
            next(stream)
            with pytest.raises(ValueError, match="encode all of them alike"):
                stream.prompt = pair[1]
        assert len(frames(fifo.stream({0: TEXTS[0], 2: good}, seed=0, num_frames=6, **SMALL))) == 6


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_an_encoded_text_is_the_text(family):
    """In a batch too, with the negative text encoded or not, and without text encoders where all is encoded."""
    make, encode = FAMILIES[family]
    pipe = make()
    model = registry.wrap(pipe)
    size = {"height": 32, "width": 32} if family == "wan" else {"height": 16, "width": 16}
    call = size | {"guidance_scale": 3.0}

    def given(text, negative=None):
        negative = {f"negative_{k}": v for k, v in encode(pipe, negative).items()} if negative else {}
        return embeds_of(encode(pipe, text) | negative)[0]

    expected = model.condition(TEXTS, negative_prompt=["sand"] * 2, **call)
    words = [given(text) for text in TEXTS]
    for text in words:
        model.check_prompt(text, call)
    half = model.condition(words, negative_prompt=["sand"] * 2, **call)
    whole = [given(text, "sand") for text in TEXTS]
    if family == "latte":  # of encoded texts the pipeline does not cut off the padding, as of words
        assert half.text.shape[:2] == (2, 2)
    else:
        assert distance(half.text, expected.text) < 1e-6
        assert distance(model.condition(whole, **call).text, expected.text) < 1e-6
    for name in ("text_encoder", "text_encoder_2"):
        if hasattr(pipe, name):
            setattr(pipe, name, None)
    with pytest.raises(ValueError, match="no text encoder: give prompt_embeds= instead"):
        model.check_prompt("a cat", call)
    with pytest.raises(ValueError, match="give negative_prompt_embeds= too"):
        model.check_prompt(words[0], call)
    model.check_prompt(whole[0], call)
    bare = model.condition(whole, **call)
    assert bare.text.shape[:2] == (2, 2)
    if family != "latte":
        assert distance(bare.text, expected.text) < 1e-6
    model.close()


def test_streams_of_encoded_texts(pipe, tmp_path):
    """As argument, in a batch, in a schedule, assigned, and through a state file."""
    cat, dog, sand = (encoded(pipe, text) for text in ("a cat", "a dog", "sand"))
    with FIFO(pipe) as fifo:
        words = frames(fifo.stream({0: "a cat", 5: "a dog"}, seed=0, negative_prompt="sand", num_frames=8, **SMALL))
        schedule = {0: {"prompt_embeds": cat}, 5: {"prompt_embeds": dog[0], "negative_prompt_embeds": sand}}
        stream = fifo.stream(schedule, seed=0, negative_prompt_embeds=sand, **SMALL)
        found = [next(stream), next(stream)]
        stream.state().save(tmp_path / "run.safetensors")
        resumed = fifo.stream(start=RunState.load(tmp_path / "run.safetensors"), num_frames=8)
        assert isinstance(resumed.prompt, Embeds)
        assert np.array_equal(np.stack([*found, *resumed]), words)

        one = fifo.stream(prompt_embeds=cat, seed=0, num_frames=3, **SMALL)
        assert np.array_equal(frames(one), frames(fifo.stream("a cat", seed=0, num_frames=3, **SMALL)))
        batch = fifo.stream(prompt_embeds=torch.cat([cat, dog]), seed=0, num_frames=1, **SMALL)
        expected = fifo.stream(["a cat", "a dog"], seed=0, num_frames=1, **SMALL)
        assert np.array_equal(next(batch), next(expected))
        listed = fifo.stream([{"prompt_embeds": cat}, {"prompt_embeds": dog}], seed=0, num_frames=1, **SMALL)
        assert listed.prompt == batch.prompt
        pair = [fifo.stream("a cat", seed=0, num_frames=10, **SMALL) for _ in range(2)]
        for running, prompt in zip(pair, ("a dog", {"prompt_embeds": dog}), strict=True):
            next(running)
            running.prompt = prompt
        assert np.array_equal(*map(frames, pair))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": "a cat", "prompt_embeds": torch.zeros(1, 8, 24)}, "either prompt or prompt_embeds"),
        ({"prompt_embeds": torch.zeros(8)}, "shape"),
        ({"prompt_embeds": torch.full((8, 24), torch.nan)}, "nan or inf"),
        ({"negative_prompt_embeds": torch.zeros(3, 8, 24), "prompt": ["a", "b"]}, "3 negative prompts for 2 videos"),
        ({"prompt": {"negative_prompt_embeds": torch.zeros(1, 8, 24)}}, "without prompt_embeds"),
        ({"prompt": {"prompt_embed": torch.zeros(1, 8, 24)}}, "none of the names of encoded texts"),
        ({"prompt": {"prompt_embeds": torch.zeros(1, 8, 24), "pooled_prompt_embeds": torch.zeros(9)}}, "does not take"),
        ({"prompt": {0: "a cat", 4: {"prompt_embeds": torch.zeros(2, 8, 24)}}}, "for one video"),
        ({"prompt": ["a cat", {"prompt_embeds": torch.zeros(8, 24)}]}, "not both"),
        (
            {"prompt": {0: {"prompt_embeds": torch.zeros(8, 24)}, 4: {"prompt_embeds": torch.zeros(7, 24)}}},
            "same number of tokens",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_encoded_texts_that_do_not_fit(fifo, arguments, message):
    with pytest.raises(ValueError, match=message) as raised:
        fifo.stream(**SMALL | arguments)
    assert "\n" not in str(raised.value)


def test_what_is_no_prompt_is_refused_when_it_is_assigned(fifo):
    stream = fifo.stream("a cat", seed=0, **SMALL)
    for value in (5, [5], b"a dog", [], ["a", "b"], {3: "a dog"}, None):
        next(stream)
        with pytest.raises((TypeError, ValueError)):
            stream.prompt = value
        assert stream.prompt == "a cat"
    next(stream)


class Encoder:
    """A model of which only texts are asked."""

    def __getattr__(self, name):
        if name == "lock":
            from contextlib import nullcontext

            return nullcontext()
        if name in ("text_state", "done_encoding"):
            return lambda: None
        raise AttributeError(name)

    def condition(self, prompts, **call):
        return prompts

    def mix(self, conditions, weight):
        return conditions, weight

    def at_frames(self, condition, frames):
        return condition


def test_a_blend_does_not_grow_with_the_number_of_assignments():
    slots = 32
    schedule = Schedule.of({0: (("start",), None)}, "blend", slots=slots, reach=slots - 1)
    track = PromptTrack(Encoder(), schedule, {})
    sizes = []
    for frame in range(300):
        track.assign((f"text {frame}",), frame + slots, "blend", frame + 1)
        track.forget_before(frame)
        track.condition([range(frame, frame + slots)], frame)
        assert sum(schedule.mixture(frame + 2, frame).values()) == pytest.approx(1)
        sizes.append((len(schedule), len(track._conditions), len(str(schedule.to_json()))))
    assert max(len(change.mixture) for change in schedule._changes) <= MOST_MIXED + 1
    for early, late in zip(sizes[150], sizes[-1], strict=True):
        assert late <= 1.1 * early
    newest = schedule.mixture(frame + 2 * slots, frame)
    assert newest == {("text 299",): 1.0}


def test_words_that_are_not_seen(fifo, caplog):
    """The tokenizer takes 8 words, and no marks of beginning and end."""
    assert unseen(fifo.pipe.tokenizer, LONG, 8) == "on the sea"
    assert unseen(fifo.pipe.tokenizer, "a cat", 8) == ""
    stream = fifo.stream({0: LONG, 3: "a cat", 5: LONG}, negative_prompt=LONG, seed=0, num_frames=5, **SMALL)
    told = [record.message for record in caplog.records if record.name.startswith("fifo_diffusion")]
    assert [text for text in told if "does not see the end of the prompt" in text and "'on the sea'" in text] == told[
        1:2
    ]
    assert "does not see the end of the negative prompt" in told[2]
    assert "no frame is made under the prompt of frame 5" in told[0]
    assert len(told) == 3
    caplog.clear()
    stream.prompt = LONG
    assert "'on the sea'" in caplog.text
    caplog.clear()
    fifo.stream("a cat", negative_prompt="sand", seed=0, **SMALL | {"guidance_scale": 1.0})
    assert "negative prompt has no effect with guidance_scale=1" in caplog.text


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_says_what_it_does_not_see(family):
    pipe = FAMILIES[family][0]()
    model = registry.wrap(pipe)
    most = {"wan": 512, "latte": 120}.get(family, 8)
    text = " ".join(["ball"] * most + ["cat", "dog"])
    assert model.unseen_words(text, {}).endswith("cat dog")
    assert model.unseen_words(" ".join(["ball"] * (most - 2)), {}) == ""
    if family == "wan":
        assert model.unseen_words(LONG, {"max_sequence_length": 6}).endswith("on the sea")
    model.close()
