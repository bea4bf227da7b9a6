"""Relative error of diagonal denoising on the embedded model: partitions only, lookahead, banded lookahead.

    python benchmarks/toybox_relative_mse.py --clips 24
    python benchmarks/toybox_relative_mse.py --clips 64 --draws 4 --bands windows 7 9 11 12 13 14 15 none \\
        --name toybox_banded
    python benchmarks/toybox_relative_mse.py ... --share 0 2     # and --share 1 2 beside it, then without

    python benchmarks/toybox_relative_mse.py --plot                      # docs/images/toybox_relative_mse.png

Writes docs/results/NAME.json. The errors of eight clips at a time are kept in --parts as they are done, every setting
in a file of its own: the same command goes on where it was stopped, and one with more bands computes only those. With
--share only some are made, and nothing is written until a call without it finds them all.
The known clips are rendered by training/world.py from combinations of attributes that were never trained on. A band is
a number of cleaner frames (a frame sees 16, itself among them), "windows" (those of its lookahead window) or, as a
control, "none": the whole queue at once and everything sees everything.
"""

import argparse
import functools
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, write
from safetensors.torch import load_file, save_file
from torch import Tensor

from fifo_diffusion import FIFO
from fifo_diffusion.evaluation.relative_mse import RelativeError, diagonal_errors, reference_errors
from fifo_diffusion.method import BandedLayout, Bands, QueueLayout

TRAINING = Path(__file__).resolve().parents[1] / "training"
CLIPS_AT_ONCE = 8


class Unbanded(BandedLayout):
    """The control: one pass in which every frame sees the whole queue."""

    @property
    def bands(self) -> Bands:
        return (range(self.size),) * self.size


def band(text: str) -> str | int:
    """A value of --bands."""
    return text if text in ("windows", "none") else int(text)


def draw_clips(count: int, frames: int, seed: int) -> Iterator[tuple[Tensor, list[str]]]:
    """Known clips (B, C, F, H, W) and their captions, a few at a time; families in turn."""
    sys.path.insert(0, str(TRAINING))
    from latents import encode, load

    from fifo_diffusion.toybox.world import FAMILIES, make_clip

    rng, basis = np.random.default_rng(seed), load(TRAINING / "latents.npz")
    for first in range(0, count, CLIPS_AT_ONCE):
        numbers = range(first, min(count, first + CLIPS_AT_ONCE))
        drawn = [make_clip(rng, frames, FAMILIES[i % len(FAMILIES)], held=True) for i in numbers]
        latents = np.stack([encode(clip, basis) for clip, _, _ in drawn])
        yield torch.from_numpy(latents).permute(0, 4, 1, 2, 3).contiguous(), [text for _, text, _ in drawn]


def part_file(folder: Path, start: str, facts: Any, what: Any) -> Path:
    """Where errors are kept; other facts give another name."""
    return folder / f"{start}-{hashlib.sha256(json.dumps([facts, what]).encode()).hexdigest()[:8]}.safetensors"


def kept(file: Path, compute: Callable[[], Tensor]) -> Tensor:
    """What a file holds; it is computed and written if it is not there."""
    if not file.exists():
        save_file({"errors_BS": compute()}, file.with_suffix(".part"))
        file.with_suffix(".part").rename(file)
        print(file.name, file=sys.stderr, flush=True)
    return load_file(file)["errors_BS"]


def errors_of(
    model: Any,
    layouts: Sequence[QueueLayout],
    clips: Tensor,
    noises: Sequence[Tensor],
    texts: list[str],
    file: Callable[[Any], Path],
) -> list[RelativeError]:
    """Of each layout, the mean over the noises. `file` says where the errors of what is named so are kept."""
    condition = model.condition(texts, height=64, width=64, guidance_scale=1.0)
    levels = model.levels(layouts[0].slots)

    def mean(of: Callable[..., Tensor], layout: QueueLayout) -> Tensor:
        return torch.stack([of(model, levels, layout, clips, noise, condition) for noise in noises]).mean(0)

    reference = kept(file("reference"), lambda: mean(reference_errors, layouts[0]))
    return [
        RelativeError(kept(file(row_name(layout)), functools.partial(mean, diagonal_errors, layout)), reference)
        for layout in layouts
    ]


def row_name(layout: QueueLayout) -> dict[str, Any]:
    """What tells a layout from others of the same partitions."""
    band = "none" if isinstance(layout, Unbanded) else layout.band
    named = {"partitions": layout.partitions, "lookahead": "banded" if layout.banded else layout.lookahead}
    return named | ({"band": band} if layout.banded else {})


def row(layout: QueueLayout, result: RelativeError, lookahead: RelativeError) -> dict[str, Any]:
    """What is written of one setting."""
    named = row_name(layout) | {"frame_forwards_per_frame": layout.frame_forwards_per_frame}
    pairs = {
        "ratio_of_norms": result.ratio_of_norms(),
        "ratio_of_errors": result.ratio_of_errors(),
        "norms_above_lookahead": result.difference_of_norms(lookahead),
        "errors_above_lookahead": result.difference_of_errors(lookahead),
    }
    for name, (value, error) in pairs.items():
        named |= {name: round(value, 4), f"{name}_se": round(error, 4)}
    print(named, flush=True)
    named["reference_error"] = round(float(result.reference_BS.mean()), 5)
    return named | {"curve": [round(value, 4) for value in result.curve()]}


def plot() -> None:
    """The curves over slots of the three models, from their JSON files (wants matplotlib)."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    results = {
        name: json.loads((RESULTS / f"toybox_relative_mse{suffix}.json").read_text())["settings"]
        for name, suffix in (("toybox", ""), ("control", "_control"), ("toybox-diagonal", "_diagonal"))
    }
    partitions = sorted({row["partitions"] for row in results["toybox"]})
    figure, axes = plt.subplots(1, len(partitions), figsize=(11, 3.6), sharey=True, squeeze=False)
    for axis, n in zip(axes[0], partitions, strict=True):
        for color, (name, rows) in enumerate(results.items()):
            for row in (row for row in rows if row["partitions"] == n):
                label = f"{name}{', lookahead' if row['lookahead'] else ''}"
                axis.plot(row["curve"], f"C{color}", ls="-" if row["lookahead"] else ":", lw=1.2, label=label)
        axis.axhline(1, color="gray", lw=0.6)
        axis.set(title=f"n = {n}", xlabel="slot, head to tail")
    axes[0][0].set(ylabel="ratio of norms (Eq. 7)")
    axes[0][-1].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(RESULTS.parent / "images" / "toybox_relative_mse.png", dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="toybox")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--draws", type=int, default=1, help="noise draws per clip")
    parser.add_argument("--partitions", type=int, nargs="*", default=(1, 2, 4))
    parser.add_argument("--bands", type=band, nargs="*", default=())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=int, nargs=2, default=(0, 1), metavar=("K", "OF"), help="which clips")
    parser.add_argument("--parts", type=Path, default=Path("work/mse"), help="where parts are kept")
    parser.add_argument("--name", default="toybox_relative_mse")
    parser.add_argument("--plot", action="store_true", help="draw the curves of the files that are there")
    args = parser.parse_args()
    if args.plot:
        return plot()
    torch.set_num_threads(1)
    model, generator = FIFO.from_pretrained(args.model).model, torch.Generator().manual_seed(args.seed)
    frames = max(args.partitions) * model.frames + model.frames // 2
    layouts = {n: [QueueLayout(model.frames, n, lookahead) for lookahead in (False, True)] for n in args.partitions}
    for n, chosen in layouts.items():
        for b in args.bands:
            chosen.append(Unbanded(model.frames, n) if b == "none" else BandedLayout(model.frames, n, band=b))
    found: dict[int, list[list[RelativeError]]] = {n: [] for n in args.partitions}
    folder = args.parts / args.name
    folder.mkdir(parents=True, exist_ok=True)
    for number, (clips, texts) in enumerate(draw_clips(args.clips, frames, args.seed)):
        noises = [torch.randn(clips.shape, generator=generator) for _ in range(args.draws)]
        if number % args.share[1] != args.share[0]:
            continue
        for n, chosen in layouts.items():
            first = frames - n * model.frames - model.frames // 2  # the same last frames for every n
            given = clips[:, :, first:], [noise[:, :, first:] for noise in noises]
            file = functools.partial(part_file, folder, f"{number}-{n}", [args.model, args.seed, args.draws, texts])
            found[n].append(errors_of(model, chosen, *given, texts, file))
    if args.share[1] > 1:
        return None
    rows = []
    for n, chosen in layouts.items():
        results = [RelativeError.over_clips(parts) for parts in zip(*found[n], strict=True)]
        rows += [row(layout, result, results[1]) for layout, result in zip(chosen, results, strict=True)]
    write(args.name, {"clips": args.clips, "draws": args.draws, "seed": args.seed, "guidance": None, "settings": rows})


if __name__ == "__main__":
    main()
