"""Pictures and image inputs of every rule, and the model inputs that the reference computes of them."""

from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec.structs import replace
from PIL import Image

from edgewright.kernels.checks.buffers import Rng
from edgewright.kernels.checks.preprocessing import make_image_input
from edgewright.kernels.preprocessing import PILLOW_ORDERS_PASSES, TALL
from edgewright.packaging.pictures import GoldenPicture, prepare_picture
from edgewright.schema.arrays import Array
from edgewright.tasks.data.images import UnreadableSample
from edgewright.tasks.spec.task import ImageInput

MOST_PIXELS = 96


class InputCase(NamedTuple):
    """A picture, an image input, and the model input that `edgewright evaluate` computes; None if it rejects it."""

    picture: GoldenPicture
    spec: ImageInput
    wanted: Array | None

    def describe(self) -> dict[str, Any]:
        """Return what a generated project knows of it, with the number of bytes of the model input."""
        height, width, channels = self.picture.pixels.shape
        parameters = {**msgspec.to_builtins(self.spec), "rows_first_if_tall": PILLOW_ORDERS_PASSES}
        sizes = {"width": width, "height": height, "channels": channels, "orientation": self.picture.orientation}
        return {**sizes, "parameters": parameters, "bytes": 0 if self.wanted is None else self.wanted.nbytes}


def make_float_cases(seed: int, count: int) -> list[InputCase]:
    """Return the same as `make_cases`, with model inputs in float32."""
    cases = [(one.picture, replace(one.spec, dtype="float32")) for one in make_cases(seed, count)]
    return [InputCase(picture, spec, _prepare(picture, spec)) for picture, spec in cases]


def make_picture(rng: Rng) -> GoldenPicture:
    """Return a picture of odd size: gray, in color, or with transparency."""
    height, width = (int(one) for one in rng.integers(1, MOST_PIXELS, 2))
    channels = int(rng.choice([1, 3, 3, 4]))
    base = rng.integers(0, 256, (max(2, height // 7), max(2, width // 7), channels), np.uint8)
    planes = [np.asarray(Image.fromarray(base[:, :, k]).resize((width, height), 3)) for k in range(channels)]
    noisy = np.stack(planes, axis=-1).astype(np.int32) + rng.integers(-20, 21, (height, width, channels))
    return GoldenPicture(noisy.clip(0, 255).astype(np.uint8), int(rng.integers(1, 9)))


def make_cases(seed: int, count: int) -> list[InputCase]:
    """Return `count` pictures, each with an image input of random rules."""
    rng, cases = np.random.default_rng(seed), list[InputCase]()
    while len(cases) < count:
        alpha: Any = str(rng.choice(["drop", "white", "black"]))
        picture, spec = make_picture(rng), replace(make_image_input(rng), alpha=alpha)
        sides = picture.pixels.shape[:2]
        if PILLOW_ORDERS_PASSES or max(sides) <= TALL * min(sides):
            cases.append(InputCase(picture, spec, _prepare(picture, spec)))
    return cases


def _prepare(picture: GoldenPicture, spec: ImageInput) -> Array | None:
    try:
        return prepare_picture(picture, spec)
    except UnreadableSample:
        return None
