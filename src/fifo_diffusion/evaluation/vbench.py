"""Videos in the layout that VBench reads as custom input, and the command for each folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from fifo_diffusion.video import iter_frames, write_video

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
        place.mkdir(parents=True, exist_ok=True)
        for prompt, source in own:
            target = place / f"{_file_name(prompt)}-0.mp4"
            if not target.exists():
                write_video(target, iter_frames(source), fps=fps, crf=10)
        commands.append(f"vbench evaluate --dimension DIMENSION --videos_path {place} --mode=custom_input")
    (folder / "dimensions.txt").write_text("\n".join(DIMENSIONS) + "\n")
    return commands


def _file_name(prompt: str) -> str:
    """The prompt, without what cannot be in a file's name."""
    return prompt.replace("/", " ").strip()[:180]
