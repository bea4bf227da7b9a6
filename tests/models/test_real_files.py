"""Real checkpoints that are not quite what was meant, and lines of libraries that frighten without cause."""

import logging

import diffusers
import pytest

from fifo_diffusion.models.loading.source import find_model
from fifo_diffusion.testing import tiny, tiny_animatediff


def test_weights_in_bin_files_load_without_a_word(tmp_path, caplog, capfd):
    """zeroscope has no other; diffusers looks for safetensors first and logs that as an error."""
    tiny.pipeline(**tiny.LIGHT).save_pretrained(tmp_path, safe_serialization=False)
    assert not [*tmp_path.glob("unet/*.safetensors")]
    capfd.readouterr()
    diffusers.utils.logging.set_verbosity_warning()
    with caplog.at_level(logging.WARNING):
        find_model(tmp_path).load()
    said = caplog.text + "".join(capfd.readouterr())
    assert "safetensors" not in said
    assert "unsafe" not in said


def test_a_motion_adapter_is_named(tmp_path):
    tiny_animatediff.motion_adapter().save_pretrained(tmp_path / "adapter")
    with pytest.raises(ValueError, match="is a motion adapter, not a pipeline: join it"):
        find_model(tmp_path / "adapter").load()


@pytest.mark.parametrize(
    "name", ["Open-Sora-Plan-v1.0.0/65x512x512", "Open-Sora-Plan-v1.2.0/93x480p", "Open-Sora-Plan-v1.3.0/any93x640x640"]
)
def test_another_release_of_open_sora_plan_is_named(name, tmp_path):
    (tmp_path / name).mkdir(parents=True)
    (tmp_path / name / "config.json").write_text("{}")
    for model in (f"LanguageBind/{name}", str(tmp_path / name), f"LanguageBind/{name.partition('/')[0]}"):
        with pytest.raises(ValueError, match="which is another model: of Open-Sora Plan v1"):
            find_model(model).load()
