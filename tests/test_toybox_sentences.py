"""What toybox says of a prompt that is none of its sentences."""

import numpy as np
import pytest

from fifo_diffusion import FIFO
from fifo_diffusion.cli.main import main
from fifo_diffusion.testing import tiny
from fifo_diffusion.toybox import PROMPTS, world
from fifo_diffusion.toybox.sentences import nearest, remark
from streams import SMALL

BALL = "a red ball moving right on a navy background"


def test_every_sentence_that_it_was_trained_on_is_known():
    rng = np.random.default_rng(0)
    captions = {world.caption(world.draw_labels(rng, held=None), rng) for _ in range(800)}
    assert len(captions) > 300
    assert not any(map(remark, captions))
    assert not any(map(remark, (*PROMPTS, BALL.capitalize() + ".")))


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("a red bal moving rigth on a navy background", BALL),
        ("ball red navy right", BALL),
        ("a red robot in the desert by night", "a red robot walking to the left in the desert at night"),
        ("mountains at sunset", "mountains scrolling to the left at sunset"),
        ("a red triangle moving left on a purple background", "a red triangle moving left on a black background"),
        ("a cat walking", ""),
        ("un ballon rouge", ""),
        ("猫", ""),
        ("", ""),
        ("moving moving moving", None),
    ],
)
def test_the_nearest_sentence(typed, meant):
    found = nearest(typed)
    if meant is not None:
        assert {*found.split()} == {*meant.split()} or found == meant
    assert remark(typed).endswith(": fifo-diffusion models")
    assert ("did you mean" in remark(typed)) == bool(found)


def test_words_that_it_does_not_know_are_named():
    assert remark("a red bal moving rigth on a navy background").startswith(
        f'toybox does not know bal, rigth: did you mean "{BALL}"?'
    )
    assert remark("a red ball").startswith("toybox does not know the sentence 'a red ball': did you mean")
    assert len(remark("x" * 5000 + " y" * 5000)) < 250


@pytest.fixture(scope="module")
def toybox():
    with FIFO.from_pretrained("toybox", device="cpu") as fifo:
        yield fifo


def test_python_is_told_once_for_each_text(toybox, caplog):
    small = {"window": 4, "num_partitions": 1, "height": 32, "width": 32}
    with toybox.stream({0: BALL, 20: "a cat walking"}, negative_prompt="ugly", **small) as stream:
        assert caplog.text.count("toybox does not know") == 1
        assert "cat" in caplog.text
        caplog.clear()
        stream.prompt = "a red bal moving right on a navy background"
        assert f'did you mean "{BALL}"?' in caplog.text


def test_other_models_know_any_sentence(caplog):
    with FIFO(tiny.pipeline(**tiny.LIGHT)) as fifo:
        fifo.stream("a cat walking", **SMALL)
    assert "does not know" not in caplog.text


@pytest.mark.parametrize("more", [["--dry-run"], ["-o", "a.mp4"], ["-o", "a.mp4", "--method", "chunked"]])
def test_the_command_tells_it_once(more, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ["--window", "2", "--height", "32", "--width", "32", "-n", "2"]
    small += ["--num-inference-steps", "1"] if "--method" in more else ["--num-partitions", "1", "--no-lookahead"]
    assert main(["generate", "a red bal moving right on a navy background", *small, *more]) == 0
    said = "".join(capsys.readouterr())
    assert said.count(f'toybox does not know bal: did you mean "{BALL}"?') == 1
