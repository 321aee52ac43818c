"""Prune a model: find what hangs together, cut what matters least until the budget is met, train back what was lost.

Everything that is trained lies in a folder of the output that is kept until all is done: the same command goes on
where it was broken off, on this machine or another one.
"""

import re
from collections.abc import Mapping
from contextlib import nullcontext
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import msgspec

from edgewright.bench.session import Tell
from edgewright.devices.contract import Device
from edgewright.errors import EdgewrightError, GateFailed, StoreError, UsageError
from edgewright.facts.plan import CompilePlan, PrunePlan
from edgewright.flows.contest import costs_of, judge_all, make_runnable, name_sides, race
from edgewright.flows.course import Course, begin_course, check_judge, forget, read_settings, remembered
from edgewright.flows.cutting import Cut, cut_file, cut_module, thin_file
from edgewright.flows.evaluation import EvaluationRow
from edgewright.flows.learning import (
    Side,
    compare_sides,
    describe_side,
    drop_against,
    first_curves,
    scale_of,
    trained_notes,
)
from edgewright.flows.narrowing import parse_amount
from edgewright.flows.pruning import PruneReport, module_name, targets_of
from edgewright.flows.publish import place, told_as_output, workshop
from edgewright.flows.recording import as_named, record_training
from edgewright.flows.sources import (
    Prepared,
    check_float_onnx,
    hash_source,
    is_torch,
    prepare_source,
    stem_of,
)
from edgewright.flows.teaching import ask_module, check_teaching, views_of
from edgewright.flows.trainings import Trained, torch_source, train_sides
from edgewright.store.store import Store, utc_now
from edgewright.system.files import write_whole
from edgewright.training.job import Laid, Source, Teaching, Thinning, TrainJob
from edgewright.training.slices import write_built

ALIKE = 0.5  # of the MACs: on two processors a shorter training saves nothing beside the whole network's
PATTERN = re.compile(r"[1-9]\d*:[1-9]\d*")
CANNOT_TRAIN = "it is not trained again: that needs a torch source, FILE.py:FACTORY with its weights, and --data"


class Pruned(NamedTuple):
    """The networks of the comparison, by side: one ONNX file for each seed, and how it was trained."""

    files: dict[str, list[Path]]
    trained: dict[str, list[Trained]]
    cut: Cut
    module: Source | None = None


def prune(
    plan: PrunePlan, out: Path, device: Device, store: Store, tell: Tell
) -> tuple[PruneReport, EdgewrightError | None]:
    """Prune a model into the folder `out` and record the run; with the gate that kept the result back.

    Raises what stands in the way, GateFailed for a budget that cannot be met.
    """
    started, began = utc_now(), monotonic()
    check_plan(plan)
    content = hash_source(CompilePlan(source=plan.source, weights=plan.weights, cells=()))
    trains = ".py:" in plan.source and bool(plan.data)
    if not trains and plan.importance == "taylor":  # which needs gradients
        plan = msgspec.structs.replace(plan, importance="l2")
    course = begin_course(plan, content, "prune", out, device, store, tell, trains=trains)
    plan = msgspec.structs.replace(
        plan, source_sha256=content, data_fingerprint=course.fingerprints[0], val_fingerprint=course.fingerprints[1]
    )
    with workshop(out) as work:
        source = CompilePlan(
            source=plan.source, weights=plan.weights, cells=(), timeout_s=plan.timeout_s,
            shapes=course.shapes if is_torch(plan.source) or plan.source.endswith(".onnx") else dict(plan.shapes),
        )  # fmt: skip
        prepared = prepare_source(source, work, device, bare=True)
        check_float_onnx(prepared, "pruned")
        check_judge(course, prepared.model.signature)
        with remembered(course, plan) if trains else nullcontext(course) as ready:
            pruned = make_pruned(plan, prepared, ready, work)
            rows, raced = judge(plan, pruned, Path(prepared.files["onnx"]), ready, work)
            report = describe(plan, prepared, pruned, ready, rows, raced)
            report, refused = gate(msgspec.structs.replace(report, seconds=monotonic() - began), plan)
            error: EdgewrightError | None = refused
            if error is None:
                report = publish(report, plan, pruned, out)
            try:
                model = as_named(prepared.model, prepared.name, prepared.sha256, plan.source)
                report = record_training("prune", report, plan, model, pruned.trained, started, device, store)
            except StoreError as unsaved:
                error = error or unsaved
        if report.model is not None:  # what a gate keeps back is not trained again when the gate is moved
            forget(course.memory)
    return report, error


def check_plan(plan: PrunePlan) -> None:
    """UsageError for what cannot be asked for, whatever the model."""
    read_settings(plan)
    if plan.method == "unstructured" and not 0 < plan.sparsity < 1:
        raise UsageError(
            f"--sparsity {plan.sparsity:g} cannot be used",
            "0 removes nothing, and 1 leaves nothing" if plan.sparsity in (0, 1) else "it is a share of the weights",
            "--sparsity 0.8",
        )
    if plan.target_speedup is not None and not 1 < plan.target_speedup < inf:
        what = f"--target-speedup {plan.target_speedup:g} cannot be used"
        raise UsageError(what, "it is a factor above 1, which is as fast as it is", "--target-speedup 1.5")
    budgets = [one for one in (plan.target_speedup, plan.target_bytes, plan.target_macs) if one]
    if plan.method == "unstructured" and budgets:
        why = "single weights that are zero make no network faster or smaller before it is packed"
        raise UsageError("--method unstructured has no such budget", why, "--sparsity 0.8")
    if not plan.max_drop >= 0:
        what = f"--max-drop {plan.max_drop:g} cannot be used"
        raise UsageError(what, "it is how much worse the metric may get", "--max-drop 1")
    for count, flag, usual in (
        (plan.multiple, "--multiple", 8),
        (plan.rounds, "--rounds", 1),
    ):
        if count < 1:
            raise UsageError(f"{flag} {count} cannot be used", "it counts from 1", f"{flag} {usual}")
    check_teaching(plan)
    if not 0 < plan.round_epochs < inf:
        what = f"--round-epochs {plan.round_epochs:g} cannot be used"
        raise UsageError(what, "nothing would be trained", "--round-epochs 1")
    for text, flag in ((plan.target_bytes, "--target-bytes"), (plan.target_macs, "--target-macs")):
        if text and (amount := parse_amount(text, inf, flag)) < 1:
            why = "an amount is a count, and this is less than one"
            raise UsageError(f"{flag} {text} cannot be used", why, f"{flag} {1 / amount:.3g}x for this share of it")
        if text and parse_amount(text, inf, flag) == inf and parse_amount(text, 1.0, flag) >= 1:
            raise UsageError(f"{flag} {text} is no less than it has", "1x leaves it as it is", f"{flag} 2x")
    if plan.pattern and (
        not PATTERN.fullmatch(plan.pattern) or int(plan.pattern.split(":")[0]) >= int(plan.pattern.split(":")[1])
    ):
        what = f"--pattern {plan.pattern} cannot be used"
        raise UsageError(what, "N:M keeps N of each M weights, and fewer than all", "--pattern 2:4")


def make_pruned(plan: PrunePlan, prepared: Prepared, course: Course, work: Path) -> Pruned:
    """Every network of the comparison, trained where that can be."""
    onnx = Path(prepared.files["onnx"])
    if course.laid is None:
        make = cut_file if plan.method == "structured" else thin_file
        cut = make(plan, onnx, course, work / "cut")
        return Pruned({"pruned": [cut.onnx]}, {}, cut)
    whole = torch_source(plan.source, plan.weights)
    teaching = taught_by(whole, plan, course, course.laid) if plan.teach else None
    if plan.method == "structured":
        cut, module, thinning = *cut_module(plan, whole, onnx, course, work, teaching), None
    else:
        cut, module, thinning = (
            Cut(onnx, (), {}),
            whole,
            Thinning(sparsity=plan.sparsity, scope=plan.scope, pattern=plan.pattern),
        )
    seeds = range(course.settings.seed, course.settings.seed + plan.seeds)
    jobs = {}
    if plan.control:
        jobs["control"] = [job_of("control", whole, None, teaching, seed, plan, course, cut.epochs) for seed in seeds]
    jobs["pruned"] = [job_of("pruned", module, thinning, teaching, seed, plan, course, 0.0) for seed in seeds]
    trained = train_sides(jobs, course.court.tell, alike=cut.macs >= ALIKE)
    files = {name: [one.onnx for one in all_seeds] for name, all_seeds in trained.items()}
    return Pruned(files, trained, cut, module)


def taught_by(whole: Source, plan: PrunePlan, course: Course, laid: Laid) -> Teaching:
    """The source as the teacher, of the pruned network and of the control alike."""
    answers = ask_module(plan.views, whole, course, laid)
    alpha = plan.alpha if laid.labels else 1.0
    return Teaching(logits=str(answers), views=views_of(plan.views, course), temperature=plan.temperature, alpha=alpha)


def job_of(
    side: str,
    module: Source,
    thinning: Thinning | None,
    teaching: Teaching | None,
    seed: int,
    plan: PrunePlan,
    course: Course,
    more: float,
) -> TrainJob:
    """One training; `more` epochs than the settings say, for the control of one that was trained on the way too."""
    if course.laid is None:
        raise UsageError("there is nothing to train on", "", "--data")
    place = seed - course.settings.seed + 1
    title = f"{side} network" + (f", seed {place} of {plan.seeds}" if plan.seeds > 1 else "")
    settings = msgspec.structs.replace(course.settings, seed=seed, epochs=course.settings.epochs + more)
    return TrainJob(
        title=title,
        module=module,
        shapes=course.shapes,
        task=course.task_json,
        code=course.court.code,
        data=course.laid,
        settings=settings,
        teaching=teaching,
        thinning=thinning,
        out=str(course.memory / f"{side}-{seed}"),
        memory=str(course.memory / f"{side}-{seed}-checkpoints"),
    )


def judge(
    plan: PrunePlan, pruned: Pruned, source: Path, course: Course, work: Path
) -> tuple[dict[str, EvaluationRow], Any]:
    """Rows by `side/place`, the control (else the source) first, since the others are paired with it; and the race."""
    files = {f"{side}/{place}": path for side in ("control", "pruned") for place, path in numbered(pruned.files, side)}
    first = next(iter(files))
    models = (
        {first: files[first], **files, "source/0": source}
        if "control" in pruned.files
        else {"source/0": source, **files}
    )
    court = course.court
    named = name_sides(models, stem_of(plan.source), work / "judged")
    ready = make_runnable(
        named, court.runtime, work / "runnable", court.device, court.store, court.tell, court.timeout_s
    )
    rows = judge_all(ready, court)
    return rows, race(ready["source/0"], ready["pruned/0"], court, {"prune": "speed"})


def numbered(files: Mapping[str, list[Path]], side: str) -> list[tuple[int, Path]]:
    return list(enumerate(files.get(side, ())))


def describe(
    plan: PrunePlan, prepared: Prepared, pruned: Pruned, course: Course, rows: Mapping[str, EvaluationRow], raced: Any
) -> PruneReport:
    seed = course.settings.seed
    files = {"source": [Path(prepared.files["onnx"])], **pruned.files}
    reports = {side: [one.report for one in pruned.trained.get(side, ())] for side in files}
    sides = {}
    for side, paths in files.items():
        own = [rows[f"{side}/{place}"] for place in range(len(paths))]
        sides[side] = describe_side(side, paths[0], costs_of(paths[0], course.shapes), own, reports[side], seed)
    sides["source"] = msgspec.structs.replace(sides["source"], latency_us=raced.before_us)
    sides["pruned"] = msgspec.structs.replace(
        sides["pruned"], latency_us=raced.after_us, zeros=sides["pruned"].zeros or pruned.cut.zeros
    )
    against = [
        compare_sides(sides["pruned"], sides[name], rows["pruned/0"].paired if name == first_of(sides) else None)
        for name in ("control", "source")
        if name in sides
    ]
    evaluated = rows["pruned/0"].evaluated
    return PruneReport(
        source=plan.source,
        source_sha256=prepared.sha256,
        method=plan.method,
        importance=plan.importance if plan.method == "structured" else "magnitude",
        targets=targets_of(plan),
        runtime=plan.runtime,
        model=None,
        module=None,
        weights=None,
        trained_on=len(course.laid.fit) if course.laid else 0,
        held_out=len(course.laid.held_out) if course.laid else 0,
        evaluated_on=evaluated,
        sides=tuple(sides.values()),
        against=tuple(one for one in against if one is not None),
        speedup=raced.speedup,
        widths=pruned.cut.widths,
        fixed=pruned.cut.fixed,
        curves={side: first_curves(all_seeds) for side, all_seeds in reports.items() if all_seeds},
        notes=notes_of(plan, course, pruned),
        state="ok",
        reason="",
        seconds=0.0,
    )


def first_of(sides: Mapping[str, Side]) -> str:
    return "control" if "control" in sides else "source"


def notes_of(plan: PrunePlan, course: Course, pruned: Pruned) -> tuple[str, ...]:
    notes = [*trained_notes(one.report for one in pruned.trained.get("pruned", ()))]
    if course.laid is None:
        notes.append(CANNOT_TRAIN)
    elif plan.teach:
        views = views_of(plan.views, course)
        notes.append(
            f"the source taught the pruned network{' and the control alike' if plan.control else ''}: "
            f"temperature {plan.temperature:g}, alpha {plan.alpha if course.laid.labels else 1:g}, "
            f"{views} view{'s'[: views > 1]} of each sample"
        )
    if ".py:" in plan.source and not plan.weights:
        notes.append("no --weights were named: it began with what its factory gives, random unless that loads some")
    if course.laid is not None and not course.laid.labels:
        notes.append("the training data has no labels: the networks learn from the source alone")
    if plan.method == "unstructured":
        notes.append(
            f"it is smaller only once it is packed, and not faster: {plan.runtime} multiplies by zeros as by any number"
        )
    if plan.seeds > 1 and course.laid is not None:
        notes.append(f"the model put out is that of seed {course.settings.seed}, which was not chosen by its result")
    return tuple(notes)


def gate(report: PruneReport, plan: PrunePlan) -> tuple[PruneReport, GateFailed | None]:
    """The report, and the error where the metric is worse than the source's, or than the control's, by more than is
    allowed."""
    sides = {side.name: side for side in report.sides}
    pruned = sides.pop("pruned")
    drops = {name: drop_against(pruned, other) for name, other in sides.items()}
    worst = max(drops, key=lambda name: drops[name])
    faults, speed = [], report.speedup
    if drops[worst] > plan.max_drop + 1e-9:
        unit = scale_of(pruned.metric.name)[1] if pruned.metric else ""
        faults.append(f"it is {drops[worst]:.2f} {unit} below the {worst}, more than --max-drop {plan.max_drop:g}")
    if plan.target_speedup and speed is not None and (speed.high or speed.ratio) < plan.target_speedup:
        faults.append(f"it is {speed.ratio:.2f} × as fast, less than --target-speedup {plan.target_speedup:g}")
    source = next(side for side in report.sides if side.name == "source")
    for text, own, whole, flag in (
        (plan.target_bytes, pruned.bytes, source.bytes, "--target-bytes"),
        (plan.target_macs, pruned.macs or 0, source.macs or 0, "--target-macs"),
    ):
        if text and own > parse_amount(text, whole, flag):
            faults.append(f"it has {own:,}, more than {flag} {text}")
    if not faults:
        if plan.target_speedup and speed is not None and speed.ratio < plan.target_speedup:
            note = f"timed again it is {speed.ratio:.2f} × as fast: within the noise of --target-speedup"
            report = msgspec.structs.replace(report, notes=(*report.notes, note))
        return report, None
    error = GateFailed(
        f"{Path(plan.source).name} pruned is kept back",
        "; ".join(faults),
        "a smaller target, more --epochs, more data; or a greater --max-drop"
        if report.trained_on
        else "a smaller target, a torch source with --data, which is trained again; or a greater --max-drop",
    )
    return msgspec.structs.replace(report, state="refused", reason=error.why), error


def publish(report: PruneReport, plan: PrunePlan, pruned: Pruned, out: Path) -> PruneReport:
    """The first seed's network under its names: ONNX, and for a torch source a factory with its weights."""
    word = "pruned" if plan.method == "structured" else "thinned"
    stem = f"{stem_of(plan.source)}-{word}"
    model = out / f"{stem}.onnx"
    module = weights = None
    with told_as_output(out):
        place(pruned.files["pruned"][0], model)
        if "pruned" in pruned.trained:
            weights = str(out / f"{stem}.safetensors")
            place(pruned.trained["pruned"][0].weights, Path(weights))
            if pruned.module is not None and pruned.module.slices:
                module = f"{write_built(out, module_name(stem), pruned.module)}:build"
            else:
                module = plan.source
        report = msgspec.structs.replace(report, model=str(model), module=module, weights=weights)
        write_whole(out / f"{stem}.prune.json", msgspec.json.encode(report))
    return report
