"""The methods that FIFO-Diffusion is compared with, on the same base models and through the same writers."""

from .methods import PEERS, Peer
from .settings import PeerSettings
from .stream import PeerStream, peer_stream

__all__ = ["PEERS", "Peer", "PeerSettings", "PeerStream", "peer_stream"]
