"""Print the lowest version that pyproject.toml allows of each requirement but torch, as constraints for pip."""

import re
import tomllib
from pathlib import Path

EXTRAS = ("lora", "cuts", "eval", "studio")


def lowest(requirement: str) -> str:
    """`name==version` from `name>=version`, whatever else it says."""
    name, version = re.match(r"([\w-]+)>=([\w.]+)", requirement).groups()
    return f"{name}=={version}"


def main() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needs = [*project["dependencies"], *(n for extra in EXTRAS for n in project["optional-dependencies"][extra])]
    print(*(lowest(need) for need in needs if not need.startswith("torch>")), sep="\n")


if __name__ == "__main__":
    main()
