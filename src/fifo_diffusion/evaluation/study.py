"""A user study: blinded pairs of videos on static pages, answers as CSV, and their analysis.

`python -m fifo_diffusion.evaluation.study study/key.json answers-*.csv` prints how often each method was preferred.
"""

import csv
import html
import json
import math
import random
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fifo_diffusion.video import iter_frames, write_video

CRITERIA = {
    "overall": "Which video do you prefer overall?",
    "plausibility": "In which is the motion more plausible?",
    "magnitude": "In which is there more motion?",
    "fidelity": "Which fits the text better?",
    "aesthetics": "Which looks better?",
}
"""The five questions of the paper (appendix B.1)."""
CHOICES = ("A", "draw", "B")

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

    python -m fifo_diffusion.evaluation.study key.json answers-*.csv
"""


def write(
    folder: Path, videos: Mapping[str, Sequence[tuple[str, Path]]], ours: str, *, seed: int = 0, fps: float = 10
) -> None:
    """Write index.html, videos/, key.json and README.txt: every prompt of every rival against `ours`.

    Args:
        videos: prompts and folders of PNGs for each method.
        seed: of the order of pairs and sides.
    """
    rng, pairs = random.Random(seed), []
    mine = dict(videos[ours])
    for name, own in videos.items():
        pairs += [(prompt, ours, mine[prompt], name, path) for prompt, path in own if name != ours and prompt in mine]
    rng.shuffle(pairs)
    key, parts = {}, []
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    for number, (prompt, *sides) in enumerate(pairs):
        both = [(sides[0], sides[1]), (sides[2], sides[3])]
        rng.shuffle(both)
        key[str(number)] = {"prompt": prompt, "A": both[0][0], "B": both[1][0]}
        for letter, (_, source) in zip("AB", both, strict=True):
            target = folder / "videos" / f"{number}{letter}.mp4"
            if not target.exists():
                write_video(target, iter_frames(source), fps=fps, crf=16)
        parts.append(_pair(number, prompt))
    (folder / "index.html").write_text(PAGE.format(pairs="".join(parts)))
    (folder / "key.json").write_text(json.dumps(key, indent=1) + "\n")
    (folder / "README.txt").write_text(README)


def _pair(number: int, prompt: str) -> str:
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
    """How often `ours` was preferred to each rival by each criterion.

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
        rival = pair["B"] if pair["A"] == ours else pair["A"]
        who = "draw" if answer == "draw" else "ours" if pair[answer] == ours else "theirs"
        counts.setdefault((rival, criterion), Counter())[who] += 1
    return [
        {
            "rival": rival,
            "criterion": criterion,
            **{name: count[name] for name in ("ours", "draw", "theirs")},
            "p": round(sign_test(count["ours"], count["theirs"]), 4),
        }
        for (rival, criterion), count in sorted(counts.items())
    ]


def sign_test(wins: int, losses: int) -> float:
    """Two-sided: the probability of a division at least as uneven by chance."""
    count, most = wins + losses, max(wins, losses)
    tail = sum(math.comb(count, k) for k in range(most, count + 1)) / 2**count
    return min(1.0, 2 * tail)


def main(arguments: Sequence[str]) -> int:
    """Print the analysis of some files of answers."""
    if len(arguments) < 2:
        print("usage: python -m fifo_diffusion.evaluation.study key.json answers-1.csv ...", file=sys.stderr)
        return 2
    key = json.loads(Path(arguments[0]).read_text())
    names = Counter(name for pair in key.values() for name in (pair["A"], pair["B"]))
    ours, answers = names.most_common(1)[0][0], []
    for path in arguments[1:]:
        with open(path, newline="") as file:
            answers += list(csv.DictReader(file))
    for row in analyse(key, answers, "fifo" if "fifo" in names else ours):
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
