"""Open-Sora Plan v1.1.0: folders as they are published, names at full size, and what is refused."""

import gzip
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from fifo_diffusion import FIFO
from fifo_diffusion.models import registry
from fifo_diffusion.models.loading.source import find_model
from fifo_diffusion.models.opensora.checkpoint import load_opensora
from fifo_diffusion.models.opensora.published import find_opensora
from fifo_diffusion.models.opensora.transformer import OpenSoraPlanTransformer
from fifo_diffusion.models.opensora.vae import CausalVideoAutoencoder
from fifo_diffusion.testing import TOLERANCE, distance, golden
from fifo_diffusion.testing.tiny_latte import text_encoder
from fifo_diffusion.testing.tiny_opensora import autoencoder, pipeline, published_folder

CALL = {"height": 32, "width": 32, "guidance_scale": 3.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return published_folder(tmp_path_factory.mktemp("plan"))


def full(name):
    return json.loads(gzip.decompress(golden.find(f"{name}.json.gz").read_bytes()))


def shapes(module):
    return {name: list(value.shape) for name, value in module.state_dict().items()}


@pytest.mark.parametrize("video_length", [17, 56])
def test_all_names_of_the_published_transformer(video_length):
    expected = full("latte_full_keys")
    with torch.device("meta"):
        module = OpenSoraPlanTransformer(video_length=video_length)
    del expected["state"]["caption_projection.y_embedding"]
    assert shapes(module) == expected["state"]
    assert sum(p.numel() for p in module.parameters()) == expected["params"]
    assert module.temp_pos_embed.shape == (1, video_length, 1152)


def test_all_names_of_the_published_autoencoder():
    expected = full("osp_vae_full_keys")
    with torch.device("meta"):
        module = CausalVideoAutoencoder(**{k: v for k, v in expected["config"].items() if k in _known()})
        usual = CausalVideoAutoencoder()
    assert shapes(module) == shapes(usual) == expected["state"]
    assert sum(p.numel() for p in module.parameters()) == expected["params"]
    assert (module.spatial_factor, module.temporal_factor) == (8, 4)


def _known():
    import inspect

    return inspect.signature(CausalVideoAutoencoder).parameters


def test_places_in_time_are_scaled_to_sixteen():
    """The long version's own table: its 56 places lie where 0 ... 18 and thirds between them lie in the short one's."""
    short, long = (OpenSoraPlanTransformer(2, 16, num_layers=1, video_length=n) for n in (17, 56))
    assert torch.allclose(long.temp_pos_embed[0, ::3][:17], short.temp_pos_embed[0], atol=1e-5)


def test_a_published_folder_is_the_pipeline_that_it_was_made_of(folder):
    original, loaded = pipeline(), find_model(folder).load()
    assert type(loaded).__name__ == "OpenSoraPlanPipeline"
    assert not loaded.scheduler.config.clip_sample
    assert loaded.scheduler.config.timestep_spacing == "trailing"
    x = torch.randn(1, 4, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    t, found = torch.tensor([[100, 300, 500, 700, 900]]), []
    for pipe in (original, loaded):
        model = registry.wrap(pipe)
        found.append(model.predict(x, t, model.condition(["a red ball"], **CALL)))
        found.append(model._decode(x))
        model.close()
    assert distance(found[2], found[0]) < TOLERANCE
    assert distance(found[3], found[1]) < TOLERANCE


def test_another_precision_and_a_text_encoder_of_ones_own(folder):
    pipe = load_opensora(find_opensora(folder), dtype=torch.bfloat16)
    assert {pipe.transformer.dtype, pipe.vae.dtype, pipe.text_encoder.dtype} == {torch.bfloat16}
    mine = text_encoder(seed=5)
    assert load_opensora(find_opensora(folder), text_encoder=mine, tokenizer=pipe.tokenizer).text_encoder is mine
    beside = str(folder.parent / "text_encoder")
    assert load_opensora(find_opensora(folder), text_encoder=beside).text_encoder.dtype == torch.float32


def test_saved_as_a_diffusers_folder(folder, tmp_path):
    pipe = find_model(folder).load()
    pipe.save_pretrained(tmp_path / "saved")
    loaded = find_model(tmp_path / "saved").load()
    with FIFO(pipe) as before, FIFO(loaded) as after:
        assert before.model.fingerprint() == after.model.fingerprint()
        assert after.model.frames == 5


def test_names_and_places(folder, tmp_path):
    repository = folder.parent
    assert find_opensora(folder).version == find_opensora(repository).version == folder.name
    on_hub = find_opensora("LanguageBind/Open-Sora-Plan-v1.1.0/221x512x512")
    assert (on_hub.repository, on_hub.version) == ("LanguageBind/Open-Sora-Plan-v1.1.0", "221x512x512")
    assert find_opensora("LanguageBind/Open-Sora-Plan-v1.1.0").version == "65x512x512"
    for other in ("toybox", "VideoCrafter/VideoCrafter2", tmp_path, "./65x512x512", "a/b/c"):
        assert find_opensora(other) is None
    published_folder(repository, "221x512x512")
    with pytest.raises(ValueError, match=r"several versions: name one, such as .*221x512x512$"):
        find_opensora(repository)


def test_padding_of_a_batch_does_not_count(folder):
    """Prompts cut to their own lengths, as when they are encoded alone."""
    model = registry.wrap(pipeline())
    both = model.condition(["a cat", "a red ball on the sea by night"], **CALL)
    assert both.text.shape[2] > model.condition(["a cat"], **CALL).text.shape[2]
    assert both.share.sum(1).tolist() == [model.condition([p], **CALL).text.shape[2] for p in
                                          ("a cat", "a red ball on the sea by night")]  # fmt: skip


def test_padding_does_not_reach_the_text(folder):
    """The text encoder's embeddings of a text alone, without any padding; of a batch, zero where a shorter one ends. In
    the pipeline's own call too."""
    pipe = pipeline()
    model = registry.wrap(pipe)
    texts = ["a cat", "a red ball on the sea by night"]
    both = model.condition(texts, **CALL).text[1]
    with torch.no_grad():
        own, _ = pipe.encode_prompt(texts, False)
    for text, of_batch, of_call in zip(texts, both, own, strict=True):
        tokens = pipe.tokenizer(text, return_tensors="pt").input_ids
        with torch.no_grad():
            expected = pipe.text_encoder(tokens)[0][0]
        (found,) = model.condition([text], **CALL).text[1]
        assert found.shape == expected.shape
        assert distance(found, expected) < TOLERANCE
        for rows in (of_batch, of_call):
            assert distance(rows[: len(expected)], expected) < TOLERANCE
            assert not rows[len(expected) :].any()


# ---------------------------------------------------------------------- one line each


def refused(path, match, **arguments):
    with pytest.raises(ValueError, match=match) as caught:
        find_model(path).load(**arguments)
    assert "\n" not in str(caught.value)


@pytest.fixture
def copy(tmp_path):
    return published_folder(tmp_path)


def test_a_truncated_file(copy):
    weights = copy / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    refused(copy, "diffusion_pytorch_model.safetensors is damaged or no checkpoint .*: download it again")


@pytest.mark.parametrize("part", ["65x512x512", "vae"])
@pytest.mark.parametrize("kind", ["missing", "unknown", "misshapen"])
def test_tensors_that_do_not_fit(copy, part, kind):
    path = copy.parent / part / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    name = sorted(tensors)[3]
    value = tensors.pop(name)
    if kind == "unknown":
        tensors |= {name: value, "surplus": value.clone()}
    elif kind == "misshapen":
        tensors[name] = torch.zeros(7, 7)
    save_file(tensors, path)
    refused(copy, f"1 {kind} tensor.*{'surplus' if kind == 'unknown' else name}")


def test_a_missing_file_says_how_to_fetch_it(copy):
    (copy.parent / "vae" / "config.json").unlink()
    refused(
        copy, "autoencoder: vae/config.json .* `hf download LanguageBind/Open-Sora-Plan-v1.1.0 --include '65x512x512"
    )


def test_another_models_folder(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"_class_name": "OpenSoraT2V"}))
    refused(copy, "a OpenSoraT2V, not a LatteT2V")
    (copy / "config.json").write_text(json.dumps(config | {"use_rope": True}))
    refused(copy, "use_rope=True is not supported")


def test_an_autoencoder_of_another_version(copy):
    path = copy.parent / "vae" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"decoder_attention": "AttnBlock3D"}))
    refused(copy, "decoder_attention 'AttnBlock3D' is not supported, only AttnBlock3DFix")


def test_no_text_encoder_says_how_to_fetch_it(copy):
    (copy.parent / "text_encoder").rename(copy.parent / "elsewhere")
    command = f"`hf download DeepFloyd/t5-v1_1-xxl --local-dir {copy.parent / 'text_encoder'}`"
    with pytest.raises(ValueError, match="the text encoder is not part of") as caught:
        find_model(copy).load()
    assert command in str(caught.value)
    assert "\n" not in str(caught.value)
    assert find_model(copy).load(text_encoder=copy.parent / "elsewhere").tokenizer is not None


def test_a_text_encoder_of_another_width(copy):
    (copy.parent / "text_encoder").rename(copy.parent / "old")
    wide = type(text_encoder())(
        text_encoder().config.__class__(vocab_size=64, d_model=32, d_kv=8, d_ff=8, num_layers=1)
    )
    wide.save_pretrained(copy.parent / "text_encoder")
    pipeline().tokenizer.save_pretrained(copy.parent / "text_encoder")
    refused(copy, "32 channels, the transformer wants 24")


def test_not_on_the_hub_without_a_connection():
    refused(
        "LanguageBind/Open-Sora-Plan-v1.1.0/65x512x512", "are needed in LanguageBind/Open-Sora-Plan-v1.1.0 on the hub"
    )


def test_the_wrong_file_for_a_family(copy, tmp_path):
    """A transformer given as an original checkpoint, and a VideoCrafter U-Net as a transformer."""
    refused(copy / "diffusion_pytorch_model.safetensors", "not a VideoCrafter checkpoint")
    save_file({"model.diffusion_model.out.0.weight": torch.zeros(3)}, copy / "diffusion_pytorch_model.safetensors")
    refused(copy, "Open-Sora Plan transformer: .* missing tensor")


def test_clips_that_the_transformer_cannot_make():
    with pytest.raises(ValueError, match=r"video_length=4: .* clips of 5 latents \(17 frames\), or of 1: use"):
        pipeline()("a cat", video_length=4, height=32, width=32, num_inference_steps=2)


def test_more_frames_than_places(folder):
    with FIFO.from_pretrained(folder, device="cpu") as fifo, pytest.raises(ValueError, match="use window=5 or less"):
        fifo.stream("a cat", window=6)


def test_an_unknown_argument(folder):
    with pytest.raises(TypeError, match="not loaded with an argument 'unet'"):
        find_model(folder).load(unet=None)


def test_layers_that_v110_does_not_have():
    with pytest.raises(ValueError, match="encoder_resnet_blocks 'Other' is not supported"):
        CausalVideoAutoencoder(encoder_resnet_blocks=("Other",) * 4)
    with pytest.raises(ValueError, match="names 3 levels"):
        CausalVideoAutoencoder(hidden_size=32, decoder_resnet_blocks=("ResnetBlock3D",) * 3)
    assert autoencoder().config.hidden_size == 32
