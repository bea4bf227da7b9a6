"""What a shell is told when the tabulator key is pressed."""

import os
import subprocess
import sys

import pytest

from fifo_diffusion.cli.main import main
from fifo_diffusion.jobs.runs.run import Runs
from fifo_diffusion.layout_list import LAYOUTS
from fifo_diffusion.models.loading.checkpoints import CHECKPOINTS
from fifo_diffusion.settings.presets import PRESETS

pytestmark = pytest.mark.usefixtures("in_a_folder_of_its_own")


@pytest.fixture
def offered(monkeypatch, capsys):
    """What is offered in the place of the last word."""

    def ask(*words, shell="bash"):
        monkeypatch.setenv("_FIFO_DIFFUSION_COMPLETE", f"complete_{shell}")
        monkeypatch.setenv("COMP_WORDS", " ".join(["fifo-diffusion", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", " ".join(["fifo-diffusion", *words]))
        monkeypatch.setattr(sys, "argv", ["fifo-diffusion"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        return capsys.readouterr().out

    return ask


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["gen"], ["generate"]),
        (["generate", "--num-p"], ["--num-partitions"]),
        (["generate", "--preset", ""], list(PRESETS)),
        (["generate", "--layout", ""], list(LAYOUTS)),
        (["generate", "--model", "toy"], ["toybox", "toybox-diagonal"]),
        (
            ["generate", "--model", "Wan-AI/Wan2.1-T2V-1"],
            [n for n in CHECKPOINTS if n.startswith("Wan-AI/Wan2.1-T2V-1")],
        ),
        (["generate", "--method", "f"], ["fifo", "freenoise"]),
        (["generate", "--dtype", "b"], ["bfloat16", "bf16"]),
        (["evaluate", "--preset", "l"], ["live"]),
        (["generate", "--start", "c"], ["clip"]),
        (["generate", "-o", "x"], []),
    ],
)
def test_words(offered, words, expected):
    assert offered(*words).split() == expected


def test_runs(offered, monkeypatch):
    run = Runs("there").create({"prompt": "a red ball", "seed": 1})
    assert offered("runs", "show", "").split() == ["last"]
    monkeypatch.setenv("FIFO_DIFFUSION_RUNS", "there")
    assert offered("runs", "show", "").split() == [run.id, "last"]
    assert run.id in offered("runs", "stop", "run", shell="zsh")
    assert "a red ball" in offered("runs", "stop", "run", shell="zsh")


def test_the_script_of_a_shell(monkeypatch, capsys):
    monkeypatch.setenv("_FIFO_DIFFUSION_COMPLETE", "source_bash")
    monkeypatch.setattr(sys, "argv", ["fifo-diffusion"])
    with pytest.raises(SystemExit):
        main()
    assert "complete -o default -F _fifo_diffusion_completion fifo-diffusion" in capsys.readouterr().out


def test_no_pytorch():
    code = "import sys; from fifo_diffusion.cli.main import main\n"
    code += "try:\n    main()\nfinally:\n    print('torch' in sys.modules)"
    environment = os.environ | {"_FIFO_DIFFUSION_COMPLETE": "complete_bash", "COMP_CWORD": "3"}
    environment["COMP_WORDS"] = "fifo-diffusion generate --model toybox-"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["toybox-diagonal", "False"]
