"""The methods that FIFO-Diffusion is compared with, on the same base models and through the same writers."""

from fifo_diffusion.baselines.methods import PEERS, Peer
from fifo_diffusion.baselines.settings import PeerSettings
from fifo_diffusion.baselines.stream import PeerStream, peer_stream

__all__ = ["PEERS", "Peer", "PeerSettings", "PeerStream", "peer_stream"]
