"""A user study: blinded pairs of videos on static pages, answers as CSV, and their analysis.

`python -m fifo_diffusion.cli.user_study study/key.json answers-*.csv` prints how often each method was preferred.
"""

import hashlib
import html
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fifo_diffusion.evaluation.whole_files import load_object, video_once, write_text
from fifo_diffusion.video import iter_frames

CRITERIA = {
    "overall": "Which video do you prefer overall?",
    "plausibility": "In which is the motion more plausible?",
    "magnitude": "In which is there more motion?",
    "fidelity": "Which fits the text better?",
    "aesthetics": "Which looks better?",
}
"""The five questions of the paper (appendix B.1)."""
CHOICES = ("A", "draw", "B")
DIGITS = 12  # of a pair's name

Key = Mapping[str, Mapping[str, str]]
"""{pair: {"prompt": ..., "A": method, "B": method}}"""

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Which video?</title>
<style>body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 960px; margin: 2em auto; padding: 0 1em }}
.pair {{ display: flex; gap: 1em }} video {{ width: 100%; image-rendering: pixelated }} fieldset {{ margin: .6em 0 }}
section {{ border-top: 1px solid #ccc; padding: 1em 0 }}</style>
<h1>Which video?</h1><p>For each pair of videos answer five questions. Then save the answers; nothing is sent.</p>
<p><label>Your number or nickname: <input id="who" required></label></p><form id="form">{pairs}</form>
<p><button id="save">Save the answers</button> <span id="told"></span></p><script>
document.getElementById("save").onclick = () => {{
  const who = document.getElementById("who").value.replace(/[",\\n]/g, " ").trim();
  const asked = [...document.querySelectorAll("fieldset")];
  const rows = asked.map(f => [who, f.dataset.pair, f.dataset.criterion, (f.querySelector(":checked") || {{}}).value]);
  const open = rows.filter(r => !r[3]).length;
  if (open || !who) {{
    document.getElementById("told").textContent = who ? open + " questions are open" : "a nickname is missing";
    return;
  }}
  const text = ["who,pair,criterion,answer", ...rows.map(r => r.join(","))].join("\\n") + "\\n";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], {{ type: "text/csv" }}));
  link.download = "answers-" + who + ".csv";
  link.click();
}};
</script></html>
"""

README = """index.html asks about pairs of videos; it can be opened
from disk, or put on a web server together with videos/.
Each rater saves a file answers-NAME.csv. key.json says which video is which: keep it away from the raters.

    python -m fifo_diffusion.cli.user_study key.json answers-*.csv
"""


def write_study(
    folder: Path, videos: Mapping[str, Sequence[tuple[str, Path]]], ours: str, *, seed: int = 0, fps: float = 10
) -> None:
    """Write index.html, videos/, key.json and README.txt: every prompt of every baseline against `ours`.

    A pair's name, its sides and the names of its files follow from what is in its videos, so that a folder may be
    written again, with other rows too: pairs that were there are the same, answers that were given still count, and
    key.json keeps the pairs that are no longer asked about.

    Args:
        videos: prompts and folders of PNGs for each method.
        seed: of the order of pairs and sides.
    """
    mine, key, parts = dict(videos[ours]), _earlier(folder), {}
    for name, own in videos.items():
        for prompt, path in own:
            if name == ours or prompt not in mine:
                continue
            sides = [(ours, mine[prompt]), (name, path)]
            number = _digest(
                str(seed), prompt, *(word for method, place in sides for word in (method, _content(place)))
            )
            if int(number, 16) % 2:
                sides.reverse()
            key[number] = {"prompt": prompt, "A": sides[0][0], "B": sides[1][0]}
            for letter, (_, source) in zip("AB", sides, strict=True):
                film = folder / "videos" / f"{number}{letter}.mp4"
                video_once(film, partial(iter_frames, source), fps, crf=16)
            parts[number] = _pair(number, prompt)
    pages = "".join(parts[number] for number in sorted(parts))
    write_text(folder / "key.json", json.dumps(key, indent=1) + "\n")
    write_text(folder / "index.html", PAGE.format(pairs=pages))
    write_text(folder / "README.txt", README)


def _earlier(folder: Path) -> dict[str, Any]:
    """The pairs of a key.json whose videos are there."""
    known = load_object(folder / "key.json") or {}
    return {
        number: pair
        for number, pair in known.items()
        if len(number) == DIGITS and all((folder / "videos" / f"{number}{letter}.mp4").exists() for letter in "AB")
    }


def _content(folder: Path) -> str:
    """Tells one folder of PNGs from another: by the sizes of all files, and some of their bytes."""
    files = sorted(folder.glob("*.png"))
    some = files[:: max(1, len(files) // 8)]
    return _digest(*(str(path.stat().st_size) for path in files), *(_digest(path.read_bytes()) for path in some))


def _digest(*words: str | bytes) -> str:
    parts = (word if isinstance(word, bytes) else word.encode("utf-8", "surrogatepass") for word in words)
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:DIGITS]


def _pair(number: str, prompt: str) -> str:
    films = "".join(
        f'<div><b>{letter}</b><video src="videos/{number}{letter}.mp4" autoplay loop muted playsinline></video></div>'
        for letter in "AB"
    )
    questions = "".join(
        f'<fieldset data-pair="{number}" data-criterion="{name}"><legend>{question}</legend>'
        + "".join(f'<label><input type="radio" name="{number}-{name}" value="{c}"> {c}</label> ' for c in CHOICES)
        + "</fieldset>"
        for name, question in CRITERIA.items()
    )
    return f'<section><p>{html.escape(prompt)}</p><div class="pair">{films}</div>{questions}</section>'


def analyse(key: Key, answers: Iterable[Mapping[str, str]], ours: str) -> list[dict[str, Any]]:
    """How often `ours` was preferred to each baseline by each criterion.

    Returns:
        rows with the counts `ours`, `draw` and `theirs`, and the probability of a division at least as uneven if
        both were equally good (two-sided sign test, draws left out).

    Raises:
        ValueError: an answer about an unknown pair, criterion or choice.
    """
    counts: dict[tuple[str, str], Counter[str]] = {}
    for row in answers:
        pair, criterion, answer = key.get(row["pair"]), row["criterion"], row["answer"]
        if pair is None or criterion not in CRITERIA or answer not in CHOICES:
            raise ValueError(f"an answer makes no sense: {dict(row)}")
        baseline = pair["B"] if pair["A"] == ours else pair["A"]
        who = "draw" if answer == "draw" else "ours" if pair[answer] == ours else "theirs"
        counts.setdefault((baseline, criterion), Counter())[who] += 1
    return [
        {
            "baseline": baseline,
            "criterion": criterion,
            **{name: count[name] for name in ("ours", "draw", "theirs")},
            "p": round(sign_test(count["ours"], count["theirs"]), 4),
        }
        for (baseline, criterion), count in sorted(counts.items())
    ]


def sign_test(wins: int, losses: int) -> float:
    """Two-sided: the probability of a division at least as uneven by chance."""
    count, most = wins + losses, max(wins, losses)
    tail = sum(math.comb(count, k) for k in range(most, count + 1)) / 2**count
    return min(1.0, 2 * tail)
