"""Layouts as the settings of a stream name them."""

from types import SimpleNamespace

from fifo_diffusion.method import layout_of


def queue_layout(window, num_partitions, lookahead=True, frames_per_level=1, layout="partitions", cache=1, anchors=0):
    return layout_of(SimpleNamespace(**locals(), anchors_every=None, anchor_level="window", clean_levels=None))
