"""Which network is taught: the user's own, or one of the teacher's family, narrower and shallower."""

from pathlib import Path
from typing import NamedTuple

from edgewright.errors import UsageError
from edgewright.facts.plan import DistilPlan
from edgewright.flows.course import Course
from edgewright.flows.pruning import WidthRow
from edgewright.flows.sources import absolute
from edgewright.training.job import Source


class Student(NamedTuple):
    """What is trained.

    Attributes:
        factory: as the user names it; empty for one that was made, whose slices are then written beside its weights.
    """

    source: Source
    factory: str
    widths: tuple[WidthRow, ...] = ()
    notes: tuple[str, ...] = ()

    def publish(self, out: Path, stem: str) -> str:
        """`FILE.py:FACTORY` that builds it."""
        return self.factory


def make_student(plan: DistilPlan, teacher: Source | None, course: Course) -> Student:
    if plan.student.startswith("auto:"):
        raise UsageError("not yet", "", "")
    weights = str(Path(plan.student_weights).absolute()) if plan.student_weights else None
    source = Source(factory=absolute(plan.student), weights=weights, fresh=weights is None)
    return Student(source, plan.student)


def name_student(plan: DistilPlan) -> str:
    """The stem of the files that come out."""
    if plan.student.startswith("auto:"):
        return f"{Path(plan.teacher.partition(':')[0]).stem}-student"
    return f"{Path(plan.student.partition(':')[0]).stem}-distilled"
