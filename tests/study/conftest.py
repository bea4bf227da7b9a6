import json

import pytest

from evaluations import SMALL
from fifo_diffusion.cli.main import main
from fifo_diffusion.study import run as evaluate
from fifo_diffusion.study import worker as evaluate_worker
from fifo_diffusion.testing import tiny


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A folder with a tiny pipeline, and one video."""
    folder = tmp_path_factory.mktemp("model")
    tiny.pipeline(**tiny.LIGHT).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def evaluated(model, tmp_path, monkeypatch, capsys):
    """Runs an evaluation, tasks in this process: (exit code, report, what was said)."""

    def here(task, result):
        code = evaluate_worker.work(task | {"result": str(result)})
        return json.loads((result if code == 0 else result.with_suffix(".error")).read_text())

    monkeypatch.setattr(evaluate, "run_task", here)

    def run(*options, folder="report", **changes):
        file = tmp_path / "given.json"
        file.write_text(json.dumps({"model": model} | SMALL | changes))
        code = main(["evaluate", "--config", str(file), "-o", str(tmp_path / folder), *options])
        path = tmp_path / folder / "report.json"
        report = json.loads(path.read_text()) if path.exists() else None
        return code, report, capsys.readouterr().err

    run.folder = tmp_path / "report"
    return run
