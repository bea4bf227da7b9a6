"""The table in docs/models.md of every pipeline class of diffusers that makes or changes videos, and whether FIFO takes
it.

python benchmarks/pipeline_census.py           # writes the table
python benchmarks/pipeline_census.py --check   # says which classes of the installed diffusers it does not know
"""

import argparse
import ast
import re
from importlib.util import find_spec
from pathlib import Path

from fifo_diffusion.models.family_list import FAMILIES
from fifo_diffusion.models.loading.refused_pipelines import REFUSED

DOCS = Path(__file__).resolve().parents[1] / "docs" / "models.md"
BEGIN, END = "<!-- census: written by benchmarks/pipeline_census.py -->\n", "<!-- end of the census -->\n"
OF_VIDEOS = {"num_frames", "frames", "video_length", "video"}
"""Arguments that only calls of such pipelines have."""
NAMES = re.compile(r"Video|AnimateDiff|Cosmos|LTX|Wan[A-Z]|Kandinsky[56]")


def video_pipelines() -> set[str]:
    """Public pipeline classes of the installed diffusers that make or change videos, by name or by what their call
    takes. Read from the source: to import them all takes half a minute."""
    spec = find_spec("diffusers")
    assert spec is not None
    package = Path(str(spec.origin)).parent
    public = set(re.findall(r'"(\w+Pipeline)"', (package / "__init__.py").read_text("utf-8")))
    found = set()
    for path in (package / "pipelines").rglob("*.py"):
        for node in ast.parse(path.read_text("utf-8")).body:
            if not isinstance(node, ast.ClassDef) or node.name not in public:
                continue
            calls = [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__call__"]
            taken = {argument.arg for call in calls for argument in (*call.args.args, *call.args.kwonlyargs)}
            if taken & OF_VIDEOS or NAMES.search(node.name):
                found.add(node.name)
    return found | modular_pipelines(package, public)


def modular_pipelines(package: Path, public: set[str]) -> set[str]:
    """Those of them that are modular: of the folders that have a block which puts videos out."""
    found = set()
    for path in (package / "modular_pipelines").glob("*/modular_pipeline.py"):
        if any('"videos"' in blocks.read_text("utf-8") for blocks in path.parent.glob("*.py")):
            found |= set(re.findall(r"^class (\w+)\(", path.read_text("utf-8"), re.MULTILINE)) & public
    return found


def table() -> str:
    """The census as Markdown."""
    accepted = {name: family for family in FAMILIES for name in family.every}
    lines = [
        "| pipeline class | FIFO | what was verified, and how; or why not, and what comes nearest |",
        "|---|---|---|",
    ]
    lines += [f"| `{name}` | yes | {accepted[name].name}: {accepted[name].verified} |" for name in sorted(accepted)]
    lines += [f"| `{name}` | no | {REFUSED[name].why}: {REFUSED[name].instead} |" for name in sorted(REFUSED)]
    return "\n".join(lines) + "\n"


def with_table(text: str) -> str:
    """docs/models.md with the census as it is now."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}{table()}{END}{rest.partition(END)[2]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, and name classes that are not known")
    if parser.parse_args().check:
        known = {name for family in FAMILIES for name in family.every} | REFUSED.keys()
        print("\n".join(sorted(video_pipelines() - known)) or "all are known")
        return
    DOCS.write_text(with_table(DOCS.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
