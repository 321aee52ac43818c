"""Image preprocessing of a task by the compiled core; bit-identical to `edgewright.tasks`, which is used without it."""

import ctypes
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL import __version__ as PILLOW_VERSION

from edgewright.errors import DataError
from edgewright.kernels.frames import YuvFrame, check_yuv, convert_yuv
from edgewright.kernels.library import NUMPY, choose_isa, get_levels, load_library
from edgewright.schema.arrays import Array
from edgewright.tasks.data.images import MAX_PIXELS, UnreadableSample, prepare_image, to_image, to_mode
from edgewright.tasks.data.resize import Placement, compute_placement
from edgewright.tasks.spec.file import read_task
from edgewright.tasks.spec.task import ImageInput, Task

RESIZE_RULES = ("shorter", "exact", "pad", "none")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
COLORS = ("RGB", "BGR", "gray")
LAYOUTS = ("NCHW", "NHWC")
TYPES = ("float32", "float16", "float64", "uint8", "int8", "int16", "int32", "int64", "bool")
FORMATS = ("rgb", "bgr", "rgba", "gray", "nv21", "nv12", "i420")
PLANS = 8  # kept for frames of the same size
PILLOW_ORDERS_PASSES = int(PILLOW_VERSION.partition(".")[0]) >= 13
TALL = 100  # Pillow 12 may resize images above this ratio in another order


class Parameters(ctypes.Structure):
    """`ewp_params` of edgewright_preprocess.h."""

    _fields_ = (
        *(
            (name, ctypes.c_int32)
            for name in (
                "height", "width", "resize", "resize_height", "resize_width", "crop", "interpolation", "antialias",
                "pad_value", "pad_center", "color", "layout", "dtype", "order",
            )
        ),
        *((name, ctypes.c_double * 3) for name in ("scale", "mean", "std")),
    )  # fmt: skip


class Frame(ctypes.Structure):
    """`ewp_frame` of edgewright_preprocess.h."""

    _fields_ = (
        ("format", ctypes.c_int32),
        ("height", ctypes.c_int32),
        ("width", ctypes.c_int32),
        ("plane", ctypes.c_void_p * 3),
        ("stride", ctypes.c_ssize_t * 3),
    )


def make_parameters(spec: ImageInput) -> Parameters:
    """Return the parameter block of the core."""
    to = spec.resize_to
    high, wide = (to, to) if isinstance(to, int) else to or (0, 0)
    return Parameters(
        *spec.size,
        RESIZE_RULES.index(spec.resize),
        high,
        wide,
        spec.crop == "center",
        INTERPOLATIONS.index(spec.interpolation),
        spec.antialias,
        spec.pad_value,
        spec.pad_align == "center",
        COLORS.index(spec.color),
        LAYOUTS.index(spec.layout),
        TYPES.index(spec.dtype),
        PILLOW_ORDERS_PASSES,
        *(_spread(one, spec.channels) for one in (spec.scale, spec.mean, spec.std)),
    )


def _spread(value: float | tuple[float, ...], channels: int) -> Any:
    numbers = value if isinstance(value, tuple) else (value,) * channels
    return (ctypes.c_double * 3)(*numbers)


class _Plan:
    """A plan of the core for frames of one size; freed with this object."""

    def __init__(self, library: ctypes.CDLL, spec: ImageInput, size: tuple[int, int], *, exact: bool) -> None:
        self._library, self._spec = library, spec
        self._plan, self._fast = ctypes.c_void_p(), ctypes.c_void_p()
        library.ewk_fast_new.restype = ctypes.c_void_p
        height, width = size
        status = library.ewp_new(ctypes.byref(make_parameters(spec)), width, height, ctypes.byref(self._plan))
        if status:
            raise MemoryError(f"the preprocessing core returned {status}")
        if not exact:  # null if the task has no fast path
            self._fast = ctypes.c_void_p(library.ewk_fast_new(self._plan))

    def run(self, planes: Sequence[Array], kind: str, level: int, out: Array) -> None:
        frame = Frame(FORMATS.index(kind), *planes[0].shape[:2])
        for position, plane in enumerate(planes):
            frame.plane[position], frame.stride[position] = plane.ctypes.data, plane.strides[0]
        at, to = ctypes.byref(frame), ctypes.c_void_p(out.ctypes.data)
        status = self._library.ewk_fast_run(level, self._fast, at, to) if self._fast else -1
        if status:  # the fast path does not have this format
            status = self._library.ewk_exact_run(level, self._plan, at, to)
        if status:
            raise ValueError(f"the preprocessing core returned {status}")

    def __del__(self) -> None:
        self._library.ewk_fast_free(self._fast)
        self._library.ewp_free(self._plan)


_plans: OrderedDict[Any, _Plan] = OrderedDict()  # those that no thread uses now


def preprocess(
    frame: Array | YuvFrame, task: Task | Path | str, *, exact: bool = True, out: Array | None = None
) -> Array:
    """Return the model input of a frame, as `edgewright evaluate` computes it.

    Args:
        frame: uint8 [height, width, 3], red, green and blue; or a camera's frame in YUV.
        task: the task or its file; its first image input is used.
        exact: equal to the reference bit for bit. False is faster and differs by at most one gray level; it applies to
            bilinear resizing of RGB and NV21 to float32, all else stays exact.
        out: array for the result, in one piece, which does not overlap the frame; by default a new one.

    Returns:
        An array with a batch of 1, in the layout and dtype of the task.

    Raises:
        DataError: the frame is not such an array, or has a size that the task rejects; or `out` does not fit.
        ConfigError: the task is not valid, or EDGEWRIGHT_KERNELS is not.
    """
    spec = _find_image_input(read_task(Path(task)) if isinstance(task, str | Path) else task)
    if isinstance(frame, YuvFrame):
        check_yuv(frame)
        planes, kind = frame.planes, str(frame.format)
    else:
        planes, kind = (_check_rgb(frame),), "rgb"
    height, width = planes[0].shape[:2]
    if height * width > MAX_PIXELS:
        why = f"it has {width} × {height} pixels, the limit is {MAX_PIXELS:,}"
        raise DataError("the frame cannot be preprocessed", why, "give a smaller frame")
    _check_out(out, spec, planes)
    try:
        if (prepared := run_core(planes, kind, spec, choose_isa(), exact=exact, out=out)) is not None:
            return prepared
        pixels = convert_yuv(frame) if isinstance(frame, YuvFrame) else frame
        prepared = prepare_image(to_mode(to_image(pixels), spec), spec)[0]
    except UnreadableSample as error:
        raise DataError("the frame cannot be preprocessed", str(error), "change the frame or the task") from None
    if out is None:
        return prepared
    out[...] = prepared
    return out


def _check_out(out: Array | None, spec: ImageInput, planes: Sequence[Array]) -> None:
    if out is None:
        return
    want = f"{spec.dtype} {list(spec.shape)}"
    if out.shape != spec.shape or out.dtype != spec.dtype:
        raise DataError("the result does not fit into `out`", f"it is {want}, `out` {out.dtype} {list(out.shape)}")
    if not out.flags.carray or any(np.may_share_memory(out, plane) for plane in planes):
        why = "`out` must be in one piece, aligned and writable, and must not overlap the frame"
        raise DataError("the result cannot be written to `out`", why, f"give numpy.empty({spec.shape}, '{spec.dtype}')")


def _check_rgb(frame: Array) -> Array:
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        kind = f"{frame.dtype} {list(frame.shape)}" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise DataError("the frame cannot be preprocessed", f"it is {kind}", "give a uint8 array [height, width, 3]")
    return frame


def _find_image_input(task: Task) -> ImageInput:
    for one in task.inputs:
        if isinstance(one, ImageInput):
            return one
    raise DataError("the task has no image input", "", "give a task with an input of kind 'image'")


def prepare_with_kernels(image: Image.Image, spec: ImageInput) -> tuple[Array, Placement]:
    """Return the model input of an image in mode RGB or L and its placement, as `prepare_image` of tasks does.

    It builds no library: a command that evaluates writes nothing outside of its folders.
    """
    placement = compute_placement(image.width, image.height, spec)
    kind = "gray" if image.mode == "L" else "rgb"
    prepared = run_core((np.asarray(image),), kind, spec, choose_isa(build=False)) if placement else None
    if placement is None or prepared is None:
        return prepare_image(image, spec)
    return prepared, placement


def run_core(
    planes: Sequence[Array], kind: str, spec: ImageInput, isa: str, *, exact: bool = True, out: Array | None = None
) -> Array | None:
    """Return the model input; None for what is left to the reference: numpy, errors, tall images in Pillow 12."""
    height, width = planes[0].shape[:2]
    library = None if isa == NUMPY or 0 in (height, width) else load_library()[0]
    if library is None:
        return None
    placement = compute_placement(width, height, spec)
    if placement is None or max(width * height, placement.resized[0] * placement.resized[1]) > MAX_PIXELS:
        return None
    if not PILLOW_ORDERS_PASSES and height > TALL * width:
        return None
    key = (spec, width, height, exact)
    plan = _plans.pop(key, None) or _Plan(library, spec, (height, width), exact=exact)
    prepared = np.empty(spec.shape, spec.dtype) if out is None else out
    plan.run([_pack_pixels(plane) for plane in planes], kind, get_levels().index(isa), prepared)
    _plans[key] = plan
    while len(_plans) > PLANS:
        _plans.popitem(last=False)
    return prepared


def _pack_pixels(plane: Array) -> Array:
    """Return a plane whose rows are in one piece each; the rows may have any distance."""
    packed = (3, 1) if plane.ndim == 3 else (1,)
    return plane if plane.strides[1:] == packed else np.ascontiguousarray(plane)
