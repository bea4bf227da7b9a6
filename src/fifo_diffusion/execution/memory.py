"""Memory that runs out, by whatever name the device or the library calls it."""

_SAID = (
    "out of memory",  # CUDA, MPS, XPU
    "not enough memory",  # PyTorch on a CPU, Windows
    "can't allocate memory",  # PyTorch on a CPU, elsewhere
    "cannot allocate memory",  # the C library
    "alloc_cpu.cpp",  # PyTorch's check of a size that no memory has
    "bad_alloc",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is no memory left, on a GPU or on the CPU."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    text = str(error).lower()
    return bool(kinds & {"OutOfMemoryError", "MemoryError"}) or any(words in text for words in _SAID)
