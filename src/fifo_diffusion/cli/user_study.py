"""`python -m fifo_diffusion.cli.user_study study/key.json answers-*.csv`: how often each method was preferred."""

import csv
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fifo_diffusion.evaluation.whole_files import load_object
from fifo_diffusion.study.user_study import analyse


def main(arguments: Sequence[str]) -> int:
    """Print the analysis of some files of answers."""
    if len(arguments) < 2:
        print("usage: python -m fifo_diffusion.cli.user_study key.json answers-1.csv ...", file=sys.stderr)
        return 2
    key = load_object(Path(arguments[0]))
    if key is None:
        print(f"{arguments[0]} is no key.json of a user study", file=sys.stderr)
        return 2
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
