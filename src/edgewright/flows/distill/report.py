"""Report of distillation, as `edgewright distill --json` prints it."""

from msgspec import field

from edgewright.flows.experiment.report import ExperimentReport

SCHEMA = "edgewright.distil/1"


class DistillReport(ExperimentReport, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The JSON of `edgewright distill --json`.

    Attributes:
        labeled: whether the labels were used.
    """

    schema: str = SCHEMA
    teacher: str
    teacher_sha256: str
    student: str
    temperature: float
    alpha: float
    transfer: str
    views: int
    labeled: bool = field(name="labelled")
