"""The built wheel holds the embedded model and works from an empty folder; the package is typed and starts fast."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel's content, and an environment in which nothing else of the project is found."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_generates_from_an_empty_folder(installed, tmp_path):
    code = "import fifo_diffusion; print(fifo_diffusion.__file__); from fifo_diffusion.cli.main import main; main()"
    command = [sys.executable, "-c", code, "generate", "a red ball moving right on a navy background"]
    command += ["-o", "ball.mp4", "--num-frames", "3", "--num-partitions", "1", "--no-lookahead", "--seed", "0"]
    command += ["--window", "4", "--height", "32", "--width", "32", "--guidance-scale", "1"]
    environment = os.environ | {"PYTHONPATH": str(installed), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert str(installed) in done.stdout
    from fifo_diffusion.video import count_frames

    assert count_frames(tmp_path / "ball.mp4") == 3


def test_the_wheel_is_typed_and_says_what_it_needs(installed):
    assert (installed / "fifo_diffusion" / "py.typed").exists()
    (metadata,) = installed.glob("*.dist-info/METADATA")
    text = metadata.read_text()
    assert "License-Expression: Apache-2.0" in text
    assert "Requires-Dist: torch" in text
    assert not list(installed.rglob("tests"))
    assert (installed / "fifo_diffusion" / "testing" / "contract" / "__init__.py").exists()


@pytest.mark.parametrize(
    ("which", "passes"),
    [
        ("without_frame_mixing or a_batch_of_videos or folder", 3),
        pytest.param("test", 28, marks=pytest.mark.slow),
    ],
    ids=["some", "all"],
)
def test_the_wheel_tests_a_model_of_somebody_else(installed, tmp_path, which, passes):
    """The model and the test of docs/adding-a-model.md, in a folder of their own, pass the contract; a model that mixes
    up the videos of a batch does not."""
    document = (ROOT / "docs" / "adding-a-model.md").read_text("utf-8")
    model, test = re.findall(r"```python\n(.*?)```", document, re.DOTALL)[:2]
    (tmp_path / "my_model.py").write_text(model)
    (tmp_path / "test_my_model.py").write_text(test)
    environment = os.environ | {"PYTHONPATH": str(installed), "HF_HUB_OFFLINE": "1"}

    def run(*options):
        command = [sys.executable, *options]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        return done.stdout

    contract = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow")
    assert run("-c", "import fifo_diffusion; print(fifo_diffusion.__file__)").startswith(str(installed))
    told = run(*contract, "-k", which)
    assert f"\n{passes} passed" in told, told[-3000:]
    assert "failed" not in told
    assert "error" not in told
    if which == "test":
        mixed = "pipe.unet.conv_in.register_forward_hook(lambda _module, _given, found: found.roll(1, 0))"
        (tmp_path / "my_model.py").write_text(model.replace("super().__init__(", f"{mixed}\n        super().__init__("))
        assert "1 failed" in run(*contract, "-k", "a_batch_of_videos")


def test_the_wheel_has_the_page_and_asks_for_three_packages_to_serve_it(installed):
    page = {path.name for path in (installed / "fifo_diffusion" / "studio" / "static").iterdir()}
    assert page == {path.name for path in (ROOT / "src" / "fifo_diffusion" / "studio" / "static").iterdir()}
    assert "index.html" in page
    (metadata,) = installed.glob("*.dist-info/METADATA")
    needs = re.findall(r"Requires-Dist: ([\w-]+)[^\n]*extra == 'studio'", metadata.read_text())
    assert sorted(needs) == ["python-multipart", "starlette", "uvicorn"]


def test_importing_the_package_loads_no_heavy_library():
    code = "import fifo_diffusion, sys; print([m for m in ('torch', 'diffusers') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_every_public_name_is_there():
    import fifo_diffusion

    now = {"QueueState": "RunState"}  # an earlier name, which scripts may know
    assert all(getattr(fifo_diffusion, name).__name__ == now.get(name, name) for name in fifo_diffusion.__all__)
