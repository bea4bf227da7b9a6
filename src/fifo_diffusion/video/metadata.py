"""Settings in a video file: a dict of strings, kept as JSON in the comment that every format has."""

import json
import os
from pathlib import Path

from PIL import Image

from fifo_diffusion.video.errors import VideoFileError
from fifo_diffusion.video.moving import opened_container
from fifo_diffusion.video.readers import images_in, is_image
from fifo_diffusion.video.stills import opened_image

PNG_KEY = "Comment"  # the PNG standard's own keyword for it


def to_comment(metadata: dict[str, str]) -> str:
    """The text that is stored in the file. What is no text (a byte of a file name that is not UTF-8) is written out."""
    return json.dumps({_text_of(key): _text_of(value) for key, value in metadata.items()}, ensure_ascii=False)


def _text_of(value: object) -> str:
    return str(value).encode("utf-8", "backslashreplace").decode()


def from_comment(comment: str) -> dict[str, str]:
    """The dict in a stored text; a comment by another program comes back as `{"comment": text}`."""
    try:
        metadata = json.loads(comment)
        if isinstance(metadata, dict):
            return {key: str(value) for key, value in metadata.items()}
    except (ValueError, RecursionError):
        pass
    return {"comment": comment} if comment else {}


def read_metadata(path: str | Path) -> dict[str, str]:
    """What `metadata` was when `path` (mp4, webm, gif, a PNG or a folder of them) was written; {} if there is none.

    Works on files that were never completed. Raises `VideoFileError` if the file cannot be read.
    """
    if not str(path):  # as a `Path` it would be the folder that one is in
        raise VideoFileError("'' is no name of a file: give a video, a picture or a folder of pictures")
    path = Path(path)
    if os.path.isdir(path):
        path = images_in(path)[0]
    if is_image(path):
        with opened_image(path) as image:
            return from_comment(_text(image))
    with opened_container(path) as container:
        tags = {key.lower(): value for key, value in container.metadata.items()}
        return from_comment(tags.get("comment", ""))


def _text(image: Image.Image) -> str:
    comment = image.info.get(PNG_KEY, image.info.get("comment", ""))
    return comment.decode("utf-8", "replace") if isinstance(comment, bytes) else str(comment)
