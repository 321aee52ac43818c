"""Distillation: train a student with a teacher, and a control with the labels only."""

from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import msgspec

from edgewright.errors import EdgewrightError, GateFailed, ModelNotFound, UsageError
from edgewright.flows.candidates import read_source_signature
from edgewright.flows.compile.publication import open_work_folder
from edgewright.flows.compile.sources import hash_source, is_torch, prepare_source, rename_model
from edgewright.flows.distill.report import DistillReport
from edgewright.flows.distill.students import (
    PreparedStudent,
    get_family_stem,
    make_student,
    name_student,
    parse_reduction,
    prefix_errors,
)
from edgewright.flows.experiment.records import TrainingRun
from edgewright.flows.experiment.report import Measured, collect_training_notes, compute_mean_drop, get_metric_scale
from edgewright.flows.experiment.run import Networks, compare, conclude, get_training_data, make_jobs, publish, reject
from edgewright.flows.experiment.setup import (
    Experiment,
    check_validation_data,
    open_experiment_folder,
    prepare_experiment,
    read_settings,
    remove_folder,
)
from edgewright.flows.experiment.teacher_outputs import (
    check_distillation,
    compute_file_outputs,
    compute_module_outputs,
    count_views,
)
from edgewright.flows.experiment.trainings import make_torch_source, train_networks
from edgewright.flows.workspace import Workspace
from edgewright.formats.files import read_model
from edgewright.schema.model import Model, Signature
from edgewright.schema.plan import CompilePlan, DistillPlan
from edgewright.store.recording import utc_now
from edgewright.training.job import DistillationSettings


class DistilledNetworks(NamedTuple):
    """The compared networks, and how the student was made."""

    networks: Networks
    student: PreparedStudent
    alpha: float


def distill(plan: DistillPlan, out: Path, workspace: Workspace) -> tuple[DistillReport, EdgewrightError | None]:
    """Train the student into the folder `out`, record the run, and return the report and the failed gate.

    Raises any error that prevents the training.
    """
    started, began = utc_now(), monotonic()
    check_plan(plan)
    teacher = hash_source(CompilePlan(source=plan.teacher, weights=plan.teacher_weights, cells=()))
    content = f"{teacher} {_hash_student(plan)}"
    experiment = prepare_experiment(plan, content, "distil", out, workspace, trains=True)
    plan = msgspec.structs.replace(
        plan,
        teacher_sha256=teacher,
        data_fingerprint=experiment.fingerprints[0],
        val_fingerprint=experiment.fingerprints[1],
    )
    with open_work_folder(out) as work, experiment.context.workspace.record_cancelled("distil", plan, started):
        opened = _open_teacher(plan, experiment, work)
        with open_experiment_folder(experiment, plan) as ready:
            made = _train_student_and_control(plan, *opened, ready, work)
            measured = compare(made.networks, ready, "distil", get_family_stem(plan), work)
            judged = _apply_gate(_make_report(plan, made, ready, measured), plan)
            model = _describe_initial_model(plan, made.networks, teacher)
            run = TrainingRun("distil", plan, model, made.networks.trained, started)
            publisher = partial(_publish_student, plan=plan, made=made, out=out)
            report, error = conclude(judged, began, publisher, run, ready)
    if report.model is not None:  # a rejected result is kept, so that a changed gate does not require new training
        remove_folder(experiment.memory)
    return report, error


def _describe_initial_model(plan: DistillPlan, networks: Networks, teacher: str) -> Model:
    """Return the model that the student started from: its own weights, else its teacher, of that hash."""
    if plan.student_weights:
        file, source, digest = networks.trained["student"][0].onnx, plan.student, _hash_student(plan)
    else:
        file, source, digest = networks.files["teacher"][0], plan.teacher, teacher
    return rename_model(read_model(file), Path(source.partition(":")[0]).name, digest, source)


def check_plan(plan: DistillPlan) -> None:
    """Raise UsageError for plan values that are not valid for any model."""
    read_settings(plan)
    if not is_torch(plan.teacher) and not Path(plan.teacher).exists():
        raise ModelNotFound(f"teacher not found: {plan.teacher}", "", "give FILE.py:FACTORY or a model file")
    if not plan.max_drop >= 0:
        what = f"--max-drop {plan.max_drop:g} cannot be used"
        raise UsageError(what, "the allowed drop against the control must be 0 or more", "use --max-drop 0")
    check_distillation(plan)
    if plan.transfer != "none" and ".py:" not in plan.teacher:
        why = "inner activations are available only from a torch module"
        raise UsageError(f"--transfer {plan.transfer} requires a torch teacher", why, "use --transfer none")
    if plan.student.startswith("auto:") and ".py:" not in plan.teacher:
        why = "an auto student is cut from the teacher's module"
        raise UsageError(f"--student {plan.student} requires a torch teacher", why, "--student FILE.py:FACTORY")
    parse_reduction(plan.student)
    if not plan.student.startswith("auto:") and ".py:" not in plan.student:
        raise UsageError(
            f"--student {plan.student} cannot be trained", "it is not a torch source", "give FILE.py:FACTORY or auto:5x"
        )


def _hash_student(plan: DistillPlan) -> str:
    if plan.student.startswith("auto:"):
        return plan.student
    return hash_source(CompilePlan(source=plan.student, weights=plan.student_weights, cells=()))


def _open_teacher(plan: DistillPlan, experiment: Experiment, work: Path) -> tuple[Path, Signature]:
    """Return the teacher's file, exported from a torch source, after checking it against the task."""
    prepared = prepare_source(
        CompilePlan(
            source=plan.teacher, weights=plan.teacher_weights, cells=(),
            timeout_s=plan.timeout_s,
            shapes=experiment.shapes if is_torch(plan.teacher) or plan.teacher.endswith(".onnx") else {},
        ),
        work, experiment.context.workspace.device, bare=True,
    )  # fmt: skip
    teacher = Path(prepared.files.get("onnx") or prepared.model.path)
    signature = read_source_signature(read_model(teacher))
    with prefix_errors("the teacher"):
        check_validation_data(experiment, signature)
    return teacher, signature


def _train_student_and_control(
    plan: DistillPlan, teacher: Path, signature: Signature, experiment: Experiment, work: Path
) -> DistilledNetworks:
    """Compute the teacher's outputs, and train student and control."""
    dataset, context = get_training_data(experiment), experiment.context
    module = make_torch_source(plan.teacher, plan.teacher_weights) if ".py:" in plan.teacher else None
    student = make_student(plan, module, signature, experiment)
    logits, views = "", 0
    if module is None:
        logits, views = (
            str(compute_file_outputs(plan, teacher, work, experiment, dataset, context.workspace.store)),
            count_views(plan.views, experiment),
        )
    elif plan.transfer == "none":
        logits, views = (
            str(compute_module_outputs(plan.views, module, experiment, dataset)),
            count_views(plan.views, experiment),
        )
    alpha = plan.alpha if dataset.labels else 1.0
    teaching = DistillationSettings(
        logits=logits,
        views=views,
        teacher=None if logits else module,
        temperature=plan.temperature,
        alpha=alpha,
        transfer=plan.transfer,
        transfer_weight=plan.transfer_weight,
    )
    own: dict[str, Any] = {
        "seeds": plan.seeds,
        "module": student.source,
        "outputs": student.outputs,
        "task": msgspec.json.encode(student.task).decode(),
    }
    # The student comes first, so that a mismatch with the teacher is reported before other work.
    jobs = {"student": make_jobs("student", "student", experiment, teaching=teaching, **own)}
    if plan.control and dataset.labels:
        jobs["control"] = make_jobs("control", "control (student without teacher)", experiment, **own)
    # A teacher that runs inside the training loop makes a student's step much longer than the control's.
    trained = train_networks(jobs, context.workspace.progress, similar_cost=teaching.teacher is None)
    trained = dict(sorted(trained.items()))
    files = {"teacher": [teacher]} | {name: [one.onnx for one in all_seeds] for name, all_seeds in trained.items()}
    return DistilledNetworks(Networks("teacher", "student", files, trained), student, alpha)


def _make_report(
    plan: DistillPlan, made: DistilledNetworks, experiment: Experiment, measured: Measured
) -> DistillReport:
    labeled = get_training_data(experiment).labels
    trained = made.networks.trained["student"]
    notes = [*made.student.notes, *collect_training_notes(one.report for one in trained)]
    if not labeled:
        notes.append(
            "the training data has no labels: the student is trained on the teacher's outputs only, without a control"
        )
    if plan.seeds > 1:
        notes.append(
            f"the exported model is that of seed {experiment.settings.seed}; it was not selected by its result"
        )
    return DistillReport(
        **measured,
        teacher=plan.teacher,
        teacher_sha256=plan.teacher_sha256,
        student=plan.student,
        temperature=plan.temperature,
        alpha=made.alpha,
        transfer=plan.transfer,
        views=count_views(plan.views, experiment) if plan.transfer == "none" else 0,
        labeled=bool(labeled),
        widths=made.student.widths,
        notes=tuple(notes),
    )


def _apply_gate(report: DistillReport, plan: DistillPlan) -> tuple[DistillReport, GateFailed | None]:
    """Return the report, and the error if the student is worse than its control by more than allowed."""
    networks = {network.name: network for network in report.networks}
    if "control" not in networks:
        return report, None
    drop = compute_mean_drop(networks["student"], networks["control"])
    if drop <= plan.max_drop + 1e-9:
        return report, None
    unit = get_metric_scale(networks["student"].metric.name)[1] if networks["student"].metric else ""
    delta = next(one for one in report.against if one.against == "control")
    reach = min((abs(one) for one in (delta.low, delta.high) if one is not None), default=drop)
    if delta.low is not None and delta.high is not None and delta.low <= 0 <= delta.high:
        reach = 0.0  # smallest drop within the interval
    if reach <= plan.max_drop:
        note = f"it is {drop:.2f} {unit} below its control, which may be chance: the interval reaches {reach:.2f}"
        return msgspec.structs.replace(report, notes=(*report.notes, note)), None
    error = GateFailed(
        "the student was rejected",
        f"it is {drop:.2f} {unit} below the control, the same network trained on the labels only",
        "raise --epochs, lower --alpha, change --temperature, or raise --max-drop, which trains nothing again",
    )
    return reject(report, error)


def _publish_student(report: DistillReport, *, plan: DistillPlan, made: DistilledNetworks, out: Path) -> DistillReport:
    stem = name_student(plan)
    return publish(report, made.networks, out / stem, "distil", partial(made.student.publish, out, stem))
