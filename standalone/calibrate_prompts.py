"""What a calibration walks along where nobody gives prompts: words of many kinds, the last quarter held out."""

from __future__ import annotations

from .measure import PROMPTS as MEASURED
from .measure import SCENES as MEASURED_SCENES
from .measure import draws_scenes

PROMPTS = (
    *MEASURED,
    "close-up of an old man's hands holding a cup of tea",
    "a red sports car on a coastal road at sunset",
    "a cozy bookshop interior, warm light, illustration",
    "portrait of a young woman with freckles, studio photo",
    "an isometric drawing of a small island with a lighthouse",
    "a plate of sushi, top view, food photography",
    "a wolf in a snowy forest at night under the moon, digital painting",
    "a bouquet of sunflowers in a glass vase, oil painting",
    "a robot reading a newspaper on a park bench",
    "an aerial photo of a river delta, green and brown",
    "a child's drawing of a house and a tree",
    "a skyscraper reflected in a puddle, black and white photo",
)
SCENES = (
    *MEASURED_SCENES,
    "a large blue triangle on a yellow background",
    "a small red heart at the top left on a white background",
    "a green ring to the right of a black square on an orange background",
    "a purple star on a cyan background",
    "a white cross at the bottom on a black background",
    "a grey circle below a pink diamond on a blue background",
    "a large orange square on a green background",
    "a small blue star in front of a large yellow circle on a purple background",
    "a black heart on a red background",
    "a cyan diamond in the middle on a grey background",
    "a yellow triangle to the left of a green cross on a white background",
    "a medium pink ring on a black background",
    "a white square at the right on a cyan background",
    "a red star above a blue ring on a pink background",
    "a small purple circle on an orange background",
    "a large green heart on a grey background",
)


def prompts_for(source: str) -> tuple[str, ...]:
    """The prompts for the model of this file."""
    return SCENES if draws_scenes(source) else PROMPTS


def parted(prompts: tuple[str, ...] | list[str]) -> tuple[list[str], list[str]]:
    """(to fit, held out): the last quarter of them is held out, one at least."""
    kept = max(len(prompts) // 4, 1)
    return list(prompts[:-kept]), list(prompts[-kept:])
