"""What the tests of model folders share: changes to a copy of one, and how it must be refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor

from fifo_diffusion import FIFO


def change(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def weights(folder: Path, part: str) -> Path:
    return next((folder / part).glob("*.safetensors"))


def rewrite(path: Path, make: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    save_file(make(load_file(path)), path, metadata={"format": "pt"})


def refused(path: Path | str, match: str, kind: type[Exception] = ValueError) -> str:
    """Refused by the name given, in one line that does not blame the connection; before loading where that can be."""
    with pytest.raises(kind, match=match) as caught:
        FIFO.from_pretrained(path, device="cpu")
    assert "\n" not in str(caught.value)
    assert "hf auth" not in str(caught.value)
    return str(caught.value)
