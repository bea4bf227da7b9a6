"""Host memory does not depend on the length of the video (invariant 6), through decoder and mp4 writer.

    python benchmarks/memory.py            # both runs: 20,000 frames of a stand-in denoiser, 2,000 of toybox
    python benchmarks/memory.py stub --frames 5000

Each run is a process of its own. The figure is the highest resident memory of the second half above the highest of
frames 200 to 1,000.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import common

RUNS = {"stub": 20_000, "toybox": 2_000}
SETTINGS = {"num_partitions": 1, "lookahead": False, "guidance_scale": 1.0}


def measure(kind: str, count: int) -> dict:
    """Generate `count` frames into an mp4 and watch the resident memory after every frame."""
    import torch

    from fifo_diffusion import FIFO, write_video
    from fifo_diffusion.models.loading.source import find_model
    from fifo_diffusion.models.unet3d.model import UNet3DModel

    class Stub(UNet3DModel):
        """The whole path but for the denoiser's arithmetic."""

        def predict(self, latents_BCFHW, timestep_BF, condition):
            return latents_BCFHW * 0.5

    torch.set_grad_enabled(True)
    pipe = find_model("toybox").load()
    fifo = FIFO(pipe, model=Stub(pipe) if kind == "stub" else None)
    resident = []
    stream = fifo.stream(
        "a red ball moving right on a navy background",
        seed=0,
        num_frames=count,
        callback_on_frame=lambda index, frame: resident.append(common.resident_mb()),
        **SETTINGS,
    )
    with tempfile.TemporaryDirectory() as folder:
        written = write_video(Path(folder) / "long.mp4", stream)
    early, late = max(resident[200:1000]), max(resident[count // 2 :])
    return {
        "frames": written,
        "settings": SETTINGS,
        "highest_mb_frames_200_to_1000": round(early, 1),
        "highest_mb_second_half": round(late, 1),
        "growth_mb": round(late - early, 1),
        "resident_mb_every_twentieth": [round(x, 1) for x in resident[:: max(1, count // 20)]],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", nargs="?", choices=RUNS)
    parser.add_argument("--frames", type=int)
    arguments = parser.parse_args()
    if arguments.kind:
        print(json.dumps(measure(arguments.kind, arguments.frames or RUNS[arguments.kind])))
        return
    results = {}
    for kind in RUNS:
        command = [sys.executable, __file__, kind, *(["--frames", str(arguments.frames)] if arguments.frames else [])]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        results[kind] = json.loads(output.splitlines()[-1])
        print(kind, results[kind], flush=True)
    common.write("memory", results)


if __name__ == "__main__":
    main()
