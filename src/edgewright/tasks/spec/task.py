"""What a model is for, as data: what it eats, what it gives, and how well it does. A `task.toml` holds one.

The same contract feeds calibration, evaluation and generated app code, so nothing in it is code but a metric or a data
set of the user's own, which are named as `module:function`.
"""

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

SCHEMA = "edgewright.task/1"
DTYPES = ("float32", "float16", "float64", "uint8", "int8", "int16", "int32", "int64", "bool")

Count = Annotated[int, Meta(ge=1, le=1 << 24)]
Byte = Annotated[int, Meta(ge=0, le=255)]
Share = Annotated[float, Meta(ge=0, le=1)]
Dtype = Literal["float32", "float16", "float64", "uint8", "int8", "int16", "int32", "int64", "bool"]
Size = tuple[Count, Count]  # height, width
# Not `Count | Size`: msgspec 0.22 reads past its memory where a union has a bounded int and a tuple of fixed length.
Pair = Annotated[tuple[Count, ...], Meta(min_length=2, max_length=2)]
PerChannel = float | tuple[float, ...]
Name = Annotated[str, Meta(min_length=1)]


class ImageInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="image"):
    """A picture: decoded to 8 bits, turned upright, resized, cropped, and stored as (v × scale − mean) / std.

    Attributes:
        name: the model's input.
        size: height and width that the model takes.
        resize: `shorter` brings the shorter side to `resize_to` and keeps the ratio, as torchvision's Resize(int);
            `exact` brings both sides to `resize_to` and loses it; `pad` fits the whole picture into `size` and fills
            the rest (letterbox); `none` leaves it as it is.
        resize_to: pixels of the shorter side, or height and width for `exact`; by default those of `size`.
        crop: `center` cuts `size` out of the middle, as torchvision's CenterCrop; `none` demands that it fits.
        interpolation: Pillow's names.
        antialias: Pillow's filters, which widen when they shrink; false samples 2 or 4 neighbours, as OpenCV, and torch
            and TensorFlow by default.
        pad_value: what `pad` fills with, before scaling.
        pad_align: where `pad` puts the picture.
        alpha: `drop` keeps the colours under a transparent place, as Pillow's convert("RGB"); the others lay the
            picture on white or black.
        color: order of the channels.
        scale, mean, std: one number, or one for each channel in the order of `color`.
        layout: order of the axes; N is the batch, always 1 here.
        dtype: numpy's name; for integers the values are rounded half to even and clipped.
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
        """With the batch of 1."""
        height, width = self.size
        return (1, self.channels, height, width) if self.layout == "NCHW" else (1, height, width, self.channels)


class TensorInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="tensor"):
    """An array that is ready as it is.

    Attributes:
        name: the model's input.
        shape: with the batch of 1; empty takes any.
        dtype: numpy's name.
    """

    name: Name
    shape: tuple[Annotated[int, Meta(ge=0)], ...] = ()
    dtype: Dtype = "float32"


class AudioInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="audio"):
    """A window of sound, one channel: (v × scale − mean) / std, where v is from −1 to 1.

    Attributes:
        name: the model's input.
        sample_rate: in hertz; a file with another one is refused, since resampling changes what is measured.
        window: number of samples. Longer sounds are cut, shorter ones are filled with zeros.
        align: where a longer sound is cut from, and a shorter one put.
        shape: with the batch of 1, as [1, 16000] or [1, 16000, 1]; by default [1, window].
        scale, mean, std: numbers.
        dtype: numpy's name.
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
    """Token ids, already made by a tokenizer, cut or filled up to one length.

    Attributes:
        name: the model's input for the ids.
        length: how many ids the model takes.
        pad: the id that fills up.
        pad_side: where it is put.
        mask: the model's input that is 1 for real ids and 0 for filling; empty where there is none.
        segments: the model's input that is 0 for all (token types); empty where there is none.
        dtype: of all of them.
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
        name: the model's output; empty stands for its first one.
        softmax: whether the scores are logits, which an app shows after a softmax. The order is the same.
        top_k: how many classes an app shows.
        labels: a file with the name of one class on each line, in the order of the classes; relative to the task's.
        classes: how many there are; 0 takes those of the model.
        first_class: the score that belongs to label 0; 1 for models that have a background class in front.
    """

    name: str = ""
    softmax: bool = True
    top_k: Count = 5
    labels: str = ""
    classes: Annotated[int, Meta(ge=0)] = 0
    first_class: Annotated[int, Meta(ge=0)] = 0


class Regression(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="regression"):
    """Numbers as they are.

    Attributes:
        name: the model's output; empty stands for its first one.
        unit: what they are counted in, for people.
    """

    name: str = ""
    unit: str = ""


class Embedding(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="embedding"):
    """A vector whose direction tells what is alike; scored as a classifier by its nearest neighbour.

    Attributes:
        name: the model's output; empty stands for its first one.
        normalize: whether an app brings it to length 1.
    """

    name: str = ""
    normalize: bool = True


class Boxes(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="boxes"):
    """Objects in a picture.

    Attributes:
        boxes: the output with one box a row.
        scores: the output with one score for each class a row; empty where they follow the box in the same row.
        classes_out: the output with the class of each row, for models whose `scores` has one score a row.
        format: corners, or centre and size: `xyxy`, `yxyx`, `xywh` (corner and size), `cxcywh`.
        normalized: whether 1 is the picture's width or height; else pixels of the model's input.
        columns: whether boxes are columns rather than rows, as in YOLOv8's [1, 84, 8400].
        objectness: whether a row of one output has the chance of any object before those of the classes.
        score_threshold: boxes below are dropped.
        nms_iou: of two boxes of one class that overlap by more, the lesser is dropped; 1 switches it off.
        most: boxes kept for one picture.
        labels: a file with the name of one class on each line.
        classes: how many there are; 0 takes those of the model.
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
        name: the model's output; empty stands for its first one.
        ignore: a label that does not count.
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
LOWER_IS_BETTER = ("mae", "perplexity")


class Augment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How samples are varied while a model is trained: after scaling, so that 0 is the task's mean.

    Attributes:
        flip: pictures are mirrored left to right, half of them.
        shift: pixels that a picture is moved by at the most, up or down and sideways; samples of a sound. 0 comes in.
        erase: side of a square that is set to 0, as a share of the picture's sides (cutout).
        brightness: pixels are multiplied by 1 ± this at the most.
        contrast: a pixel's distance from its picture's mean is multiplied by 1 ± this at the most.
        noise: standard deviation of the noise in a sound from −1 to 1, at the most.
    """

    flip: bool = False
    shift: Annotated[int, Meta(ge=0, le=1 << 24)] = 0
    erase: Share = 0.0
    brightness: Share = 0.0
    contrast: Share = 0.0
    noise: Share = 0.0


class Task(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole contract.

    Attributes:
        schema: `edgewright.task/1`.
        name: for people.
        inputs: one for each input of the model that is not made from another one (as a mask is).
        output: what the outputs mean.
        metric: one of `OWN_METRICS`, or `module:function` / `FILE.py:function`, called with the outputs by name and the
            labels of some samples, stacked; it gives one number a sample, and their mean is the metric.
        better: whether a higher or a lower value is better; only asked for a metric of one's own.
        augment: how samples are varied in training; None where they are not.
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
        return self.better == "higher" if ":" in self.metric else self.metric not in LOWER_IS_BETTER


def read_label_names(task: Task) -> tuple[str, ...]:
    """Names of the classes, from the labels file; empty where the task names none. ConfigError where it is no list."""
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
    """As far as the task itself tells; 0 where it does not."""
    if not isinstance(task.output, Classification | Boxes):
        return 0
    return task.output.classes or len(read_label_names(task))
