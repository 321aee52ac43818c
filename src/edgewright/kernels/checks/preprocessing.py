"""Check of preprocessing against the reference of `edgewright.tasks`."""

from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace

from edgewright.kernels.checks.buffers import Rng, describe_difference, make_frame, pick_side
from edgewright.kernels.frames import YuvFrame, convert_yuv
from edgewright.kernels.preprocessing import COLORS, INTERPOLATIONS, LAYOUTS, RESIZE_RULES, TYPES, run_core
from edgewright.schema.arrays import Array
from edgewright.tasks.data.images import UnreadableSample, prepare_image, to_image, to_mode
from edgewright.tasks.spec.task import ImageInput

MOST_PIXELS = 96
MAX_LEVELS = 1.001  # one, and the rounding of float32


class _Case(NamedTuple):
    """Planes of a frame for the core, and the same frame in RGB for the reference."""

    kind: str
    planes: tuple[Array, ...]
    rgb: Array


def check_preprocess(rng: Rng, isa: str) -> str:
    """Return how one random frame and task differ from the reference; empty if not."""
    spec = make_image_input(rng)
    case = _make_case(rng, spec)
    want, got = compute_reference(case, spec), run_core(case.planes, case.kind, spec, isa)
    if want is None:
        return "" if got is None else f"{spec}: a frame is accepted that the reference rejects"
    difference = "it was left to the reference" if got is None else describe_difference(want, got)
    return difference and f"{case.kind} {case.rgb.shape[:2]}, {spec}: {difference}"


def check_preprocess_fast(rng: Rng, isa: str) -> str:
    """Return whether one random frame and task differ from the reference by over one gray level."""
    spec = replace(make_image_input(rng), interpolation="bilinear")
    case = _make_case(rng, spec)
    want, got = compute_reference(case, spec), run_core(case.planes, case.kind, spec, isa, exact=False)
    if want is None or got is None:
        return "" if want is got else f"{spec}: rejected by one of both"
    if not spec.dtype.startswith("float"):
        return describe_difference(want, got)
    level = np.abs(np.asarray(spec.scale) / np.asarray(spec.std))
    level = level.reshape(-1, 1, 1) if spec.layout == "NCHW" else level
    worst = float((np.abs(want.astype(np.float64) - got) / level).max())
    return "" if worst <= MAX_LEVELS else f"{case.kind} {case.rgb.shape[:2]}, {spec}: {worst:.3f} gray levels"


def _make_case(rng: Rng, spec: ImageInput) -> _Case:
    height, width = spec.size if rng.random() < 0.1 else (pick_side(rng, MOST_PIXELS), pick_side(rng, MOST_PIXELS))
    kind: Any = rng.choice(["rgb", "rgb", "nv21", "nv12", "i420"])
    if kind == "rgb":
        frame = make_frame(rng, height, width)
        return _Case(kind, (frame,), frame)
    high, wide = (height + 1) // 2, (width + 1) // 2
    shapes = [(high, wide)] * 2 if kind == "i420" else [(high, 2 * wide)]
    planes = tuple(make_frame(rng, *shape, 1)[:, :, 0] for shape in ((height, width), *shapes))
    return _Case(kind, planes, convert_yuv(YuvFrame(kind, planes)))


def compute_reference(case: _Case, spec: ImageInput) -> Array | None:
    try:
        return prepare_image(to_mode(to_image(case.rgb), spec), spec)[0]
    except UnreadableSample:
        return None


def make_image_input(rng: Rng) -> ImageInput:
    """Return a random image input of any rule."""
    resize: Any = str(rng.choice(RESIZE_RULES))
    antialias = bool(rng.random() < 0.6)
    color: Any = str(rng.choice(COLORS))
    size = (pick_side(rng, MOST_PIXELS // 2), pick_side(rng, MOST_PIXELS // 2))
    interpolation: Any = str(rng.choice(INTERPOLATIONS[: 6 if antialias else 3]))
    layout: Any = str(rng.choice(LAYOUTS))
    dtype: Any = str(rng.choice(TYPES))
    channels = 1 if color == "gray" else 3
    return ImageInput(
        name="image",
        size=size,
        resize=resize,
        resize_to=_make_resize_to(rng, resize, size),
        crop="none" if rng.random() < 0.2 else "center",
        interpolation=interpolation,
        antialias=antialias,
        pad_value=int(rng.integers(256)),
        pad_align="corner" if rng.random() < 0.5 else "center",
        color=color,
        scale=float(rng.uniform(-0.01, 1)),
        mean=tuple(float(one) for one in rng.uniform(-1, 200, channels)),
        std=tuple(float(one) for one in rng.uniform(0.1, 100, channels)),
        layout=layout,
        dtype=dtype,
    )


def _make_resize_to(rng: Rng, resize: str, size: tuple[int, int]) -> int | tuple[int, ...] | None:
    more = [int(one) for one in rng.integers(0, 9, 2)]
    if resize not in ("shorter", "exact") or rng.random() < 0.5:
        return None
    if resize == "shorter":
        return min(size) + more[0]
    return (size[0] + more[0], size[1] + more[1]) if rng.random() < 0.5 else max(size) + more[0]
