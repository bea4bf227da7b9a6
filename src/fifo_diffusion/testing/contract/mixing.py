"""How the mixing of frames is switched off in transformers of several families."""

from contextlib import contextmanager

import pytest
from diffusers.models.attention_processor import Attention


@contextmanager
def without_joint_attention():
    """Within, attention over text and video, and the text's own, give nothing."""

    def forward(self, hidden_states, encoder_hidden_states=None, **_):
        nothing = 0 * hidden_states
        return nothing if encoder_hidden_states is None else (nothing, 0 * encoder_hidden_states)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Attention, "forward", forward)
        yield
