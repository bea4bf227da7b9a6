"""A denoiser's weights spread over ranks, with Gloo on the CPU."""

import numpy as np
import pytest
import torch

import shared_weight_workers
from fifo_diffusion import FIFO
from fifo_diffusion.cli.main import main
from fifo_diffusion.testing import frames, same, tiny_wan
from rank_workers import on_ranks
from shared_weight_workers import BUILD, CALL, SCHEDULE, SIZE

pytest.importorskip("torch.distributed.fsdp", reason="this PyTorch has no fully_shard")
pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed")


@pytest.mark.parametrize(
    ("kind", "size"),
    [("wan", 2), ("two experts", 2), pytest.param("two experts", 3, marks=pytest.mark.slow), ("unet", 2)],
)
def test_the_same_frames_with_a_share_of_the_weights_on_each_rank(kind, size, tmp_path):
    """Ranks with other windows than the others call their denoisers less often, or the other one."""
    alone = FIFO(BUILD[kind]())
    expected = frames(alone.stream(SCHEDULE, **CALL | SIZE[kind]))
    found = on_ranks(shared_weight_workers.spread, size, tmp_path / "ranks", kind)
    assert same(found[0]["frames"], expected)
    assert not same(np.roll(found[0]["frames"], 1, axis=0), expected)
    for whole, *parts in zip(found[0]["whole"], *(each["bytes"] for each in found), strict=True):
        assert sum(parts) == whole
        assert max(parts) < 1.1 * whole / size  # what does not divide is on the first ranks
    assert len({each["calls"] for each in found}) > 1
    assert {each["fingerprint"] for each in found} == {alone.model.fingerprint()} == {found[0]["state"]}
    assert all(frame is None for each in found[1:] for frame in each["frames"])


def test_a_failure_on_one_rank_is_told_where_weights_are_shared(tmp_path):
    assert on_ranks(shared_weight_workers.failing, 2, tmp_path / "ranks") == [
        "RankError: rank 1 ended the run: a bad day",
        "RuntimeError: a bad day",
    ]


class TwoRanks:
    """Enough to be refused."""

    rank, size = 0, 2


def test_what_cannot_be_shared_is_refused(capsys):
    with pytest.raises(ValueError, match=r"^shard_weights=True: there is one process: start several with torchrun"):
        FIFO(tiny_wan.pipeline(), shard_weights=True)
    model = FIFO(tiny_wan.pipeline()).model
    model.compile()
    with pytest.raises(ValueError, match=r"^shard_weights=True: pipe.transformer is compiled: leave one of the two"):
        model.shard(TwoRanks())
    pipe = tiny_wan.two_transformers()
    pipe.transformer_2.enable_layerwise_casting(torch.float8_e4m3fn, torch.float32)
    with pytest.raises(ValueError, match=r"pipe.transformer_2 is offloaded, or its weights are cast: leave"):
        FIFO(pipe).model.shard(TwoRanks())
    assert main(["generate", "a ball", "--shard-weights", "--dry-run"]) == 2
    assert "--shard-weights: there is one process: start several with torchrun" in capsys.readouterr().err
