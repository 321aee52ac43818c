"""Report of distillation, as `edgewright distill --json` prints it."""

from msgspec import Struct

from edgewright.flows.experiment.report import MetricDelta, NetworkReport
from edgewright.flows.prune.report import WidthRow
from edgewright.flows.quantize.report import Speedup
from edgewright.training.job import Curve

SCHEMA = "edgewright.distil/1"


class DistillReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The JSON of `edgewright distill --json`.

    Attributes:
        model: path of the student as ONNX; None if a gate rejected it.
        module, weights: of the student, `FILE.py:FACTORY` and its weights.
        trained_on, held_out, evaluated_on: numbers of samples.
        labelled: whether the labels were used.
        sides: teacher, control (the same student without a teacher, if trained) and student.
        against: the student's metric minus that of the control, and of the teacher.
        speedup: time of the teacher over that of the student, measured interleaved.
        widths: of a student made by `auto:Nx`.
        curves: of the first seed, by network.
        state: `ok`, or `refused` with the `reason`.
    """

    schema: str = SCHEMA
    teacher: str
    teacher_sha256: str
    student: str
    runtime: str
    model: str | None
    module: str | None
    weights: str | None
    temperature: float
    alpha: float
    transfer: str
    views: int
    labelled: bool
    trained_on: int
    held_out: int
    evaluated_on: int
    sides: tuple[NetworkReport, ...]
    against: tuple[MetricDelta, ...]
    speedup: Speedup | None
    widths: tuple[WidthRow, ...]
    curves: dict[str, tuple[Curve, ...]]
    notes: tuple[str, ...]
    state: str
    reason: str
    seconds: float
    run_id: str | None = None
