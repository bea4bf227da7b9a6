"""Videos in the layout that VBench reads as custom input, and the command for each folder."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from fifo_diffusion.evaluation.whole_files import video_once, write_text
from fifo_diffusion.video import iter_frames

DIMENSIONS = (
    "subject_consistency",
    "background_consistency",
    "motion_smoothness",
    "dynamic_degree",
    "aesthetic_quality",
    "imaging_quality",
)
"""Those that VBench computes for videos of any prompt."""


def export(folder: Path, videos: Mapping[str, Sequence[tuple[str, Path]]], fps: float = 10) -> list[str]:
    """Write `folder`/METHOD/PROMPT-0.mp4.

    Args:
        videos: prompts and folders of PNGs for each method.

    Returns:
        the commands to run, one for each method; DIMENSION stands for each of `DIMENSIONS`.
    """
    commands = []
    for name, own in videos.items():
        place = folder / name
        taken: Counter[str] = Counter()
        for prompt, source in own:
            text = _file_name(prompt)
            video_once(place / f"{text}-{taken[text]}.mp4", partial(iter_frames, source), fps, crf=10)
            taken[text] += 1  # prompts that begin alike
        commands.append(f"vbench evaluate --dimension DIMENSION --videos_path {place} --mode=custom_input")
    write_text(folder / "dimensions.txt", "\n".join(DIMENSIONS) + "\n")
    return commands


def _file_name(prompt: str) -> str:
    """The prompt, without what cannot be in a file's name, and not longer than one."""
    text = re.sub(r'[\x00-\x1f\x7f<>:"/\\|?*]', " ", prompt).strip(" .") or "-"
    return text.encode("utf-8", "ignore")[:180].decode("utf-8", "ignore").strip(" .")
