"""Tasks as data: a model's inputs, outputs and evaluation metric. A `task.toml` contains one.

Calibration, evaluation and training use the same task. It contains no code; a custom metric is a reference to
`module:function`.
"""

from pathlib import Path
from typing import Annotated, Literal, get_args

from msgspec import Meta, Struct

from edgewright.schema.metrics import get_metric_info

SCHEMA = "edgewright.task/1"

Count = Annotated[int, Meta(ge=1, le=1 << 24)]
Byte = Annotated[int, Meta(ge=0, le=255)]
Share = Annotated[float, Meta(ge=0, le=1)]
Dtype = Literal["float32", "float16", "float64", "uint8", "int8", "int16", "int32", "int64", "bool"]
DTYPES: tuple[str, ...] = get_args(Dtype)
Size = tuple[Count, Count]  # height, width
# Not `Count | Size`: msgspec 0.22 reads past its memory where a union has a bounded int and a tuple of fixed length.
Pair = Annotated[tuple[Count, ...], Meta(min_length=2, max_length=2)]
PerChannel = float | tuple[float, ...]
Name = Annotated[str, Meta(min_length=1)]


class ImageInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="image"):
    """An image: decoded to 8 bits, rotated by EXIF, resized, cropped, and scaled as (v × scale − mean) / std.

    Attributes:
        name: the model's input.
        size: height and width of the model input.
        resize: `shorter` resizes the shorter side to `resize_to` with the same aspect ratio, as torchvision's
            Resize(int); `exact` resizes both sides to `resize_to`; `pad` (letterbox) fits the image into `size` and
            fills the rest; `none` does not resize.
        resize_to: pixels of the shorter side, or height and width for `exact`; by default those of `size`.
        crop: `center` crops `size` from the center, as torchvision's CenterCrop; with `none` the image must have it.
        interpolation: Pillow's names.
        antialias: Pillow's filters, which widen for smaller sizes; false samples 2 or 4 neighbors, as OpenCV, and torch
            and TensorFlow by default.
        pad_value: fill value of `pad`, before scaling.
        pad_align: position of the image with `pad`.
        alpha: `drop` ignores transparency, as Pillow's convert("RGB"); the others set a white or black background.
        color: order of the channels.
        scale, mean, std: one number, or one for each channel in the order of `color`.
        layout: order of the axes; N is the batch, always 1 here.
        dtype: NumPy's name; integer values are rounded half to even and clipped.
    """

    name: Name
    size: Size
    resize: Literal["shorter", "exact", "pad", "none"] = "shorter"
    resize_to: Count | Pair | None = None
    crop: Literal["center", "none"] = "center"
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"] = "bilinear"
    antialias: bool = True
    pad_value: Byte = 0
    pad_align: Literal["center", "corner"] = "center"
    alpha: Literal["drop", "white", "black"] = "drop"
    color: Literal["RGB", "BGR", "gray"] = "RGB"
    scale: PerChannel = 1.0
    mean: PerChannel = 0.0
    std: PerChannel = 1.0
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    dtype: Dtype = "float32"

    @property
    def channels(self) -> int:
        return 1 if self.color == "gray" else 3

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape with a batch of 1."""
        height, width = self.size
        return (1, self.channels, height, width) if self.layout == "NCHW" else (1, height, width, self.channels)


class TensorInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="tensor"):
    """An array that needs no preprocessing.

    Attributes:
        name: the model's input.
        shape: with the batch of 1; empty for any shape.
        dtype: NumPy's name.
    """

    name: Name
    shape: tuple[Annotated[int, Meta(ge=0)], ...] = ()
    dtype: Dtype = "float32"


class AudioInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="audio"):
    """A window of audio with one channel: (v × scale − mean) / std, where v is from −1 to 1.

    Attributes:
        name: the model's input.
        sample_rate: in hertz; files with another rate are rejected, because resampling changes the result.
        window: number of samples. Longer audio is cropped, shorter audio padded with zeros.
        align: position of the crop or of the audio.
        shape: with the batch of 1, as [1, 16000] or [1, 16000, 1]; by default [1, window].
        scale, mean, std: numbers.
        dtype: NumPy's name.
    """

    name: Name
    sample_rate: Count
    window: Count
    align: Literal["start", "center"] = "start"
    shape: tuple[Count, ...] = ()
    scale: float = 1.0
    mean: float = 0.0
    std: float = 1.0
    dtype: Dtype = "float32"


class TokensInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="tokens"):
    """Token ids from a tokenizer, truncated or padded to one length.

    Attributes:
        name: the model's input for the ids.
        length: number of ids of the model input.
        pad: the padding id.
        pad_side: side of the padding.
        mask: name of the attention mask input: 1 for ids, 0 for padding; empty without one.
        segments: name of the token type input, 0 for all ids; empty without one.
        dtype: of all these inputs.
    """

    name: Name
    length: Count
    pad: int = 0
    pad_side: Literal["right", "left"] = "right"
    mask: str = ""
    segments: str = ""
    dtype: Dtype = "int64"


class Classification(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="classification"
):
    """One score for each class along the last axis.

    Attributes:
        name: the model's output; empty for the first one.
        softmax: whether the scores are logits, which an app shows after a softmax. The order does not change.
        top_k: number of classes that an app shows.
        labels: a file with one class name per line, in the order of the classes; relative to the task file.
        classes: number of classes; 0 for the model's number.
        first_class: index of label 0's score; 1 if the model's first score is a background class.
    """

    name: str = ""
    softmax: bool = True
    top_k: Count = 5
    labels: str = ""
    classes: Annotated[int, Meta(ge=0)] = 0
    first_class: Annotated[int, Meta(ge=0)] = 0


class Regression(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="regression"):
    """Numbers.

    Attributes:
        name: the model's output; empty for the first one.
        unit: unit of the numbers, to show.
    """

    name: str = ""
    unit: str = ""


class Embedding(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="embedding"):
    """A vector whose direction shows similarity; evaluated as a nearest-neighbor classifier.

    Attributes:
        name: the model's output; empty for the first one.
        normalize: whether an app scales it to length 1.
    """

    name: str = ""
    normalize: bool = True


class Boxes(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="boxes"):
    """Objects in an image.

    Attributes:
        boxes: the output with one box per row.
        scores: the output with a row of class scores per box; empty if they follow the box in the same row.
        classes_out: the output with the class of each row, for models whose `scores` has one score per row.
        format: corners, or center and size: `xyxy`, `yxyx`, `xywh` (corner and size), `cxcywh`.
        normalized: whether 1 is the image's width or height; otherwise pixels of the model's input.
        columns: whether boxes are columns, not rows, as in YOLOv8's [1, 84, 8400].
        objectness: whether an objectness score precedes the class scores and multiplies them.
        score_threshold: boxes with a lower score are removed.
        nms_iou: IoU above which the lower-scored box of a class is removed; 1 disables it.
        most: maximum number of boxes per image.
        labels: a file with one class name per line.
        classes: number of classes; 0 for the model's number.
    """

    boxes: str = ""
    scores: str = ""
    classes_out: str = ""
    format: Literal["xyxy", "yxyx", "xywh", "cxcywh"] = "xyxy"
    normalized: bool = False
    columns: bool = False
    objectness: bool = False
    score_threshold: Share = 0.001
    nms_iou: Share = 0.65
    most: Count = 300
    labels: str = ""
    classes: Annotated[int, Meta(ge=0)] = 0


class NextToken(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="next-token"):
    """Logits of the token that follows each position: [1, length, vocabulary].

    Attributes:
        name: the model's output; empty for the first one.
        ignore: label that is ignored.
    """

    name: str = ""
    ignore: int = -100


Input = ImageInput | TensorInput | AudioInput | TokensInput
Output = Classification | Regression | Embedding | Boxes | NextToken
BUILTIN_METRICS: dict[str, tuple[type, ...]] = {
    "top1": (Classification, Embedding),
    "top5": (Classification,),
    "accuracy": (Classification, Embedding),
    "auc": (Classification,),
    "mae": (Regression,),
    "map": (Boxes,),
    "map50": (Boxes,),
    "perplexity": (NextToken,),
}


class Augment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Augmentation of training samples, after scaling, so that 0 is the task's mean.

    Attributes:
        flip: whether half of the images are mirrored left to right.
        shift: maximum shift in pixels, vertically and horizontally, or in audio samples; filled with 0.
        erase: side of a square that is set to 0, as a share of the image's sides (cutout).
        brightness: maximum change; pixels are multiplied by 1 ± this.
        contrast: maximum change; distances from the image's mean are multiplied by 1 ± this.
        noise: maximum standard deviation of noise, for audio from −1 to 1.
    """

    flip: bool = False
    shift: Annotated[int, Meta(ge=0, le=1 << 24)] = 0
    erase: Share = 0.0
    brightness: Share = 0.0
    contrast: Share = 0.0
    noise: Share = 0.0


class Task(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The task of a model.

    Attributes:
        schema: `edgewright.task/1`.
        name: name to show.
        inputs: one for each model input that is not computed from another one (as a mask is).
        output: meaning of the outputs.
        metric: one of `BUILTIN_METRICS`, or `module:function` / `FILE.py:function`, called with the stacked outputs by
            name and the labels of some samples; it returns one number per sample, and their mean is the metric.
        better: whether a higher or a lower value is better; only used for a custom metric.
        augment: augmentation in training; None without.
    """

    schema: str = SCHEMA
    name: str = ""
    inputs: tuple[Input, ...]
    output: Output
    metric: Name = "top1"
    better: Literal["higher", "lower"] = "higher"
    augment: Augment | None = None

    @property
    def higher_is_better(self) -> bool:
        return self.better == "higher" if ":" in self.metric else get_metric_info(self.metric).better != "lower"


def read_label_names(task: Task) -> tuple[str, ...]:
    """Read class names from the labels file; empty if the task has none. Raises ConfigError if it is not valid."""
    file = getattr(task.output, "labels", "")
    if not file:
        return ()
    from edgewright.errors import ConfigError
    from edgewright.system.files import read_regular

    try:
        lines = read_regular(Path(file)).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"the labels file {file} cannot be read", why, "write one class name per line, in UTF-8"
        ) from None
    names = tuple(line.strip() for line in lines)
    while names and not names[-1]:
        names = names[:-1]
    if not names:
        raise ConfigError(f"the labels file {file} is empty", "", "write one class name per line")
    return names


def count_classes(task: Task) -> int:
    """Return the task's number of classes; 0 if it is unknown."""
    if not isinstance(task.output, Classification | Boxes):
        return 0
    return task.output.classes or len(read_label_names(task))
