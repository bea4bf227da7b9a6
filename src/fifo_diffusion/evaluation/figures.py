"""Plots and contact sheets, each as PNG and SVG. Needs matplotlib (`pip install matplotlib`)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Curves = Mapping[str, tuple[Sequence[float], Sequence[float]]]
"""{name: (x, y)}"""


def curves(
    lines: Curves,
    x: str,
    y: str,
    *,
    title: str = "",
    level: float | None = None,
    log: bool = False,
    log_x: bool = False,
) -> Any:
    """Lines in one plot; `level` is a horizontal line to compare with."""
    figure = _figure(7, 3.6)
    axis = figure.add_subplot()
    for name, (xs, ys) in lines.items():
        axis.plot(xs, ys, marker="o" if len(xs) < 20 else "", ms=3, lw=1.3, label=name)
    if level is not None:
        axis.axhline(level, color="gray", lw=0.8, ls=":")
    axis.set(xlabel=x, ylabel=y, title=title, yscale="log" if log else "linear", xscale="log" if log_x else "linear")
    if log:
        axis.yaxis.get_major_locator().set_params(subs=(1, 2, 5))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter("")
    axis.legend(fontsize=7)
    return figure


def histograms(groups: Mapping[str, Sequence[float]], x: str, *, bins: int = 12) -> Any:
    """One histogram for each group, below each other, over the same range."""
    figure = _figure(6, 0.5 + 0.95 * len(groups))
    axes = figure.subplots(len(groups), 1, sharex=True, squeeze=False)[:, 0]
    edges = np.linspace(0, max(max(values) for values in groups.values()) or 1, bins + 1)
    for axis, (name, values) in zip(axes, groups.items(), strict=True):
        axis.hist(values, edges, color="C0")
        axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
        axis.yaxis.get_major_locator().set_params(integer=True)
    axes[-1].set_xlabel(x)
    return figure


def sheet(rows: Mapping[str, Sequence[np.ndarray]]) -> Any:
    """A contact sheet: frames (H, W, 3) in a row for each name."""
    most = max(map(len, rows.values()))
    height, width = next(iter(rows.values()))[0].shape[:2]
    figure = _figure(1.2 + 0.75 * most, 0.8 * len(rows) * height / width + 0.1)
    axes = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for axis, (name, frames) in zip(axes, rows.items(), strict=True):
        lined = [np.pad(frame, ((1, 1), (1, 1), (0, 0)), constant_values=255) for frame in frames]
        lined += [np.full_like(lined[0], 255)] * (most - len(frames))
        axis.imshow(np.concatenate(lined, 1), interpolation="nearest")
        axis.set(xticks=[], yticks=[])
        axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
        for side in axis.spines.values():
            side.set_visible(False)
    return figure


def save(figure: Any, folder: Path, name: str) -> Path:
    """Write NAME.png and NAME.svg; the path of the PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    figure.savefig(folder / f"{name}.png", dpi=110)
    return folder / f"{name}.png"


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure  # without pyplot: no window system, no state

    return Figure((width, height), layout="constrained")
