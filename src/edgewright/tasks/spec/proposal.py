"""Proposal of a task from a model's signature. Values that a signature does not contain, such as the scaling, follow
conventions that the user must check."""

from collections.abc import Iterable, Sequence

from edgewright.schema.model import Signature, TensorSpec
from edgewright.tasks.spec.task import (
    AudioInput,
    Boxes,
    Classification,
    Embedding,
    ImageInput,
    Input,
    NextToken,
    Output,
    Regression,
    Task,
    TensorInput,
    TokensInput,
)

DEFAULT_SIDE, DEFAULT_LENGTH = 224, 128
SMALL_SIDE = 64  # such images have the model's size
CROP_RATIO = 256 / 224  # ratio of the shorter side to the crop in ImageNet evaluation
MIN_AUDIO_LENGTH = 4000  # samples
AUDIO_WORDS = ("audio", "wave", "pcm", "sound", "speech")
IMAGENET_MEAN = (123.675, 116.28, 103.53)  # torchvision's 0.485, 0.456, 0.406 of 255
IMAGENET_STD = (58.395, 57.12, 57.375)
MIN_BOXES = 100
WITH_BACKGROUND = 1001  # ImageNet's classes after a background class, as in TensorFlow's models


def propose_task(signature: Signature, name: str = "") -> Task:
    """Return the task that `edgewright task init` writes. Inputs of unknown kind are tensors."""
    inputs = tuple(_propose_inputs(signature.inputs))
    output = _propose_output(signature.outputs, inputs)
    return Task(name=name, inputs=inputs, output=output, metric=_get_default_metric(output))


def _propose_inputs(specs: Sequence[TensorSpec]) -> Iterable[Input]:
    tokens = [spec for spec in specs if spec.dtype in ("int32", "int64") and len(spec.shape) == 2]
    mask = next((spec.name for spec in tokens if "mask" in spec.name.lower()), "")
    segments = next((spec.name for spec in tokens if {"type", "segment"} & _split_words(spec.name)), "")
    for spec in specs:
        if spec.name in (mask, segments) and len(tokens) > 1:
            continue
        if spec in tokens:
            yield TokensInput(
                name=spec.name,
                length=_get_size(spec, 1) or DEFAULT_LENGTH,
                mask=mask if mask != spec.name else "",
                segments=segments if segments != spec.name else "",
                dtype="int32" if spec.dtype == "int32" else "int64",
            )
        else:
            yield _propose_image(spec) or _propose_audio(spec) or _propose_tensor(spec)


def _split_words(name: str) -> set[str]:
    return set(name.lower().replace("-", "_").replace("/", "_").split("_"))


def _get_size(spec: TensorSpec, axis: int) -> int:
    """Return a size of the input; the recorded one if it is dynamic; 0 if it is unknown."""
    size = spec.shape[axis]
    if isinstance(size, int):
        return size
    return spec.default_shape[axis] if spec.default_shape else 0


def _propose_image(spec: TensorSpec) -> ImageInput | None:
    """Propose an image for four axes with 1 or 3 channels."""
    if len(spec.shape) != 4 or spec.dtype not in ("float32", "float16", "uint8", "int8"):
        return None
    first = spec.shape[1] in (1, 3) and spec.shape[3] not in (1, 3)
    last = spec.shape[3] in (1, 3) and spec.shape[1] not in (1, 3)
    if not first and not last:
        return None
    axes = (2, 3) if first else (1, 2)
    height, width = (_get_size(spec, axis) or DEFAULT_SIDE for axis in axes)
    gray = spec.shape[1 if first else 3] == 1
    if gray and height != width:  # more likely a spectrogram
        return None
    small = max(height, width) <= SMALL_SIDE
    mean, std = _guess_scaling(spec, first=first, gray=gray)
    return ImageInput(
        name=spec.name,
        size=(height, width),
        resize="exact" if small or height != width else "shorter",
        resize_to=None if small or height != width else round(height * CROP_RATIO),
        color="gray" if gray else "RGB",
        mean=mean,
        std=std,
        layout="NCHW" if first else "NHWC",
        dtype=spec.dtype,  # type: ignore[arg-type]  # one of the four above
    )


def _guess_scaling(
    spec: TensorSpec, *, first: bool, gray: bool
) -> tuple[float | tuple[float, ...], float | tuple[float, ...]]:
    """Return mean and std: unscaled for integers, torchvision's for channels first, −1 to 1 for channels last."""
    if spec.dtype == "uint8":
        return 0.0, 1.0
    if spec.dtype == "int8":
        return 128.0, 1.0
    if first and not gray:
        return IMAGENET_MEAN, IMAGENET_STD
    return (0.0, 255.0) if gray else (127.5, 127.5)


def _propose_audio(spec: TensorSpec) -> AudioInput | None:
    sizes = [_get_size(spec, axis) for axis in range(1, len(spec.shape))]
    window = max(sizes, default=0)
    named = any(word in spec.name.lower() for word in AUDIO_WORDS)
    flat = sum(size != 1 for size in sizes) == 1
    if spec.dtype != "float32" or not flat or window < MIN_AUDIO_LENGTH or not (named or window % 8000 == 0):
        return None
    return AudioInput(name=spec.name, sample_rate=16_000, window=window, shape=(1, *sizes))


def _propose_tensor(spec: TensorSpec) -> TensorInput:
    sizes = [_get_size(spec, axis) for axis in range(len(spec.shape))]
    if sizes and isinstance(spec.shape[0], str):
        sizes[0] = 1
    known = all(size > 0 for size in sizes)
    return TensorInput(name=spec.name, shape=tuple(sizes) if known else (), dtype=spec.dtype)  # type: ignore[arg-type]  # msgspec checks it when it is read


def _propose_output(specs: Sequence[TensorSpec], inputs: Sequence[Input]) -> Output:
    """Return the most likely kind of output; regression by default."""
    images = any(isinstance(one, ImageInput) for one in inputs)
    boxes = next((spec for spec in specs if len(spec.shape) == 3 and spec.shape[2] == 4), None)
    scores = next((spec for spec in specs if len(spec.shape) == 3 and spec is not boxes), None)
    if images and boxes is not None and scores is not None:
        return Boxes(boxes=boxes.name, scores=scores.name)
    first = specs[0]
    sizes = [size if isinstance(size, int) else 0 for size in first.shape]
    if images and len(sizes) == 3 and 5 <= min(sizes[1:]) < max(sizes[1:]) and max(sizes[1:]) >= MIN_BOXES:
        return Boxes(boxes=first.name, format="cxcywh", columns=sizes[1] < sizes[2])
    if any(isinstance(one, TokensInput) for one in inputs) and len(sizes) == 3:
        return NextToken(name=first.name)
    if "embed" in first.name.lower() or "feature" in first.name.lower():
        return Embedding(name=first.name)
    rebuilt = any(isinstance(one, TensorInput) and one.shape[1:] == tuple(sizes[1:]) for one in inputs)
    if len(sizes) == 2 and sizes[1] > 1 and not rebuilt:
        ready = "prob" in first.name.lower() or "softmax" in first.name.lower()
        return Classification(name=first.name, softmax=not ready, first_class=int(sizes[1] == WITH_BACKGROUND))
    return Regression(name=first.name)


def _get_default_metric(output: Output) -> str:
    match output:
        case Classification() | Embedding():
            return "top1"
        case Regression():
            return "mae"
        case Boxes():
            return "map"
        case NextToken():
            return "perplexity"
