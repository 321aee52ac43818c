"""Which network is taught: the user's own, or one of the teacher's family, narrower and shallower."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from edgewright.errors import ConfigError, DataError, UsageError
from edgewright.facts.model import Signature
from edgewright.facts.plan import DistilPlan
from edgewright.flows.contest import inspect
from edgewright.flows.course import Course
from edgewright.flows.pruning import WidthRow, module_name
from edgewright.flows.sources import stem_of
from edgewright.flows.trainings import torch_source
from edgewright.formats.files import read_model
from edgewright.formats.torch_program import name_outputs
from edgewright.tasks.check import check_task
from edgewright.tasks.contract import Task
from edgewright.training.inspect import Inspected
from edgewright.training.job import InspectJob, Source
from edgewright.training.slices import find_factory, read_slices, write_built

OUTPUT_NAMES = ("name", "boxes", "scores", "classes_out")  # fields of a task's output that name one of the model


class Student(NamedTuple):
    """What is trained.

    Attributes:
        factory: as the user names it; empty for one that was made.
        task: as it is trained, where torch names the outputs.
        outputs: their names in the teacher, which the trained student gets.
    """

    source: Source
    factory: str
    task: Task
    outputs: tuple[str, ...]
    widths: tuple[WidthRow, ...] = ()
    notes: tuple[str, ...] = ()

    def publish(self, out: Path, stem: str) -> str:
        """`FILE.py:FACTORY` that builds it."""
        if self.factory:
            return self.factory
        return f"{write_built(out, module_name(stem), self.source)}:build"


def make_student(plan: DistilPlan, teacher: Source | None, taught: Signature, course: Course) -> Student:
    """The student of a teacher with the signature `taught`.

    UsageError for a size that is none, or outputs that are not the teacher's; GateFailed where the smallest student is
    larger.
    """
    if plan.student.startswith("auto:"):
        return make_smaller(plan, teacher, taught, course)
    source = torch_source(plan.student, plan.student_weights)
    source = msgspec.structs.replace(source, fresh=source.weights is None)
    task = own_task(course.task, taught)
    look_into(source, task, taught, course)
    return Student(source, plan.student, task, names_of(taught))


def names_of(signature: Signature) -> tuple[str, ...]:
    return tuple(one.name for one in signature.outputs)


def own_task(task: Task, taught: Signature) -> Task:
    """The task of a torch student, whose outputs have the names that torch gives them."""
    names = names_of(taught)
    own = dict(zip(names, name_outputs(len(names)), strict=True))
    said = msgspec.structs.asdict(task.output)
    changed = {field: own[said[field]] for field in OUTPUT_NAMES if said.get(field) in own}
    return msgspec.structs.replace(task, output=msgspec.structs.replace(task.output, **changed))


def look_into(source: Source, task: Task, taught: Signature, course: Course) -> None:
    """Build the student and run it once, before the teacher says a word. Raises what stands in the way of that."""
    job = InspectJob(
        module=source, shapes=course.shapes, task=msgspec.json.encode(task).decode(), settings=course.settings,
        out=str(course.memory / "student"),
    )  # fmt: skip
    own = read_model(inspect(job, course.court) / "named.onnx").signature
    check_sizes(taught, own)
    with told_of("the student"):
        check_task(task, own)


def check_sizes(taught: Signature, own: Signature) -> None:
    """UsageError where as many outputs are not of the same sizes; the training looks at what is not known here."""
    teacher, student = ([one.shape[1:] for one in signature.outputs] for signature in (taught, own))
    known = all(isinstance(size, int) for shape in (*teacher, *student) for size in shape)
    if known and len(teacher) == len(student) and teacher != student:
        sizes = (" and ".join(" × ".join(map(str, shape)) for shape in shapes) for shapes in (teacher, student))
        raise UsageError(
            "the teacher gives {} numbers for a sample, the student {}".format(*sizes),
            "their outputs are compared one by one",
            "give the student as many classes as the teacher has",
        )


@contextmanager
def told_of(side: str) -> Iterator[None]:
    """What does not fit the task, with the side that it is about."""
    try:
        yield
    except (ConfigError, DataError) as error:
        raise type(error)(f"{side}: {error.what}", error.why, error.try_this) from error


def make_smaller(plan: DistilPlan, teacher: Source | None, taught: Signature, course: Course) -> Student:
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
    return Student(source, "", own_task(course.task, taught), names_of(taught), widths, tuple(notes))


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


def family_of(plan: DistilPlan) -> str:
    """The stem of the names of all networks of a distillation."""
    return stem_of(plan.teacher if plan.student.startswith("auto:") else plan.student)


def name_student(plan: DistilPlan) -> str:
    """The stem of the files that come out."""
    return f"{family_of(plan)}-{'student' if plan.student.startswith('auto:') else 'distilled'}"
