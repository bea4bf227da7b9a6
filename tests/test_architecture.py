"""The house of docs/architecture.md: which room may import which, no circles, no long files. Read from the syntax tree,
so that imports inside functions, relative ones and those for type checkers count too."""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src"
PACKAGE = "fifo_diffusion"

FLOORS = (
    {"text", "version", "method_list", "layout_list"},
    {"errors", "files"},
    {"settings"},
    {"method", "video", "toybox"},
    {"decoding"},
    {"execution"},
    {"models"},
    {"streaming"},
    {"pipeline", "baselines"},
    {"jobs"},
    {"evaluation"},
    {"study"},
    {"studio"},
    {"cli"},
    {"testing"},
)
"""A room imports itself and rooms of lower floors. `fifo_diffusion/__init__.py` and `__main__.py` stand above all, and
nothing but the command, evaluation and tests imports the package by its front door."""

WRITERS_OPENED = {("jobs.run", "_open"), ("video.writers", "write_video"), ("video.writers", "check_output")}
"""Who may open a writer: the runner, for every stream; the short way of the library; the check that leaves everything
as it is."""

TERMINAL = {
    "video.y4m": "raw video goes to standard output",
    "studio.planning": "the process that counts costs answers on standard output",
    "jobs.libraries": "downloads have bars where standard error is a terminal",
}
"""Modules outside of the command that know of the standard streams."""


def modules(source: Path = SOURCE) -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in (source / PACKAGE).rglob("*.py"):
        parts = path.relative_to(source).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def parsed(text: str) -> ast.AST:
    return ast.parse(text)


def imports(name: str, every: Mapping[str, Path]) -> Iterator[str]:
    """The package's modules that a module imports anywhere in its file."""
    path = every[name]
    here = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(parsed(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(here[: len(here) - node.level + 1]) if node.level else ""
            target = ".".join(filter(None, (base, node.module)))
            names = [f"{target}.{alias.name}" for alias in node.names]
        else:
            continue
        for wanted in names:
            if wanted.split(".")[0] == PACKAGE:
                while wanted not in every:
                    wanted = wanted.rpartition(".")[0]
                yield wanted


def room(module: str) -> str:
    """`fifo_diffusion.method.queue` -> `method`; the front door -> ''."""
    return [*module.split("."), ""][1]


def faults(source: Path = SOURCE) -> list[str]:
    """Imports that go up, or across from one room to another of the same floor."""
    every, floor = modules(source), {name: number for number, names in enumerate(FLOORS) for name in names}
    wrong = []
    for name in every:
        if room(name) in ("", "__main__"):
            continue
        if room(name) not in floor:
            wrong.append(f"{name} is in no room of the table")
            continue
        for other in imports(name, every):
            there = room(other)
            if there == room(name) or (there == "" and floor[room(name)] > floor["pipeline"]):
                continue
            if floor.get(there, len(FLOORS)) >= floor[room(name)]:
                wrong.append(f"{name} imports {other}")
    return wrong


def circles(source: Path = SOURCE) -> list[tuple[str, ...]]:
    """Groups of modules that import each other, directly or through others (Tarjan's strongly connected components).
    A package's `__init__` counts as a module like any other."""
    every = modules(source)
    graph = {name: sorted(set(imports(name, every)) - {name}) for name in every}
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[tuple[str, ...]] = []

    def visit(name: str) -> None:
        number[name] = low[name] = len(number)
        stack.append(name)
        for other in graph[name]:
            if other not in number:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], number[other])
        if low[name] == number[name]:
            group = []
            while not group or group[-1] != name:
                group.append(stack.pop())
            if len(group) > 1:
                found.append(tuple(sorted(group)))

    for name in graph:
        if name not in number:
            visit(name)
    return found


def test_rooms_import_only_rooms_below():
    assert faults() == []


def test_no_module_imports_itself_through_others():
    assert circles() == []


def test_no_file_is_longer_than_400_lines():
    long = {name: len(path.read_text("utf-8").splitlines()) for name, path in modules().items()}
    assert {name: lines for name, lines in long.items() if lines > 400} == {}


def test_no_test_module_is_imported_by_another_one_or_by_a_benchmark():
    """What several need is in `fifo_diffusion.testing`, or in a helper beside the tests."""
    root, found = SOURCE.parent, []
    for path in [*root.glob("tests/**/*.py"), *root.glob("benchmarks/*.py")]:
        for node in ast.walk(parsed(path.read_text("utf-8"))):
            names = [alias.name for alias in getattr(node, "names", ())] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [f"{path.name} imports {name}" for name in names if name.startswith("test_")]
    assert found == []


def calls(tree: ast.AST, name: str, function: str = "") -> Iterator[str]:
    """The innermost functions in which one of this name is called, as `name(...)` or `anything.name(...)`."""
    for node in ast.iter_child_nodes(tree):
        inside = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else function
        if isinstance(node, ast.Call):
            called = node.func
            if getattr(called, "id", getattr(called, "attr", "")) == name:
                yield function
        yield from calls(node, name, inside)


def talks(tree: ast.AST) -> bool:
    """Whether a module prints, or has to do with a standard stream that one writes to."""
    streams = {"stdout", "stderr", "__stdout__", "__stderr__"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "sys" and node.attr in streams:
            return True
        if isinstance(node, ast.ImportFrom) and node.module == "sys" and streams & {a.name for a in node.names}:
            return True
        if isinstance(node, ast.Attribute) and node.attr in ("print_exc", "print_stack", "print_exception"):
            return True
        if isinstance(node, ast.Name) and node.id == "print":
            return True
    return False


def trees() -> dict[str, ast.AST]:
    """The syntax tree of every module, by its name without the package's."""
    return {name.removeprefix(f"{PACKAGE}."): parsed(path.read_text("utf-8")) for name, path in modules().items()}


def test_one_place_opens_a_writer_for_a_stream():
    assert {(name, where) for name, tree in trees().items() for where in calls(tree, "open_writer")} == WRITERS_OPENED


def test_nothing_but_the_command_prints():
    found = {name for name, tree in trees().items() if talks(tree) and room(f"{PACKAGE}.{name}") != "cli"}
    assert found == TERMINAL.keys()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("print('x')", True),
        ("def f():\n    print('x')", True),
        ("import sys\nsys.stderr.write('x')", True),
        ("from sys import stdout", True),
        ("import traceback\ntraceback.print_exc()", True),
        ("call(progress=print)", True),
        ("sys.stdin.read()", False),
        ("pprint('x')", False),
    ],
)
def test_what_prints_is_seen(text, expected):
    assert talks(ast.parse(text)) is expected


def test_a_second_writer_is_seen():
    text = (
        "def f():\n    with open_writer(x) as w, video.open_writer(y): pass\nclass C:\n    def g(self): open_writer(z)"
    )
    assert list(calls(ast.parse(text), "open_writer")) == ["f", "f", "g"]


@pytest.fixture
def small_house(tmp_path):
    """A package with one right import, into which a test puts a wrong one."""
    for name, text in {
        "__init__": "",
        "method/__init__": "",
        "method/queue": "",
        "execution/__init__": "",
        "execution/batches": f"from {PACKAGE}.method import queue\n",
        "models/__init__": "",
        "models/base": "",
    }.items():
        path = tmp_path / PACKAGE / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert faults(tmp_path) == []
    assert circles(tmp_path) == []
    return tmp_path


@pytest.mark.parametrize(
    "line",
    [
        f"from {PACKAGE}.execution import batches",
        f"import {PACKAGE}.execution.batches",
        "from ..execution import batches",
        f"def late():\n    from {PACKAGE}.execution.batches import anything",
        f"from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from {PACKAGE}.execution.batches import Run",
    ],
    ids=["from", "import", "relative", "in a function", "for type checkers"],
)
def test_an_import_upstairs_and_the_circle_it_makes_are_seen(small_house, line):
    (small_house / PACKAGE / "method" / "queue.py").write_text(line + "\n")
    assert any("method.queue imports" in fault for fault in faults(small_house))
    assert any(f"{PACKAGE}.method.queue" in group for group in circles(small_house))


def test_a_room_that_is_not_in_the_table_is_seen(small_house):
    (small_house / PACKAGE / "attic.py").write_text("")
    assert faults(small_house) == [f"{PACKAGE}.attic is in no room of the table"]
