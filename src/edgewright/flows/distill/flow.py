"""Distillation: train a student with a teacher, and a control with the labels only."""

from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import msgspec

from edgewright.errors import EdgewrightError, GateFailed, ModelNotFound, StoreError, UsageError
from edgewright.flows.candidates import read_source_signature
from edgewright.flows.compile.publication import copy_atomically, open_work_folder, raise_output_errors
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
from edgewright.flows.evaluate.report import EvaluationRow
from edgewright.flows.experiment.control import (
    compare_speed,
    convert_all_for_runtime,
    evaluate_networks,
    measure_file_costs,
    name_network_files,
)
from edgewright.flows.experiment.records import record_training
from edgewright.flows.experiment.report import (
    collect_training_notes,
    compare_networks,
    compute_mean_drop,
    get_first_curves,
    get_metric_scale,
    make_network_report,
)
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
from edgewright.flows.experiment.trainings import TrainedNetwork, make_torch_source, train_networks
from edgewright.flows.workspace import Workspace
from edgewright.formats.files import read_model
from edgewright.schema.model import Model, Signature
from edgewright.schema.plan import CompilePlan, DistillPlan
from edgewright.store.recording import utc_now
from edgewright.system.files import write_atomically
from edgewright.training.job import DistillationSettings, TrainJob


class DistilledNetworks(NamedTuple):
    """The compared networks by name, with their trainings."""

    teacher: Path
    student: PreparedStudent
    trained: dict[str, list[TrainedNetwork]]
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
    with open_work_folder(out) as work:
        opened = _open_teacher(plan, experiment, work)
        with open_experiment_folder(experiment, plan) as ready:
            networks = _train_student_and_control(plan, *opened, ready, work)
            rows, speed_comparison = _evaluate_and_time(networks, get_family_stem(plan), ready, work)
            report = _make_report(plan, networks, ready, rows, speed_comparison)
            report, gate_error = _apply_gate(msgspec.structs.replace(report, seconds=monotonic() - began), plan)
            error: EdgewrightError | None = gate_error
            if error is None:
                report = _publish_student(report, plan, networks, out)
            try:
                model = _describe_initial_model(plan, networks, teacher)
                report = record_training("distil", report, plan, model, networks.trained, started, workspace)
            except StoreError as unsaved:
                error = error or unsaved
        if report.model is not None:  # a rejected result is kept, so that a changed gate does not require new training
            remove_folder(experiment.memory)
    return report, error


def _describe_initial_model(plan: DistillPlan, networks: DistilledNetworks, teacher: str) -> Model:
    """Return the model that the student started from: its own weights, else its teacher, of that hash."""
    if plan.student_weights:
        file, source, digest = networks.trained["student"][0].onnx, plan.student, _hash_student(plan)
    else:
        file, source, digest = networks.teacher, plan.teacher, teacher
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
    dataset, context = experiment.dataset, experiment.context
    if dataset is None:
        raise UsageError("no training data was given", "", "--data")
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
    seeds = range(experiment.settings.seed, experiment.settings.seed + plan.seeds)
    # The student comes first, so that a mismatch with the teacher is reported before other work.
    sides: dict[str, DistillationSettings | None] = {"student": teaching}
    if plan.control and dataset.labels:
        sides["control"] = None
    jobs = {
        network: [_make_train_job(network, student, how, seed, plan, experiment) for seed in seeds]
        for network, how in sides.items()
    }
    # A teacher that runs inside the training loop makes a student's step much longer than the control's.
    trained = train_networks(jobs, context.workspace.progress, similar_cost=teaching.teacher is None)
    return DistilledNetworks(teacher, student, dict(sorted(trained.items())), alpha)


def _make_train_job(
    network: str,
    student: PreparedStudent,
    teaching: DistillationSettings | None,
    seed: int,
    plan: DistillPlan,
    experiment: Experiment,
) -> TrainJob:
    if experiment.dataset is None:
        raise UsageError("no training data was given", "", "--data")
    index = seed - experiment.settings.seed + 1
    name = "student" if teaching else "control (student without teacher)"
    return TrainJob(
        title=name + (f", seed {index} of {plan.seeds}" if plan.seeds > 1 else ""),
        module=student.source,
        outputs=student.outputs,
        shapes=experiment.shapes,
        task=msgspec.json.encode(student.task).decode(),
        code=plan.code,
        data=experiment.dataset,
        settings=msgspec.structs.replace(experiment.settings, seed=seed),
        teaching=teaching,
        out=str(experiment.memory / f"{network}-{seed}"),
        memory=str(experiment.memory / f"{network}-{seed}-checkpoints"),
    )


def _evaluate_and_time(
    networks: DistilledNetworks, stem: str, experiment: Experiment, work: Path
) -> tuple[dict[str, EvaluationRow], Any]:
    """Return rows by `network/index`, the control (else the teacher) first as the paired reference, and the timing."""
    models = {
        f"{network}/{index}": one.onnx
        for network, trained in networks.trained.items()
        for index, one in enumerate(trained)
    }
    models = (
        {**models, "teacher/0": networks.teacher}
        if "control" in networks.trained
        else {"teacher/0": networks.teacher, **models}
    )
    context = experiment.context
    named = name_network_files(models, stem, work / "evaluated")
    ready = convert_all_for_runtime(named, context.runtime, work / "runnable", context.workspace, context.timeout_s)
    return evaluate_networks(ready, context), compare_speed(
        ready["teacher/0"], ready["student/0"], context, {"distil": "speed"}
    )


def _make_report(
    plan: DistillPlan,
    networks: DistilledNetworks,
    experiment: Experiment,
    rows: Mapping[str, EvaluationRow],
    speed_comparison: Any,
) -> DistillReport:
    seed, dataset = experiment.settings.seed, experiment.dataset
    paths = {"teacher": [networks.teacher]} | {
        network: [one.onnx for one in trained] for network, trained in networks.trained.items()
    }
    reports = {network: [one.report for one in trained] for network, trained in networks.trained.items()}
    sides = {
        network: make_network_report(
            network, own[0], measure_file_costs(own[0], experiment.shapes),
            [rows[f"{network}/{index}"] for index in range(len(own))], reports.get(network, ()), seed,
        )
        for network, own in paths.items()
    }  # fmt: skip
    sides["teacher"] = msgspec.structs.replace(sides["teacher"], latency_us=speed_comparison.before_us)
    sides["student"] = msgspec.structs.replace(sides["student"], latency_us=speed_comparison.after_us)
    reference = "control" if "control" in sides else "teacher"
    against = [
        compare_networks(sides["student"], sides[name], rows["student/0"].paired if name == reference else None)
        for name in ("control", "teacher")
        if name in sides
    ]
    notes = [*networks.student.notes, *collect_training_notes(one.report for one in networks.trained["student"])]
    if dataset is not None and not dataset.labels:
        notes.append(
            "the training data has no labels: the student is trained on the teacher's outputs only, without a control"
        )
    if plan.seeds > 1:
        notes.append(f"the exported model is that of seed {seed}; it was not selected by its result")
    return DistillReport(
        teacher=plan.teacher,
        teacher_sha256=plan.teacher_sha256,
        student=plan.student,
        runtime=plan.runtime,
        model=None,
        module=None,
        weights=None,
        temperature=plan.temperature,
        alpha=networks.alpha,
        transfer=plan.transfer,
        views=count_views(plan.views, experiment) if plan.transfer == "none" else 0,
        labelled=bool(dataset and dataset.labels),
        trained_on=len(dataset.fit) if dataset else 0,
        held_out=len(dataset.held_out) if dataset else 0,
        evaluated_on=rows["student/0"].evaluated,
        sides=tuple(sides.values()),
        against=tuple(one for one in against if one is not None),
        speedup=speed_comparison.speedup,
        widths=networks.student.widths,
        curves={network: get_first_curves(own) for network, own in reports.items()},
        notes=tuple(notes),
        state="ok",
        reason="",
        seconds=0.0,
    )


def _apply_gate(report: DistillReport, plan: DistillPlan) -> tuple[DistillReport, GateFailed | None]:
    """Return the report, and the error if the student is worse than its control by more than allowed."""
    sides = {network.name: network for network in report.sides}
    if "control" not in sides:
        return report, None
    drop = compute_mean_drop(sides["student"], sides["control"])
    if drop <= plan.max_drop + 1e-9:
        return report, None
    unit = get_metric_scale(sides["student"].metric.name)[1] if sides["student"].metric else ""
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
        "raise --epochs, lower --alpha, change --temperature, or raise --max-drop",
    )
    return msgspec.structs.replace(report, state="refused", reason=error.why), error


def _publish_student(report: DistillReport, plan: DistillPlan, networks: DistilledNetworks, out: Path) -> DistillReport:
    """Publish the first seed's student: ONNX, and its factory with weights."""
    stem = name_student(plan)
    first = networks.trained["student"][0]
    with raise_output_errors(out):
        copy_atomically(first.onnx, out / f"{stem}.onnx")
        copy_atomically(first.weights, out / f"{stem}.safetensors")
        module = networks.student.publish(out, stem)
        report = msgspec.structs.replace(
            report, model=str(out / f"{stem}.onnx"), module=module, weights=str(out / f"{stem}.safetensors")
        )
        write_atomically(out / f"{stem}.distil.json", msgspec.json.encode(report))
    return report
