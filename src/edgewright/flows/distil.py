"""Teach a small network by a big one, beside the same network that learns from the labels alone."""

from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import msgspec

from edgewright.bench.session import Tell
from edgewright.devices.contract import Device
from edgewright.errors import EdgewrightError, GateFailed, ModelNotFound, StoreError, UsageError
from edgewright.facts.model import Model, Signature
from edgewright.facts.plan import CompilePlan, DistilPlan
from edgewright.flows.contest import costs_of, judge_all, make_runnable, name_sides, race
from edgewright.flows.course import Course, begin_course, check_judge, forget, read_settings, remembered
from edgewright.flows.distillation import DistilReport
from edgewright.flows.evaluation import EvaluationRow
from edgewright.flows.learning import (
    compare_sides,
    describe_side,
    drop_against,
    first_curves,
    scale_of,
    trained_notes,
)
from edgewright.flows.publish import place, told_as_output, workshop
from edgewright.flows.recording import as_named, record_training
from edgewright.flows.resolve import source_signature
from edgewright.flows.sources import hash_source, is_torch, prepare_source
from edgewright.flows.students import Student, family_of, make_student, name_student, times_smaller, told_of
from edgewright.flows.teaching import ask_file, ask_module, check_teaching, views_of
from edgewright.flows.trainings import Trained, torch_source, train_sides
from edgewright.formats.files import read_model
from edgewright.store.store import Store, utc_now
from edgewright.system.files import write_whole
from edgewright.training.job import Teaching, TrainJob


class Taught(NamedTuple):
    """The networks of the comparison, by side, with their trainings."""

    teacher: Path
    student: Student
    trained: dict[str, list[Trained]]
    alpha: float


def distil(
    plan: DistilPlan, out: Path, device: Device, store: Store, tell: Tell
) -> tuple[DistilReport, EdgewrightError | None]:
    """Train the student into the folder `out` and record the run; with the gate that kept it back.

    Raises what stands in the way.
    """
    started, began = utc_now(), monotonic()
    check_plan(plan)
    teacher = hash_source(CompilePlan(source=plan.teacher, weights=plan.teacher_weights, cells=()))
    content = f"{teacher} {student_hash(plan)}"
    course = begin_course(plan, content, "distil", out, device, store, tell, trains=True)
    plan = msgspec.structs.replace(
        plan, teacher_sha256=teacher, data_fingerprint=course.fingerprints[0], val_fingerprint=course.fingerprints[1]
    )
    with workshop(out) as work:
        opened = open_teacher(plan, course, work)
        with remembered(course, plan) as ready:
            taught = teach(plan, *opened, ready, work)
            rows, raced = judge(taught, family_of(plan), ready, work)
            report = describe(plan, taught, ready, rows, raced)
            report, refused = gate(msgspec.structs.replace(report, seconds=monotonic() - began), plan)
            error: EdgewrightError | None = refused
            if error is None:
                report = publish(report, plan, taught, out)
            try:
                model = begun_with(plan, taught, teacher)
                report = record_training("distil", report, plan, model, taught.trained, started, device, store)
            except StoreError as unsaved:
                error = error or unsaved
        if report.model is not None:  # what a gate keeps back is not trained again when the gate is moved
            forget(course.memory)
    return report, error


def begun_with(plan: DistilPlan, taught: Taught, teacher: str) -> Model:
    """What the student was made from: its own weights where it was given some, else its teacher, of that hash."""
    if plan.student_weights:
        file, source, digest = taught.trained["student"][0].onnx, plan.student, student_hash(plan)
    else:
        file, source, digest = taught.teacher, plan.teacher, teacher
    return as_named(read_model(file), Path(source.partition(":")[0]).name, digest, source)


def check_plan(plan: DistilPlan) -> None:
    """UsageError for what cannot be asked for, whatever the models."""
    read_settings(plan)
    if not is_torch(plan.teacher) and not Path(plan.teacher).exists():
        raise ModelNotFound(f"there is no teacher {plan.teacher}", "", "FILE.py:FACTORY, or a model file")
    if not plan.max_drop >= 0:
        what = f"--max-drop {plan.max_drop:g} cannot be used"
        raise UsageError(what, "it is how much worse than its control it may be", "--max-drop 0")
    check_teaching(plan)
    if plan.transfer != "none" and ".py:" not in plan.teacher:
        why = "what happens inside of it is seen only in a torch module"
        raise UsageError(f"--transfer {plan.transfer} needs a torch teacher", why, "--transfer none")
    if plan.student.startswith("auto:") and ".py:" not in plan.teacher:
        why = "a student of the same family is cut from its module"
        raise UsageError(f"--student {plan.student} needs a torch teacher", why, "--student FILE.py:FACTORY")
    times_smaller(plan.student)
    if not plan.student.startswith("auto:") and ".py:" not in plan.student:
        raise UsageError(
            f"--student {plan.student} cannot be trained", "it is no torch source", "FILE.py:FACTORY, or auto:5x"
        )


def student_hash(plan: DistilPlan) -> str:
    if plan.student.startswith("auto:"):
        return plan.student
    return hash_source(CompilePlan(source=plan.student, weights=plan.student_weights, cells=()))


def open_teacher(plan: DistilPlan, course: Course, work: Path) -> tuple[Path, Signature]:
    """Its file, exported where it is a torch source, once it is known to fit the task."""
    prepared = prepare_source(
        CompilePlan(
            source=plan.teacher, weights=plan.teacher_weights, cells=(),
            timeout_s=plan.timeout_s,
            shapes=course.shapes if is_torch(plan.teacher) or plan.teacher.endswith(".onnx") else {},
        ),
        work, course.court.device, bare=True,
    )  # fmt: skip
    teacher = Path(prepared.files.get("onnx") or prepared.model.path)
    signature = source_signature(read_model(teacher))
    with told_of("the teacher"):
        check_judge(course, signature)
    return teacher, signature


def teach(plan: DistilPlan, teacher: Path, signature: Signature, course: Course, work: Path) -> Taught:
    """Ask the teacher, and train student and control."""
    laid, court = course.laid, course.court
    if laid is None:
        raise UsageError("there is nothing to train on", "", "--data")
    module = torch_source(plan.teacher, plan.teacher_weights) if ".py:" in plan.teacher else None
    student = make_student(plan, module, signature, course)
    logits, views = "", 0
    if module is None:
        logits, views = str(ask_file(plan, teacher, work, course, laid, court.store)), views_of(plan.views, course)
    elif plan.transfer == "none":
        logits, views = str(ask_module(plan.views, module, course, laid)), views_of(plan.views, course)
    alpha = plan.alpha if laid.labels else 1.0
    teaching = Teaching(
        logits=logits,
        views=views,
        teacher=None if logits else module,
        temperature=plan.temperature,
        alpha=alpha,
        transfer=plan.transfer,
        transfer_weight=plan.transfer_weight,
    )
    seeds = range(course.settings.seed, course.settings.seed + plan.seeds)
    # The student first: what teacher and student have against each other is told before anything else begins.
    sides: dict[str, Teaching | None] = {"student": teaching}
    if plan.control and laid.labels:
        sides["control"] = None
    jobs = {side: [job_of(side, student, how, seed, plan, course) for seed in seeds] for side, how in sides.items()}
    # A teacher that is asked in the loop makes a step of the student much longer than one of the control.
    trained = train_sides(jobs, court.tell, alike=teaching.teacher is None)
    return Taught(teacher, student, dict(sorted(trained.items())), alpha)


def job_of(
    side: str, student: Student, teaching: Teaching | None, seed: int, plan: DistilPlan, course: Course
) -> TrainJob:
    if course.laid is None:
        raise UsageError("there is nothing to train on", "", "--data")
    place = seed - course.settings.seed + 1
    name = "student" if teaching else "control (the student without its teacher)"
    return TrainJob(
        title=name + (f", seed {place} of {plan.seeds}" if plan.seeds > 1 else ""),
        module=student.source,
        outputs=student.outputs,
        shapes=course.shapes,
        task=msgspec.json.encode(student.task).decode(),
        code=plan.code,
        data=course.laid,
        settings=msgspec.structs.replace(course.settings, seed=seed),
        teaching=teaching,
        out=str(course.memory / f"{side}-{seed}"),
        memory=str(course.memory / f"{side}-{seed}-checkpoints"),
    )


def judge(taught: Taught, stem: str, course: Course, work: Path) -> tuple[dict[str, EvaluationRow], Any]:
    """Rows by `side/place`, the control (else the teacher) first, since the others are paired with it; and the race."""
    models = {
        f"{side}/{place}": one.onnx for side, trained in taught.trained.items() for place, one in enumerate(trained)
    }
    models = (
        {**models, "teacher/0": taught.teacher}
        if "control" in taught.trained
        else {"teacher/0": taught.teacher, **models}
    )
    court = course.court
    named = name_sides(models, stem, work / "judged")
    ready = make_runnable(
        named, court.runtime, work / "runnable", court.device, court.store, court.tell, court.timeout_s
    )
    return judge_all(ready, court), race(ready["teacher/0"], ready["student/0"], court, {"distil": "speed"})


def describe(
    plan: DistilPlan, taught: Taught, course: Course, rows: Mapping[str, EvaluationRow], raced: Any
) -> DistilReport:
    seed, laid = course.settings.seed, course.laid
    paths = {"teacher": [taught.teacher]} | {
        side: [one.onnx for one in trained] for side, trained in taught.trained.items()
    }
    reports = {side: [one.report for one in trained] for side, trained in taught.trained.items()}
    sides = {
        side: describe_side(
            side, own[0], costs_of(own[0], course.shapes),
            [rows[f"{side}/{place}"] for place in range(len(own))], reports.get(side, ()), seed,
        )
        for side, own in paths.items()
    }  # fmt: skip
    sides["teacher"] = msgspec.structs.replace(sides["teacher"], latency_us=raced.before_us)
    sides["student"] = msgspec.structs.replace(sides["student"], latency_us=raced.after_us)
    reference = "control" if "control" in sides else "teacher"
    against = [
        compare_sides(sides["student"], sides[name], rows["student/0"].paired if name == reference else None)
        for name in ("control", "teacher")
        if name in sides
    ]
    notes = [*taught.student.notes, *trained_notes(one.report for one in taught.trained["student"])]
    if laid is not None and not laid.labels:
        notes.append("the training data has no labels: the student learns from the teacher alone, and has no control")
    if plan.seeds > 1:
        notes.append(f"the model put out is that of seed {seed}, which was not chosen by its result")
    return DistilReport(
        teacher=plan.teacher,
        teacher_sha256=plan.teacher_sha256,
        student=plan.student,
        runtime=plan.runtime,
        model=None,
        module=None,
        weights=None,
        temperature=plan.temperature,
        alpha=taught.alpha,
        transfer=plan.transfer,
        views=views_of(plan.views, course) if plan.transfer == "none" else 0,
        labelled=bool(laid and laid.labels),
        trained_on=len(laid.fit) if laid else 0,
        held_out=len(laid.held_out) if laid else 0,
        evaluated_on=rows["student/0"].evaluated,
        sides=tuple(sides.values()),
        against=tuple(one for one in against if one is not None),
        speedup=raced.speedup,
        widths=taught.student.widths,
        curves={side: first_curves(own) for side, own in reports.items()},
        notes=tuple(notes),
        state="ok",
        reason="",
        seconds=0.0,
    )


def gate(report: DistilReport, plan: DistilPlan) -> tuple[DistilReport, GateFailed | None]:
    """The report, and the error where the teacher did harm: the student is worse than its control by more than is
    allowed."""
    sides = {side.name: side for side in report.sides}
    if "control" not in sides:
        return report, None
    drop = drop_against(sides["student"], sides["control"])
    if drop <= plan.max_drop + 1e-9:
        return report, None
    unit = scale_of(sides["student"].metric.name)[1] if sides["student"].metric else ""
    versus = next(one for one in report.against if one.against == "control")
    reach = min((abs(one) for one in (versus.low, versus.high) if one is not None), default=drop)
    if versus.low is not None and versus.high is not None and versus.low <= 0 <= versus.high:
        reach = 0.0  # of the drop, the least that the interval leaves
    if reach <= plan.max_drop:
        note = f"it is {drop:.2f} {unit} below its control, which may be chance: the interval reaches to {reach:.2f}"
        return msgspec.structs.replace(report, notes=(*report.notes, note)), None
    error = GateFailed(
        "the student is kept back",
        f"it is {drop:.2f} {unit} below the same network that learnt from the labels alone",
        "more --epochs, a smaller --alpha, another --temperature; or a greater --max-drop",
    )
    return msgspec.structs.replace(report, state="refused", reason=error.why), error


def publish(report: DistilReport, plan: DistilPlan, taught: Taught, out: Path) -> DistilReport:
    """The first seed's student under its names: ONNX, and its factory with its weights."""
    stem = name_student(plan)
    first = taught.trained["student"][0]
    with told_as_output(out):
        place(first.onnx, out / f"{stem}.onnx")
        place(first.weights, out / f"{stem}.safetensors")
        module = taught.student.publish(out, stem)
        report = msgspec.structs.replace(
            report, model=str(out / f"{stem}.onnx"), module=module, weights=str(out / f"{stem}.safetensors")
        )
        write_whole(out / f"{stem}.distil.json", msgspec.json.encode(report))
    return report
