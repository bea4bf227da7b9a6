"""The embedded text-to-video model: a small diffusers pipeline that ships with the package.

`DiffusionPipeline.from_pretrained(PIPELINE_FOLDER)` loads it; `FIFO.from_pretrained("toybox")` does so for you. With
`variant="diagonal"` (`"toybox-diagonal"`) the U-Net is one that was trained further on windows of a queue.
"""

from pathlib import Path

PIPELINE_FOLDER = Path(__file__).parent / "pipeline"

NUM_FRAMES = 16
FPS = 10
GUIDANCE_SCALE = 2.5

COLORS = ("red", "green", "blue", "yellow", "purple")
SHAPES = ("ball", "square", "triangle")
MOTIONS = ("moving left", "moving right", "moving up", "moving down")
BACKGROUNDS = ("black", "white", "navy", "beige")
PLACES = ("hills", "mountains", "city", "desert")
TIMES = ("on a sunny day", "at sunset", "at night")

PROMPTS = (
    "a red ball moving left on a black background",
    "a yellow square moving up on a navy background",
    "a blue ball moving down on a beige background",
    "a red ball moving right on a navy background",
    "hills scrolling to the left on a sunny day",
    "a red robot walking to the right in the hills on a sunny day",
)


def describe() -> str:
    """What the model understands, for people who want to write prompts for it."""
    return f"""\
Toybox understands three kinds of sentences (64x64 pixels, clips of {NUM_FRAMES} frames,
{FPS} frames per second):

  a COLOR SHAPE MOTION on a BACKGROUND background
  PLACE scrolling to the left|right TIME
  a COLOR robot walking to the left|right in the PLACE TIME

  COLOR       {", ".join(COLORS)}
  SHAPE       {", ".join(SHAPES)}
  MOTION      {", ".join(MOTIONS)}
  BACKGROUND  {", ".join(BACKGROUNDS)}
  PLACE       {", ".join(PLACES)}
  TIME        {", ".join(TIMES)}

Other words are read letter by letter and mean nothing to it."""
