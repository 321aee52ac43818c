"""Students: the user's own network, or a narrower and shallower one of the teacher's family."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from edgewright.errors import ConfigError, DataError, UsageError
from edgewright.flows.compile.sources import get_stem
from edgewright.flows.experiment.control import inspect_module
from edgewright.flows.experiment.report import WidthRow
from edgewright.flows.experiment.setup import Experiment
from edgewright.flows.experiment.trainings import make_torch_source
from edgewright.flows.prune.report import make_module_name
from edgewright.formats.files import read_model
from edgewright.formats.torch.program import name_outputs
from edgewright.schema.model import Signature
from edgewright.schema.plan import DistillPlan
from edgewright.tasks.spec.check import check_task
from edgewright.tasks.spec.task import Task
from edgewright.training.inspection import InspectionReport
from edgewright.training.job import InspectJob, ModuleSource
from edgewright.training.slices import find_factory, read_slices, write_built_module

OUTPUT_NAMES = ("name", "boxes", "scores", "classes_out")  # fields of a task's output that name a model output


class PreparedStudent(NamedTuple):
    """The network to train.

    Attributes:
        factory: as the user named it; empty for a generated student.
        task: for the training, with torch's output names.
        outputs: their names in the teacher, which the trained student gets.
    """

    source: ModuleSource
    factory: str
    task: Task
    outputs: tuple[str, ...]
    widths: tuple[WidthRow, ...] = ()
    notes: tuple[str, ...] = ()

    def publish(self, out: Path, stem: str) -> str:
        """Write the factory and return its `FILE.py:FACTORY`."""
        if self.factory:
            return self.factory
        return f"{write_built_module(out, make_module_name(stem), self.source)}:build"


def make_student(
    plan: DistillPlan, teacher: ModuleSource | None, teacher_signature: Signature, experiment: Experiment
) -> PreparedStudent:
    """Return the student of a teacher with the given signature.

    Raises UsageError for a size that is not valid or outputs that differ from the teacher's, GateFailed if the smallest
    student is still larger.
    """
    if plan.student.startswith("auto:"):
        return _make_smaller_student(plan, teacher, teacher_signature, experiment)
    source = make_torch_source(plan.student, plan.student_weights)
    source = msgspec.structs.replace(source, fresh=source.weights is None)
    task = _rename_task_outputs(experiment.task, teacher_signature)
    _inspect_student(source, task, teacher_signature, experiment)
    return PreparedStudent(source, plan.student, task, _list_output_names(teacher_signature))


def _list_output_names(signature: Signature) -> tuple[str, ...]:
    return tuple(one.name for one in signature.outputs)


def _rename_task_outputs(task: Task, teacher_signature: Signature) -> Task:
    """Return the task with the output names that torch gives the student."""
    names = _list_output_names(teacher_signature)
    own = dict(zip(names, name_outputs(len(names)), strict=True))
    fields = msgspec.structs.asdict(task.output)
    changed = {field: own[fields[field]] for field in OUTPUT_NAMES if fields.get(field) in own}
    return msgspec.structs.replace(task, output=msgspec.structs.replace(task.output, **changed))


def _inspect_student(source: ModuleSource, task: Task, teacher_signature: Signature, experiment: Experiment) -> None:
    """Build the student and run it once, before the teacher runs. Raises the errors of its module or task."""
    job = InspectJob(
        module=source, shapes=experiment.shapes, task=msgspec.json.encode(task).decode(), settings=experiment.settings,
        out=str(experiment.memory / "student"),
    )  # fmt: skip
    own = read_model(inspect_module(job, experiment.context) / "named.onnx").signature
    _check_output_sizes(teacher_signature, own)
    with prefix_errors("the student"):
        check_task(task, own)


def _check_output_sizes(teacher_signature: Signature, own: Signature) -> None:
    """Raise UsageError if the outputs have different known sizes; unknown sizes are checked during training."""
    teacher, student = ([one.shape[1:] for one in signature.outputs] for signature in (teacher_signature, own))
    known = all(isinstance(size, int) for shape in (*teacher, *student) for size in shape)
    if known and len(teacher) == len(student) and teacher != student:
        sizes = (" and ".join(" × ".join(map(str, shape)) for shape in shapes) for shapes in (teacher, student))
        raise UsageError(
            "the teacher's output size is {}, the student's is {}".format(*sizes),
            "both outputs must have the same size",
            "give the student the same number of classes as the teacher",
        )


@contextmanager
def prefix_errors(network: str) -> Iterator[None]:
    """Prefix errors about the task with the network's name."""
    try:
        yield
    except (ConfigError, DataError) as error:
        raise type(error)(f"{network}: {error.what}", error.why, error.try_this) from error


def _make_smaller_student(
    plan: DistillPlan, teacher: ModuleSource | None, teacher_signature: Signature, experiment: Experiment
) -> PreparedStudent:
    if teacher is None:
        raise UsageError(f"--student {plan.student} requires a torch teacher", "", "--student FILE.py:FACTORY")
    times = parse_reduction(plan.student)
    job = InspectJob(
        module=teacher, shapes=experiment.shapes, task=experiment.task_json,
        settings=experiment.settings, student=times,
        out=str(experiment.memory / "student"),
    )  # fmt: skip
    folder = inspect_module(job, experiment.context)
    inspection = msgspec.json.decode((folder / "inspected.json").read_bytes(), type=InspectionReport)
    path = folder / "student.slices.json"
    slices = read_slices(path)
    file, name = find_factory(slices, path)
    widths = tuple(
        WidthRow(name=group, kind="channels", before=before, after=after, layers=())
        for group, (after, before) in inspection.widths.items()
    )
    notes = [f"the student has {inspection.student:,} of the teacher's {inspection.parameters:,} parameters"]
    if slices.removed:
        notes.append(f"removed blocks: {', '.join(slices.removed)}")
    source = ModuleSource(factory=f"{file.absolute()}:{name}", slices=str(path), fresh=True)
    return PreparedStudent(
        source,
        "",
        _rename_task_outputs(experiment.task, teacher_signature),
        _list_output_names(teacher_signature),
        widths,
        tuple(notes),
    )


def parse_reduction(student: str) -> float:
    """Return N of `auto:Nx`, or 1 for the user's own student. UsageError for a number that is not above 1."""
    if not student.startswith("auto:"):
        return 1.0
    try:
        times = float(student.removeprefix("auto:").rstrip("x×"))
    except ValueError:
        times = 0.0
    if not 1 < times < float("inf"):
        raise UsageError(
            f"--student {student} is not valid",
            "the reduction factor must be a number above 1",
            "use --student auto:5x",
        )
    return times


def get_family_stem(plan: DistillPlan) -> str:
    """Return the stem of all file names of a distillation."""
    return get_stem(plan.teacher if plan.student.startswith("auto:") else plan.student)


def name_student(plan: DistillPlan) -> str:
    """Return the stem of the exported files."""
    return f"{get_family_stem(plan)}-{'student' if plan.student.startswith('auto:') else 'distilled'}"
