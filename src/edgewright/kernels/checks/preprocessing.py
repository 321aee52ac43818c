"""Check of preprocessing against the reference of `edgewright.tasks`."""

from typing import Any

from edgewright.kernels.checks.buffers import Rng, describe_difference, make_frame, pick_side
from edgewright.kernels.preprocessing import COLORS, INTERPOLATIONS, LAYOUTS, RESIZE_RULES, TYPES, run_core
from edgewright.tasks.data.images import UnreadableSample, prepare_image, to_image, to_mode
from edgewright.tasks.spec.task import ImageInput

MOST_PIXELS = 96


def check_preprocess(rng: Rng, isa: str) -> str:
    """Return how one random frame and task differ from the reference; empty if not."""
    spec = _make_spec(rng)
    height, width = spec.size if rng.random() < 0.1 else (pick_side(rng, MOST_PIXELS), pick_side(rng, MOST_PIXELS))
    frame = make_frame(rng, height, width)
    try:
        want = prepare_image(to_mode(to_image(frame), spec), spec)[0]
    except UnreadableSample:
        return "" if run_core(frame, spec, isa) is None else f"{spec}: a frame is accepted that the reference rejects"
    got = run_core(frame, spec, isa)
    difference = "it was left to the reference" if got is None else describe_difference(want, got)
    return difference and f"{height} × {width}, {spec}: {difference}"


def _make_spec(rng: Rng) -> ImageInput:
    """Return a random image input of any rule."""
    resize: Any = rng.choice(RESIZE_RULES)
    antialias = bool(rng.random() < 0.6)
    color: Any = rng.choice(COLORS)
    size = (pick_side(rng, MOST_PIXELS // 2), pick_side(rng, MOST_PIXELS // 2))
    interpolation: Any = rng.choice(INTERPOLATIONS[: 6 if antialias else 3])
    layout: Any = rng.choice(LAYOUTS)
    dtype: Any = rng.choice(TYPES)
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
