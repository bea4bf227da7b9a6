"""Write the pipeline folder (fp16 safetensors) and check it with the stock pipeline.

    python training/export.py --model work/base --vae work/vae --out src/fifo_diffusion/toybox/pipeline

The new files are written beside the folder and then moved into place, so a reader never sees half of them.
"""

import argparse
import os
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, TextToVideoSDPipeline
from model import SCHEDULE, make_unet
from safetensors.torch import load_file, save_file
from text import make_text_encoder
from transformers import CLIPTokenizer

OLD_PREFIX = "text_model."


def write_old_names(file: Path) -> None:
    """Give the tensors of a saved `CLIPTextModel` the names that every transformers 5 reads.

    In 5.0 its network is an attribute `text_model`, and its tensors are called so. Later versions save them without
    that prefix and read both; 5.0 does not read the new names.
    """
    tensors = {OLD_PREFIX + name.removeprefix(OLD_PREFIX): value for name, value in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="work/base", help="training folder with ema.pt")
    parser.add_argument("--vae", default="work/vae")
    parser.add_argument("--tokenizer", default="src/fifo_diffusion/toybox/pipeline/tokenizer")
    parser.add_argument("--out", default="src/fifo_diffusion/toybox/pipeline")
    args = parser.parse_args()
    torch.set_num_threads(1)

    tokenizer, weights = CLIPTokenizer.from_pretrained(args.tokenizer), torch.load(Path(args.model) / "ema.pt")
    unet, text = make_unet(), make_text_encoder(tokenizer)
    unet.load_state_dict(weights["unet"])
    text.load_state_dict(weights["text"])
    vae = AutoencoderKL.from_pretrained(args.vae, dtype=torch.float32)
    pipeline = TextToVideoSDPipeline(vae, text, tokenizer, unet, DDIMScheduler(**SCHEDULE))

    out, fresh = Path(args.out), Path(args.out + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    pipeline.to(torch.float16).save_pretrained(fresh)
    write_old_names(fresh / "text_encoder" / "model.safetensors")
    size = sum(file.stat().st_size for file in fresh.rglob("*") if file.is_file())
    again = TextToVideoSDPipeline.from_pretrained(fresh, dtype=torch.float32)
    again.set_progress_bar_config(disable=True)
    clip = again("a red ball moving left on a black background", num_frames=16, num_inference_steps=4, height=64,
                 width=64, output_type="np").frames  # fmt: skip
    print(f"{size / 1e6:.1f} MB; the stock pipeline gives {clip.shape}")
    for file in fresh.rglob("*"):
        if file.is_file():
            target = out / file.relative_to(fresh)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.chmod(0o644)
            os.replace(file, target)
    shutil.rmtree(fresh)


if __name__ == "__main__":
    main()
