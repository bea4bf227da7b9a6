"""Write an ordinary pipeline folder (fp16 safetensors) and check that the stock pipeline loads it.

python -m journeys.export --model work/few --vae work/vae/folder --tokenizer work/tokenizer --out work/pipeline
"""

import argparse
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, TextToVideoSDPipeline
from model import SCHEDULE
from transformers import CLIPTokenizer

from journeys.networks import make_unet
from journeys.text import make_text_encoder


def export(model: str, vae: str, tokenizer: str, out: str) -> int:
    """Bytes of the folder that it writes."""
    words, weights = CLIPTokenizer.from_pretrained(tokenizer), torch.load(Path(model) / "ema.pt")
    unet, text = make_unet(**weights["shape"]), make_text_encoder(words)
    unet.load_state_dict(weights["unet"])
    text.load_state_dict(weights["text"])
    autoencoder = AutoencoderKL.from_pretrained(vae, dtype=torch.float32)
    pipeline = TextToVideoSDPipeline(autoencoder, text, words, unet, DDIMScheduler(**SCHEDULE))
    pipeline.to(torch.float16).save_pretrained(out)
    return sum(file.stat().st_size for file in Path(out).rglob("*") if file.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="work/base", help="training folder with ema.pt")
    parser.add_argument("--vae", default="work/vae/folder")
    parser.add_argument("--tokenizer", default="work/tokenizer")
    parser.add_argument("--out", default="work/pipeline")
    args = parser.parse_args()
    size = export(args.model, args.vae, args.tokenizer, args.out)
    again = TextToVideoSDPipeline.from_pretrained(args.out, dtype=torch.float32)
    again.set_progress_bar_config(disable=True)
    pixels = again.vae.config.sample_size
    clip = again("a red car driving left through the city by day", num_frames=16, num_inference_steps=4, height=pixels,
                 width=pixels, guidance_scale=1.0, output_type="np").frames  # fmt: skip
    print(f"{size / 1e6:.1f} MB; the stock pipeline gives {clip.shape}")


if __name__ == "__main__":
    main()
