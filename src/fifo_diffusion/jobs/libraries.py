"""The libraries below us."""

import os
import sys
import warnings


def quiet_libraries() -> None:
    """No bars, logs or warnings of the libraries below us; downloads show their bars in a terminal."""
    warnings.simplefilter("ignore")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import diffusers
    import huggingface_hub
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    huggingface_hub.logging.set_verbosity_error()
    if sys.stderr.isatty() and not os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS"):
        huggingface_hub.utils.enable_progress_bars()
