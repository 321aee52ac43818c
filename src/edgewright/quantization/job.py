"""The job of a quantization process and its messages: the interface of `worker.py`."""

from typing import Literal

from msgspec import Struct

from edgewright.schema.vocabulary import Precision

BINS = 48
QuantizationForm = Literal["static", "products"]
LeaveOut = Literal["", "no-kernel", "not-faster"]


class QuantizationJob(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The input of a quantization process.

    Attributes:
        model: path of an ONNX model with fixed shapes and named nodes.
        fit, check: paths of .npy files with calibration samples by input name, [samples, …]: those for fitting, and
            those that measure the fidelity.
        recipe: as TOML.
        aim_db, aim_flips: the fidelity target.
        out: folder for `model.onnx`, `recipe.toml` and `report.json`.
        memory: folder with the results of an interrupted attempt.
        form: `static`, or `products` for matrix products only, with `precision`; `model-onnxruntime.onnx` then has the
            same weights in the operators that are fastest in ONNX Runtime.
        leave_out: what a static quantization keeps in float besides the recipe's rules: `no-kernel`, operators without
            an integer kernel and their neighbors; `not-faster`, all that ONNX Runtime on this machine is not faster at.
        report: whether the error of each weight node alone is measured even if no search needs it.
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
    leave_out: LeaveOut = ""
    report: bool = True


class StageProgress(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="step"):
    """Progress of a stage.

    Attributes:
        of: 0 if it is unknown.
        left_s: None if it is estimated from `done` and `of`.
        note: a result of the step.
    """

    stage: str
    done: int
    of: int
    left_s: float | None = None
    note: str = ""


class JobError(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="trouble"):
    """An error with the name of its class in `edgewright.errors`."""

    kind: str
    what: str
    why: str
    try_this: str


class JobFinished(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="finished"):
    """The message that all files are written."""


JobMessage = StageProgress | JobError | JobFinished


class FidelityReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fidelity of a quantized graph to its source, on calibration samples that were not used for fitting.

    Attributes:
        sqnr_db: of the first output.
        agreement: share of the samples whose class does not change.
        expected_flips: expected share of inputs whose class changes; None if there are no classes.
    """

    sqnr_db: float
    agreement: float
    expected_flips: float | None


class WeightNodeReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A weight node.

    Attributes:
        precision: its precision.
        kept: why its precision is higher than that of the others; empty if it is not.
        sqnr_db: of the network's output if only this operator is quantized, weights and input; None if it is not.
        weights_db, input_db: the same for only its weights and only its input.
        agreement: share of samples whose class does not change then.
        output_db: SQNR of its output if all nodes before it are quantized too, on the fitting samples; None if not
            measured.
        weight_bytes: size of the stored weights.
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


class FloatOperator(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An operator without weights that is kept in float, and why."""

    node: str
    op: str
    why: str


class TensorReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tensor with a Q/DQ pair.

    Attributes:
        low, high: the quantized range; `seen_low`, `seen_high`: the range in calibration.
        clipped: share of calibration values outside the range.
        histogram: of calibration values, in equal bins from `seen_low` to `seen_high`.
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
    """The result of a quantization, with the loss of each weight node and tensor."""

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
    float_operators: tuple[FloatOperator, ...] = ()
