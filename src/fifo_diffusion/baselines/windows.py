"""Sliding windows over a video, for methods that look at f frames at a time."""


def sliding(count: int, size: int, stride: int) -> list[range]:
    """Windows of `size` frames every `stride` frames; a last one at the very end where they do not reach it.

    >>> sliding(11, 4, 3)
    [range(0, 4), range(3, 7), range(6, 10), range(7, 11)]
    >>> sliding(3, 4, 3)
    [range(0, 3)]
    """
    if count <= size:
        return [range(count)]
    starts = [*range(0, count - size + 1, stride)]
    if starts[-1] + size < count:
        starts.append(count - size)
    return [range(start, start + size) for start in starts]
