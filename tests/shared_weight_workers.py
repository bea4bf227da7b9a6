"""What the ranks of test_shared_weights.py do."""

from typing import Any

import numpy as np
import torch.distributed as dist

from fifo_diffusion import FIFO
from fifo_diffusion.execution.ranks import RankError
from fifo_diffusion.execution.shared_weights import local_bytes
from fifo_diffusion.testing import tiny, tiny_wan

BUILD = {
    "wan": tiny_wan.pipeline,
    "two experts": tiny_wan.two_transformers,
    "unet": lambda: tiny.pipeline(**tiny.LIGHT),
}
SCHEDULE = {0: "a cat", 18: "a dog on the sea"}
CALL = {"seed": 1, "num_frames": 17, "window": 4, "num_partitions": 3, "lookahead": False, "start": "noise"}
"""Three windows, so that two ranks have one and two, and less while the queue fills."""
SIZE = {"wan": tiny_wan.SIZE, "two experts": tiny_wan.SIZE, "unet": {"height": 16, "width": 16}}


def spread(_: FIFO, rank: int, kind: str) -> dict[str, Any]:
    """A video, how often this rank called its denoisers, and bytes of the weights that it has, and had."""
    pipe = BUILD[kind]()
    names = [name for name in ("transformer", "transformer_2", "unet") if getattr(pipe, name, None) is not None]
    denoisers = [getattr(pipe, name) for name in names]
    whole = [local_bytes(denoiser) for denoiser in denoisers]
    fifo = FIFO(pipe, group=dist.group.WORLD, shard_weights=True)
    calls: list[int] = []
    for denoiser in denoisers:
        denoiser.register_forward_hook(lambda *_: calls.append(1))
    stream = fifo.stream(SCHEDULE, **CALL | SIZE[kind])
    frames = list(stream)
    return {
        "frames": np.stack(frames) if rank == 0 else frames,
        "calls": len(calls),
        "whole": whole,
        "bytes": [local_bytes(denoiser) for denoiser in denoisers],
        "fingerprint": fifo.model.fingerprint(),
        "state": stream.state().fingerprint if rank == 0 else "",
    }


def failing(_: FIFO, rank: int) -> str:
    """Rank 1 fails between two of its windows, when others are about to gather weights."""
    fifo = FIFO(BUILD["wan"](), group=dist.group.WORLD, shard_weights=True)
    predict, count = fifo.model.predict, []

    def fail(*arguments: Any) -> Any:
        count.append(1)
        if rank == 1 and len(count) == 4:
            raise RuntimeError("a bad day")
        return predict(*arguments)

    fifo.model.predict = fail
    try:
        list(fifo.stream("a cat", **CALL | SIZE["wan"]))
    except (RankError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""
