"""Whether the tests notice: the faults of mutants.json go into a copy of the source, one after the other, and the tests
that must go red are run. The file has, for each file of the package: a text in it, what stands there with the fault,
and the names of these tests.

    python benchmarks/mutants.py                   # all: a few seconds for each; needs fork (Linux, macOS)
    python benchmarks/mutants.py --missed          # those that are not caught in docs/results/mutants.json
    python benchmarks/mutants.py --only noise.py   # those whose file or text has this in it

The result goes to docs/results/mutants.json (with --missed beside what is there, with --only to mutants_some.json). A
fault that nothing notices is a test that is missing.
"""

import argparse
import compileall
import importlib
import json
import os
import py_compile
import re
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "fifo_diffusion"
MINUTES = 5
"""How long the tests of one fault may take; a fault that makes them hang is noticed."""


@dataclass(frozen=True)
class Fault:
    """A fault.

    Args:
        file: of the package.
        text: in it, once.
        instead: what stands there with the fault.
        tests: that must go red, any of them: names of files or of tests in them, between spaces.
    """

    file: str
    text: str
    instead: str
    tests: str

    def __str__(self) -> str:
        return f"{self.file}: {' '.join(self.text.split())}  ->  {' '.join(self.instead.split())}"


FAULTS = [
    Fault(file, *each)
    for file, of_file in json.loads((Path(__file__).parent / "mutants.json").read_text("utf-8")).items()
    for each in of_file
]


def files_of(tests: str) -> list[str]:
    """What pytest is told, from names of test files, which are unique."""
    told = []
    for name in tests.split():
        file, *rest = name.split("::")
        (path,) = (ROOT / "tests").rglob(f"{file}.py")
        told.append("::".join([str(path.relative_to(ROOT)), *rest]))
    return told


class Runner:
    """Runs tests in children of this process, which has loaded the libraries but nothing of the package: a child needs
    no time for that.

    Args:
        source: folder of the package that is tested.
    """

    def __init__(self, source: Path) -> None:
        self.source, self.said, self.names = source, source.parent / "said", source.parent / "modules"

    def run(self, tests: list[str], minutes: float = MINUTES) -> str:
        """The first of these tests that fails, or nothing.

        Raises:
            SystemExit: pytest could not run them.
        """
        begun = time.monotonic()
        child = os.fork()
        if not child:
            self._in_child(tests)
        while (done := os.waitpid(child, os.WNOHANG))[0] == 0:
            if time.monotonic() - begun > 60 * minutes:
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return "they hang"
            time.sleep(0.05)
        code, said = os.waitstatus_to_exitcode(done[1]), self.said.read_text("utf-8", "replace")
        if code not in (0, 1):
            sys.exit(f"{said[-3000:]}\npytest ended with {code}")
        found = re.search(r"^(?:FAILED|ERROR) (?:\S+/)?(\S+)", said, re.MULTILINE)
        return "" if code == 0 else found[1] if found else said[-3000:]

    def load_libraries(self) -> None:
        """What the tests loaded that is not theirs or ours."""
        for name in self.names.read_text("utf-8").split():
            with suppress(Exception):
                importlib.import_module(name)

    def _in_child(self, tests: list[str]) -> None:
        os.setpgid(0, 0)
        with open(self.said, "w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        os.environ["PYTHONPATH"] = str(self.source)
        sys.path.insert(0, str(self.source))
        os.chdir(ROOT)
        code = pytest.main(["-x", "-m", "not slow", "-p", "no:cacheprovider", *tests])
        own = (str(self.source), str(ROOT / "tests"))
        others = [
            n for n, m in list(sys.modules.items()) if not str(getattr(m, "__file__", None) or "").startswith(own)
        ]
        self.names.write_text("\n".join(others), "utf-8")
        sys.stdout.flush()
        os._exit(code)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="WORDS", help="the faults whose file or text has this in it")
    parser.add_argument("--missed", action="store_true", help="the faults that the last run of all did not catch")
    asked = parser.parse_args()
    known = _last_caught() if asked.missed else {}
    faults = [f for f in FAULTS if str(f) not in known and (asked.only is None or asked.only in str(f))]
    if not faults:
        sys.exit("there is no such fault")
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    caught, missed = dict[str, str](), list[str]()
    with tempfile.TemporaryDirectory() as folder:
        checkout = Path(folder) / "checkout"
        source = checkout / "src"
        shutil.copytree(PACKAGE, source / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
        # Where recorded numbers are looked for.
        (checkout / "tests").symlink_to(ROOT / "tests")
        (checkout.parent / "shared").symlink_to(ROOT.parent / "shared")
        # By content: what was changed within a second is seen.
        compileall.compile_dir(source, quiet=1, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
        runner = Runner(source)
        if failed := runner.run(sorted({test for fault in faults for test in files_of(fault.tests)}), 60):
            sys.exit(f"without any fault this fails: {failed}")
        runner.load_libraries()
        for fault in faults:
            path = source / PACKAGE.name / fault.file
            whole = path.read_text("utf-8")
            if whole.count(fault.text) != 1:
                sys.exit(f"{fault.file} has the text {whole.count(fault.text)} times, not once: {fault.text}")
            path.write_text(whole.replace(fault.text, fault.instead), "utf-8")
            test = runner.run(files_of(fault.tests))
            path.write_text(whole, "utf-8")
            print(f"{fault}\n    {'caught by ' + test if test else 'MISSED'}", flush=True)
            if test:
                caught[str(fault)] = test
            else:
                missed.append(str(fault))
    caught |= known
    print(f"{len(caught)} of {len(caught) + len(missed)} caught")
    measured = {"faults": len(caught) + len(missed), "missed": missed, "caught": caught}
    from common import write  # not before: it loads the package

    write("mutants" if asked.only is None else "mutants_some", measured)


def _last_caught() -> dict[str, str]:
    """What the last run of all caught, of the faults that there are now."""
    docs = Path(os.environ.get("FIFO_DIFFUSION_DOCS") or ROOT / "docs")
    found = json.loads((docs / "results" / "mutants.json").read_text("utf-8"))["caught"]
    return {str(fault): found[str(fault)] for fault in FAULTS if str(fault) in found}


if __name__ == "__main__":
    main()
