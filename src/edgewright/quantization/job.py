"""One quantisation as a process of its own is handed it, and what it tells: the two ends of `worker.py`."""

from typing import Literal

from msgspec import Struct

from edgewright.schema.vocabulary import Precision

BINS = 48
QuantizationForm = Literal["static", "products"]


class QuantizationJob(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be done.

    Attributes:
        model: path of an ONNX model with fixed shapes and named nodes.
        fit, check: paths of .npy files with the calibration samples by input name, [samples, …]: those that everything
            is fitted to, and those that judge it.
        recipe: as TOML.
        aim_db, aim_flips: what is good enough.
        out: folder for `model.onnx`, `recipe.toml` and `report.json`.
        memory: folder of what an earlier try has left.
        form: `static`, or `products` for matrix products alone, by `precision`: then `model-onnxruntime.onnx` is
            written too, with the same stored numbers in the operators that ONNX Runtime is quick at.
    """

    model: str
    fit: dict[str, str]
    check: dict[str, str]
    recipe: str
    aim_db: float
    aim_flips: float
    out: str
    memory: str
    form: QuantizationForm = "static"
    precision: Precision = "w8a8"


class StageProgress(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="step"):
    """How far a stage is; `of` is 0 where that is not known, `left_s` None where it is reckoned from both."""

    stage: str
    done: int
    of: int
    left_s: float | None = None


class JobError(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="trouble"):
    """An error, by the name of its class in `edgewright.errors`."""

    kind: str
    what: str
    why: str
    try_this: str


class JobFinished(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="finished"):
    """The files are written."""


JobMessage = StageProgress | JobError | JobFinished


class FidelityReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A quantised graph against its source, on calibration samples that it was not fitted to.

    Attributes:
        sqnr_db: of the first output.
        agreement: share of the samples whose class stays.
        expected_flips: share of inputs whose class is expected to change; None where there are no classes.
    """

    sqnr_db: float
    agreement: float
    expected_flips: float | None


class WeightNodeReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An operator with weights.

    Attributes:
        precision: what it got.
        kept: why it was treated better than the rest; empty where it was not.
        sqnr_db: of the network's output when this operator alone is quantised, weights and input; None where it is not.
        weights_db, input_db: the same for each of the two alone.
        agreement: share of samples whose class stays then.
        output_db: SQNR of its own output with everything in front of it quantised, on the samples it was fitted to;
            None where that was not looked at.
        weight_bytes: of what is stored.
    """

    node: str
    op: str
    precision: Precision
    kept: str
    sqnr_db: float | None
    weights_db: float | None
    input_db: float | None
    agreement: float | None
    output_db: float | None = None
    weight_bytes: int


class TensorReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tensor with a pair behind it.

    Attributes:
        low, high: what its integers cover; `seen_low`, `seen_high`: what calibration saw.
        clipped: share of the values seen that lie outside.
        histogram: of the values seen, in even bins from `seen_low` to `seen_high`.
    """

    name: str
    method: str
    low: float
    high: float
    seen_low: float
    seen_high: float
    clipped: float
    scale: float
    zero_point: int
    dtype: str
    histogram: tuple[int, ...]


class QuantizationReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was done to a network and what each part of it costs."""

    schema: str = "edgewright.quantization/1"
    precision: str
    fitted_on: int
    checked_on: int
    first: FidelityReport
    final: FidelityReport
    sites: tuple[WeightNodeReport, ...]
    tensors: tuple[TensorReport, ...]
    integer_operators: int
    operators: int
