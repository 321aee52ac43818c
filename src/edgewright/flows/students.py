"""Which network is taught: the user's own, or one of the teacher's family, narrower and shallower."""

from pathlib import Path
from typing import NamedTuple

import msgspec

from edgewright.errors import UsageError
from edgewright.facts.plan import DistilPlan
from edgewright.flows.contest import inspect, torch_source
from edgewright.flows.course import Course
from edgewright.flows.pruning import WidthRow, module_name
from edgewright.formats.files import read_model
from edgewright.tasks.check import check_task
from edgewright.training.inspect import Inspected
from edgewright.training.job import InspectJob, Source
from edgewright.training.slices import find_factory, read_slices, write_built


class Student(NamedTuple):
    """What is trained.

    Attributes:
        factory: as the user names it; empty for one that was made.
    """

    source: Source
    factory: str
    widths: tuple[WidthRow, ...] = ()
    notes: tuple[str, ...] = ()

    def publish(self, out: Path, stem: str) -> str:
        """`FILE.py:FACTORY` that builds it."""
        if self.factory:
            return self.factory
        return f"{write_built(out, module_name(stem), self.source)}:build"


def make_student(plan: DistilPlan, teacher: Source | None, course: Course) -> Student:
    """UsageError for a size that is none; GateFailed where the smallest student is larger."""
    if plan.student.startswith("auto:"):
        return make_smaller(plan, teacher, course)
    source = torch_source(plan.student, plan.student_weights)
    source = msgspec.structs.replace(source, fresh=source.weights is None)
    look_into(source, course)
    return Student(source, plan.student)


def look_into(source: Source, course: Course) -> None:
    """Build the student and run it once, before the teacher says a word. Raises what stands in the way of that."""
    job = InspectJob(
        module=source, shapes=course.shapes, task=course.task_json, settings=course.settings,
        out=str(course.memory / "student"),
    )  # fmt: skip
    folder = inspect(job, course.court)
    check_task(course.task, read_model(folder / "named.onnx").signature)


def make_smaller(plan: DistilPlan, teacher: Source | None, course: Course) -> Student:
    if teacher is None:
        raise UsageError(f"--student {plan.student} needs a torch teacher", "", "--student FILE.py:FACTORY")
    times = times_smaller(plan.student)
    job = InspectJob(
        module=teacher, shapes=course.shapes, task=course.task_json, settings=course.settings, student=times,
        out=str(course.memory / "student"),
    )  # fmt: skip
    folder = inspect(job, course.court)
    told = msgspec.json.decode((folder / "inspected.json").read_bytes(), type=Inspected)
    path = folder / "student.slices.json"
    slices = read_slices(path)
    file, name = find_factory(slices, path)
    widths = tuple(
        WidthRow(name=group, kind="channels", before=before, after=after, layers=())
        for group, (after, before) in told.widths.items()
    )
    notes = [f"the student has {told.student:,} of {told.parameters:,} parameters"]
    if slices.removed:
        notes.append(f"blocks that were left out: {', '.join(slices.removed)}")
    source = Source(factory=f"{file.absolute()}:{name}", slices=str(path), fresh=True)
    return Student(source, "", widths, tuple(notes))


def times_smaller(student: str) -> float:
    """N of `auto:Nx`; 1 for a student of the user's own. UsageError for no number above 1."""
    if not student.startswith("auto:"):
        return 1.0
    try:
        times = float(student.removeprefix("auto:").rstrip("x×"))
    except ValueError:
        times = 0.0
    if not 1 < times < float("inf"):
        raise UsageError(f"--student {student} is no student", "how many times smaller is it to be?", "auto:5x")
    return times


def name_student(plan: DistilPlan) -> str:
    """The stem of the files that come out."""
    if plan.student.startswith("auto:"):
        return f"{Path(plan.teacher.partition(':')[0]).stem}-student"
    return f"{Path(plan.student.partition(':')[0]).stem}-distilled"
