"""Layers of a banded pass: who sees whom in each kind."""

import pytest
import torch
import torch.nn.functional as F

from banding import LAYOUTS, random, shifted, temporal_block
from fifo_diffusion.method import BandedLayout
from fifo_diffusion.models.banded import layers as banded_layers
from fifo_diffusion.models.banded.table import BandTable
from fifo_diffusion.testing import TOLERANCE, distance, tiny_animatediff, tiny_videocrafter

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def placed_block():
    return temporal_block(tiny_animatediff.pipeline())


@pytest.fixture(scope="module")
def relative_block():
    return temporal_block(tiny_videocrafter.light("vc1_512"))


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_a_frame_attends_to_its_band_only(layout, pipe):
    """Against the stock processor on the frames of the band, one frame after the other."""
    layer = temporal_block(pipe).attn1
    assert_each_sees_its_band(
        layout, layer, lambda bands, x: banded_layers.BandedAttention(BandTable(bands, CPU))(layer, x)
    )


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_a_frame_has_the_place_of_its_window_in_every_band(layout, placed_block):
    """AnimateDiff's layers are given frames with their places in the window added: of every band, as if it were one."""
    block = placed_block
    places = block.pos_embed.pe[0, : layout.frames]

    def found(bands, hidden):
        return banded_layers.PlacedBandedAttention(BandTable(bands, CPU), places)(block.attn1, hidden)

    assert_each_sees_its_band(layout, lambda x: block.attn1(block.pos_embed(x)), found, block.attn1.query_dim)
    hidden = random(6, layout.size, block.attn1.query_dim)
    with torch.no_grad():
        unplaced = banded_layers.BandedAttention(BandTable(layout.bands, CPU))(block.attn1, hidden)
        assert distance(unplaced, found(layout.bands, hidden)) > 1e-2


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_distances_between_frames_are_what_they_are(layout, relative_block):
    """VideoCrafter1's layers know how far frames are apart; here up to two, so that farther ones are there too."""
    layer = relative_block.attn1

    def found(bands, hidden):
        return banded_layers.RelativeBandedAttention(BandTable(bands, CPU), layer)(hidden)

    assert_each_sees_its_band(layout, layer, found, layer.query_dim)


def assert_each_sees_its_band(layout, layer, found, width=None):
    """`found(bands, hidden)` against the layer on the frames of one band after the other."""
    hidden = random(6, layout.size, width or layer.to_q.in_features)
    with torch.no_grad():
        right = found(layout.bands, hidden)
        for p, band in enumerate(layout.bands):
            expected = layer(hidden[:, band.start : band.stop])[:, p - band.start]
            assert distance(right[:, p], expected) < TOLERANCE
        assert distance(found(shifted(layout), hidden), right) > 1e-2


def test_rows_beyond_what_a_kernel_takes(pipe, monkeypatch):
    layer = temporal_block(pipe).attn1
    table, hidden = BandTable(LAYOUTS[2].bands, CPU), random(7, LAYOUTS[2].size, layer.to_q.in_features)
    with torch.no_grad():
        expected = banded_layers.BandedAttention(table)(layer, hidden)
        monkeypatch.setattr(banded_layers, "MOST_ROWS", 16)
        assert distance(banded_layers.BandedAttention(table)(layer, hidden), expected) < 1e-6


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_a_norm_pools_over_the_band(layout, dtype, affine):
    hidden = random(2, 8, layout.size, 3, 5).add(3).mul(random(1, 1, layout.size, 1, 1, seed=1)).to(dtype)
    weight = random(2, 8, seed=2).to(dtype) if affine else (None, None)
    found = banded_layers.banded_group_norm(BandTable(layout.bands, CPU), hidden, 4, *weight, eps=1e-5)
    assert (found.dtype, found.shape) == (dtype, hidden.shape)
    for p, band in enumerate(layout.bands):
        expected = F.group_norm(hidden[:, :, band.start : band.stop], 4, *weight, eps=1e-5)[:, :, p - band.start]
        assert distance(found[:, :, p], expected) < (TOLERANCE if dtype is torch.float32 else 0.01)
    assert distance(found, F.group_norm(hidden, 4, *weight, eps=1e-5)) > 0.05


def test_convolutions_run_along_the_queue_and_stop_where_nobody_sees_across():
    for layout in LAYOUTS:
        runs = BandTable(layout.bands, CPU).runs
        assert runs == ([layout.size] if layout.lookahead else [layout.frames] * layout.partitions)


def test_blocks_of_attention_do_not_grow_with_the_queue():
    """Only the band is computed, up to a small factor, for all lengths that a queue takes while it is filled."""
    for band in ("windows", 11):
        layout = BandedLayout(16, 8, band=band)
        for count in range(16, layout.size + 1):
            table = BandTable(layout.last_bands(count), CPU)
            assert count <= table.queries.numel() < count + len(table.queries)
            assert table.queries.shape[1] < 3 * 16
            assert table.keys.shape[1] < 3.25 * 16
