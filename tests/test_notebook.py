"""`examples/quickstart.ipynb` in a Jupyter kernel of its own, and the interrupt button of a real one."""

import json
import os
import queue
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"
REASON = "needs a Jupyter kernel: pip install '.[notebook]' in a clone"


def test_it_is_small_and_holds_no_outputs():
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) >= 6
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert NOTEBOOK.stat().st_size < 10_000


@pytest.fixture
def kernel_environment(monkeypatch, tmp_path):
    """Kernels of this interpreter, with this source."""
    pytest.importorskip("ipykernel", reason=REASON)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]))
    for name in ("IPYTHONDIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))


@pytest.mark.slow
def test_it_runs(kernel_environment, tmp_path):
    nbclient, nbformat = pytest.importorskip("nbclient", reason=REASON), pytest.importorskip("nbformat", reason=REASON)
    notebook = nbformat.read(NOTEBOOK, 4)
    nbformat.validate(notebook)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=900, kernel_name="python3", resources=resources).execute()
    shown = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if output.output_type in ("display_data", "execute_result")
    ]
    lines = [output.data.get("text/plain", "") for output in shown]
    assert [line for line in lines if line.startswith("40 frames, ")]
    assert [line for line in lines if line.startswith("80 frames, ")]
    assert [line for line in lines if line.startswith("<FrameStream: 100 frames of 64x64, 'a blue ball")]
    assert sum("<video" in output.data.get("text/html", "") for output in shown) == 2
    from fifo_diffusion.video import count_frames, read_fps

    assert [count_frames(tmp_path / name) for name in ("balls.mp4", "hills.mp4")] == [80, 60]
    assert read_fps(tmp_path / "balls.mp4") == 10


STREAM = """
from fifo_diffusion import FIFO
from fifo_diffusion.testing import tiny
fifo = FIFO(tiny.pipeline(**tiny.LIGHT))
def begin():
    return fifo.stream("a cat", seed=0, window=4, num_partitions=1, height=16, width=16)
stream = begin()
"""


@pytest.mark.slow
def test_the_interrupt_button_of_a_kernel(kernel_environment):
    manager = pytest.importorskip("jupyter_client.manager", reason=REASON)
    kernel, client = manager.start_new_kernel(kernel_name="python3", startup_timeout=120)
    try:

        def run(code):
            reply = client.execute_interactive(code, timeout=300, output_hook=lambda _: None)
            assert reply["content"]["status"] == "ok", reply["content"].get("traceback")

        run(STREAM)
        message = client.execute("frames = stream.show(every=0)")
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:  # until some frames are shown
            try:
                output = client.get_iopub_msg(timeout=1)
            except queue.Empty:
                continue
            if output["content"].get("data", {}).get("text/plain", "").startswith("5 frames"):
                break
        kernel.interrupt_kernel()
        while (reply := client.get_shell_msg(timeout=300))["parent_header"]["msg_id"] != message:
            pass
        assert reply["content"]["status"] == "ok", reply["content"]
        run("assert len(frames) == stream.frame_index >= 5, (len(frames), stream.frame_index)")
        run("frames += stream.show(3)")
        run("import numpy as np; again = begin()")
        run("assert np.array_equal(frames, [next(again) for _ in frames])")
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
