"""A small model in a folder, loaded once, and what makes runs with it."""

import shutil

import pytest

from fifo_diffusion import FIFO
from fifo_diffusion.jobs.events import FrameDone
from fifo_diffusion.jobs.runs.making import make
from fifo_diffusion.jobs.runs.run import Run, Runs
from fifo_diffusion.jobs.stop import Stop
from fifo_diffusion.testing import tiny


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny.pipeline(**tiny.LIGHT).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def loaded(model_folder):
    with FIFO.from_pretrained(model_folder, device="cpu") as fifo:
        fifo.model.denoise = _denoise
        yield fifo


def _denoise(latents_RCFHW, timestep_RF, condition):
    """In place of the U-Net, which takes its time: every frame depends on its text, its level and its neighbours."""
    text = condition.rows(len(latents_RCFHW))
    tone = text.mean((-1, -2)).reshape(len(text), 1, -1, 1, 1) * 5
    level = timestep_RF.reshape(len(text), 1, -1, 1, 1) / 1000
    beside = latents_RCFHW.roll(1, 2) + latents_RCFHW.roll(-1, 2)
    return (0.7 * latents_RCFHW + 0.1 * beside + tone + 0.1 * level).tanh()


class Bench:
    """A folder of runs, and this process as their maker."""

    def __init__(self, root, model_folder, loaded):
        self.runs, self.loaded, self.frames = Runs(root), loaded, {}
        self.small = {"model": str(model_folder), "device": "cpu", "seed": 3, "window": 4, "num_partitions": 1}
        self.small |= {"lookahead": False, "height": 16, "width": 16, "state_every": 8}

    def create(self, prompt="a red ball", num_frames=20, **changes):
        said = {"prompt": prompt} if isinstance(prompt, str) else {"schedule": prompt}
        return self.runs.create(self.small | said | {"num_frames": num_frames} | changes)

    def make(self, run, at=None, **options):
        """As far as it goes; `at` are functions to call when there are so many frames. Keeps the frames made."""
        kept = self.frames.setdefault(run.id, {})

        def told(event):
            if isinstance(event, FrameDone):
                kept[event.frames - 1] = event.frame.copy()
                if at and event.frames in at:
                    at[event.frames]()

        lock = run.lock()
        assert lock.take()
        with lock:
            return make(run, lambda _: self.loaded, on_event=told, **options)

    def twin(self, run):
        """The same run, queued, in another folder of runs."""
        shutil.copytree(run.folder, self.runs.root.with_name("twins") / run.id)
        return Run(self.runs.root.with_name("twins") / run.id)

    def stops(self, run, frames):
        """Made until a stop like Ctrl-C comes after so many frames."""
        stop = Stop()
        return self.make(run, {frames: lambda: stop.ask("a test")}, stop=stop)

    def same(self, one, other, frames):
        return all((self.frames[one.id][k] == self.frames[other.id][k]).all() for k in frames)


@pytest.fixture
def bench(tmp_path, monkeypatch, model_folder, loaded):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Bench(tmp_path / "runs", model_folder, loaded)
