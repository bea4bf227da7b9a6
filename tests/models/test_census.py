"""Every video pipeline class of diffusers is taken, or refused for a reason that names what works instead."""

import re
import runpy
from pathlib import Path

import pytest

from fifo_diffusion.models import registry
from fifo_diffusion.models.loading.refused_pipelines import REFUSED

CENSUS = runpy.run_path(str(Path(__file__).resolve().parents[2] / "benchmarks" / "pipeline_census.py"))
TAKEN = set(registry.supported_pipelines())


def test_every_class_of_the_installed_diffusers_is_known():
    found = CENSUS["video_pipelines"]()
    assert len(found) > 80
    assert found - TAKEN - REFUSED.keys() == set()


def test_none_is_both():
    assert TAKEN & REFUSED.keys() == set()


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_refusal_says_why_and_names_what_is_taken(name):
    with pytest.raises(TypeError, match=f"^{name} is not a supported pipeline: it") as error:
        registry.family_of(name)
    assert "\n" not in str(error.value)
    assert set(re.findall(r"\w+Pipeline\b", REFUSED[name].instead)) <= TAKEN


def test_the_table_in_the_documentation_is_this_one():
    """`python benchmarks/pipeline_census.py` writes it."""
    text = CENSUS["DOCS"].read_text("utf-8")
    assert CENSUS["with_table"](text) == text
    assert text.count("| yes |") == sum(len(family.every) for family in registry.FAMILIES)


@pytest.mark.parametrize("family", registry.FAMILIES, ids=lambda family: family.name)
def test_what_was_verified_is_said_in_the_same_words_of_all(family):
    """The computation; how frames are decoded; whether anybody looked."""
    said = (
        r"contract tests on random weights(, [^;]+)?; (frames|streamed) deco[^;]+; quality (not seen by us|seen of .+)"
    )
    assert re.fullmatch(said, family.verified)
