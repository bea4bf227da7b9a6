"""The one error of video files."""


class VideoFileError(RuntimeError):
    """A video file cannot be written or read: missing, taken, damaged, no room on the disk.

    The message is one line that says what is wrong and what to do. What the caller got wrong (an unknown suffix, a
    frame of the wrong shape) is a `ValueError` instead.
    """
