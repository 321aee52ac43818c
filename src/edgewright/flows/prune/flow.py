"""Pruning: find coupled channels, remove the least important until the budget is met, and fine-tune.

Trained networks are kept in a folder of the output until the command succeeds, so that the same command resumes after
an interruption, on this machine or another one.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import msgspec

from edgewright.errors import EdgewrightError, GateFailed, StoreError, UsageError
from edgewright.flows.compile.publication import copy_atomically, open_work_folder, raise_output_errors
from edgewright.flows.compile.sources import (
    PreparedSource,
    check_float_onnx,
    get_stem,
    hash_source,
    is_torch,
    prepare_source,
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
    NetworkReport,
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
    remove_folder,
)
from edgewright.flows.experiment.teacher_outputs import compute_module_outputs, count_views
from edgewright.flows.experiment.trainings import TrainedNetwork, make_torch_source, train_networks
from edgewright.flows.prune.budgets import parse_amount
from edgewright.flows.prune.check import check_plan
from edgewright.flows.prune.report import PruneReport, list_targets, make_module_name
from edgewright.flows.prune.rounds import PrunedModel, prune_file, prune_module, save_onnx
from edgewright.flows.workspace import Workspace
from edgewright.pruning.magnitude import sparsify_graph
from edgewright.schema.plan import CompilePlan, PrunePlan
from edgewright.schema.vocabulary import GRADIENT_CRITERIA
from edgewright.store.recording import utc_now
from edgewright.system.files import write_atomically
from edgewright.training.job import CachedDataset, DistillationSettings, ModuleSource, SparsitySettings, TrainJob
from edgewright.training.slices import write_built_module

SIMILAR_COST_SHARE = (
    0.5  # of the MACs: with two processors a shorter training saves no time next to the whole network's
)
UNTRAINED_NOTE = (
    "the pruned model was not fine-tuned: this requires a torch source, FILE.py:FACTORY with its weights, and --data"
)


class PrunedNetworks(NamedTuple):
    """The compared networks by name: one ONNX file for each seed, and its training."""

    files: dict[str, list[Path]]
    trained: dict[str, list[TrainedNetwork]]
    result: PrunedModel
    module: ModuleSource | None = None


def prune(plan: PrunePlan, out: Path, workspace: Workspace) -> tuple[PruneReport, EdgewrightError | None]:
    """Prune a model into the folder `out`, record the run, and return the report and the failed gate.

    Raises any error that prevents pruning, and GateFailed for a budget that cannot be met.
    """
    started, began = utc_now(), monotonic()
    check_plan(plan)
    content = hash_source(CompilePlan(source=plan.source, weights=plan.weights, cells=()))
    trains = ".py:" in plan.source and bool(plan.data)
    if not trains and plan.importance in GRADIENT_CRITERIA:
        plan = msgspec.structs.replace(plan, importance="l2")
    experiment = prepare_experiment(plan, content, "prune", out, workspace, trains=trains)
    plan = msgspec.structs.replace(
        plan,
        source_sha256=content,
        data_fingerprint=experiment.fingerprints[0],
        val_fingerprint=experiment.fingerprints[1],
    )
    with open_work_folder(out) as work:
        source = CompilePlan(
            source=plan.source, weights=plan.weights, cells=(), timeout_s=plan.timeout_s,
            shapes=experiment.shapes if is_torch(plan.source) or plan.source.endswith(".onnx") else dict(plan.shapes),
        )  # fmt: skip
        prepared = prepare_source(source, work, workspace.device, bare=True)
        check_float_onnx(prepared, "pruned")
        check_validation_data(experiment, prepared.model.signature)
        with open_experiment_folder(experiment, plan) if trains else nullcontext(experiment) as ready:
            pruned = _make_networks(plan, prepared, ready, work)
            rows, speed_comparison = _evaluate_and_time(plan, pruned, Path(prepared.files["onnx"]), ready, work)
            report = _make_report(plan, prepared, pruned, ready, rows, speed_comparison)
            report, gate_error = _apply_gate(msgspec.structs.replace(report, seconds=monotonic() - began), plan)
            error: EdgewrightError | None = gate_error
            if error is None:
                report = _publish_pruned(report, plan, pruned, out)
            try:
                model = prepared.as_given(plan.source)
                report = record_training("prune", report, plan, model, pruned.trained, started, workspace)
            except StoreError as unsaved:
                error = error or unsaved
        if report.model is not None:  # a rejected result is kept, so that a changed gate does not require new training
            remove_folder(experiment.memory)
    return report, error


def _make_networks(plan: PrunePlan, prepared: PreparedSource, experiment: Experiment, work: Path) -> PrunedNetworks:
    """Return every network of the comparison, trained if possible."""
    onnx = Path(prepared.files["onnx"])
    if experiment.dataset is None:
        make = prune_file if plan.method == "structured" else _sparsify_file
        result = make(plan, onnx, experiment, work / "cut")
        return PrunedNetworks({"pruned": [result.onnx]}, {}, result)
    whole = make_torch_source(plan.source, plan.weights)
    teaching = _prepare_teacher(whole, plan, experiment, experiment.dataset) if plan.teach else None
    if plan.method == "structured":
        result, module, thinning = *prune_module(plan, whole, onnx, experiment, work, teaching), None
    else:
        result, module, thinning = (
            PrunedModel(onnx, (), {}),
            whole,
            SparsitySettings(sparsity=plan.sparsity, scope=plan.scope, pattern=plan.pattern),
        )
    seeds = range(experiment.settings.seed, experiment.settings.seed + plan.seeds)
    jobs = {}
    if plan.control:
        jobs["control"] = [
            _make_train_job("control", whole, None, teaching, seed, plan, experiment, result.epochs) for seed in seeds
        ]
    jobs["pruned"] = [
        _make_train_job("pruned", module, thinning, teaching, seed, plan, experiment, 0.0) for seed in seeds
    ]
    trained = train_networks(
        jobs, experiment.context.workspace.progress, similar_cost=result.macs >= SIMILAR_COST_SHARE
    )
    files = {name: [one.onnx for one in all_seeds] for name, all_seeds in trained.items()}
    return PrunedNetworks(files, trained, result, module)


def _sparsify_file(plan: PrunePlan, onnx: Path, _: Experiment, folder: Path) -> PrunedModel:
    """Prune an ONNX model without structure."""
    import onnx as onnx_library

    folder.mkdir(parents=True)
    thinned = sparsify_graph(onnx_library.load(str(onnx)), plan.sparsity, scope=plan.scope, pattern=plan.pattern)
    path = folder / onnx.name
    save_onnx(thinned.model, path)
    return PrunedModel(path, (), {}, zeros=sum(zeros for zeros, _ in thinned.zeros.values()))


def _prepare_teacher(
    whole: ModuleSource, plan: PrunePlan, experiment: Experiment, dataset: CachedDataset
) -> DistillationSettings:
    """Return the source as the teacher of the pruned network and of the control."""
    outputs_path = compute_module_outputs(plan.views, whole, experiment, dataset)
    alpha = plan.alpha if dataset.labels else 1.0
    return DistillationSettings(
        logits=str(outputs_path), views=count_views(plan.views, experiment), temperature=plan.temperature, alpha=alpha
    )


def _make_train_job(
    network: str,
    module: ModuleSource,
    thinning: SparsitySettings | None,
    teaching: DistillationSettings | None,
    seed: int,
    plan: PrunePlan,
    experiment: Experiment,
    more: float,
) -> TrainJob:
    """Return one training job; `more` epochs are added for the control of a network trained in rounds."""
    if experiment.dataset is None:
        raise UsageError("no training data was given", "", "--data")
    index = seed - experiment.settings.seed + 1
    title = f"{network} network" + (f", seed {index} of {plan.seeds}" if plan.seeds > 1 else "")
    settings = msgspec.structs.replace(experiment.settings, seed=seed, epochs=experiment.settings.epochs + more)
    return TrainJob(
        title=title,
        module=module,
        shapes=experiment.shapes,
        task=experiment.task_json,
        code=experiment.context.code,
        data=experiment.dataset,
        settings=settings,
        teaching=teaching,
        thinning=thinning,
        out=str(experiment.memory / f"{network}-{seed}"),
        memory=str(experiment.memory / f"{network}-{seed}-checkpoints"),
    )


def _evaluate_and_time(
    plan: PrunePlan, pruned: PrunedNetworks, source: Path, experiment: Experiment, work: Path
) -> tuple[dict[str, EvaluationRow], Any]:
    """Return rows by `network/index`, the control (else the source) first as the paired reference, and the timing."""
    files = {
        f"{network}/{index}": path
        for network in ("control", "pruned")
        for index, path in _enumerate_files(pruned.files, network)
    }
    first = next(iter(files))
    models = (
        {first: files[first], **files, "source/0": source}
        if "control" in pruned.files
        else {"source/0": source, **files}
    )
    context = experiment.context
    named = name_network_files(models, get_stem(plan.source), work / "evaluated")
    ready = convert_all_for_runtime(named, context.runtime, work / "runnable", context.workspace, context.timeout_s)
    rows = evaluate_networks(ready, context)
    return rows, compare_speed(ready["source/0"], ready["pruned/0"], context, {"prune": "speed"})


def _enumerate_files(files: Mapping[str, list[Path]], network: str) -> list[tuple[int, Path]]:
    return list(enumerate(files.get(network, ())))


def _make_report(
    plan: PrunePlan,
    prepared: PreparedSource,
    pruned: PrunedNetworks,
    experiment: Experiment,
    rows: Mapping[str, EvaluationRow],
    speed_comparison: Any,
) -> PruneReport:
    seed = experiment.settings.seed
    files = {"source": [Path(prepared.files["onnx"])], **pruned.files}
    reports = {network: [one.report for one in pruned.trained.get(network, ())] for network in files}
    sides = {}
    for network, paths in files.items():
        own = [rows[f"{network}/{index}"] for index in range(len(paths))]
        sides[network] = make_network_report(
            network, paths[0], measure_file_costs(paths[0], experiment.shapes), own, reports[network], seed
        )
    sides["source"] = msgspec.structs.replace(sides["source"], latency_us=speed_comparison.before_us)
    sides["pruned"] = msgspec.structs.replace(
        sides["pruned"], latency_us=speed_comparison.after_us, zeros=sides["pruned"].zeros or pruned.result.zeros
    )
    against = [
        compare_networks(
            sides["pruned"], sides[name], rows["pruned/0"].paired if name == _get_baseline_name(sides) else None
        )
        for name in ("control", "source")
        if name in sides
    ]
    evaluated = rows["pruned/0"].evaluated
    return PruneReport(
        source=plan.source,
        source_sha256=prepared.sha256,
        method=plan.method,
        importance=plan.importance if plan.method == "structured" else "magnitude",
        targets=list_targets(plan),
        runtime=plan.runtime,
        model=None,
        module=None,
        weights=None,
        trained_on=len(experiment.dataset.fit) if experiment.dataset else 0,
        held_out=len(experiment.dataset.held_out) if experiment.dataset else 0,
        evaluated_on=evaluated,
        sides=tuple(sides.values()),
        against=tuple(one for one in against if one is not None),
        speedup=speed_comparison.speedup,
        widths=pruned.result.widths,
        fixed=pruned.result.fixed,
        curves={network: get_first_curves(all_seeds) for network, all_seeds in reports.items() if all_seeds},
        notes=_list_notes(plan, experiment, pruned),
        state="ok",
        reason="",
        seconds=0.0,
    )


def _get_baseline_name(sides: Mapping[str, NetworkReport]) -> str:
    return "control" if "control" in sides else "source"


def _list_notes(plan: PrunePlan, experiment: Experiment, pruned: PrunedNetworks) -> tuple[str, ...]:
    notes = [*collect_training_notes(one.report for one in pruned.trained.get("pruned", ()))]
    if experiment.dataset is None:
        notes.append(UNTRAINED_NOTE)
    elif plan.teach:
        views = count_views(plan.views, experiment)
        notes.append(
            f"the pruned network{' and the control were' if plan.control else ' was'} distilled from the source: "
            f"temperature {plan.temperature:g}, alpha {plan.alpha if experiment.dataset.labels else 1:g}, "
            f"{views} view{'s'[: views > 1]} of each sample"
        )
    if ".py:" in plan.source and not plan.weights:
        notes.append(
            "no --weights were given: training started from the weights that the factory returns, which may be random"
        )
    if experiment.dataset is not None and not experiment.dataset.labels:
        notes.append("the training data has no labels: the networks are trained on the source's outputs only")
    if plan.method == "unstructured":
        notes.append(f"the model is smaller only when compressed, and not faster: {plan.runtime} does not skip zeros")
    if plan.seeds > 1 and experiment.dataset is not None:
        notes.append(
            f"the exported model is that of seed {experiment.settings.seed}; it was not selected by its result"
        )
    return tuple(notes)


def _apply_gate(report: PruneReport, plan: PrunePlan) -> tuple[PruneReport, GateFailed | None]:
    """Return the report, and the error if the metric is below the source's or the control's by more than allowed."""
    sides = {network.name: network for network in report.sides}
    pruned = sides.pop("pruned")
    drops = {name: compute_mean_drop(pruned, other) for name, other in sides.items()}
    worst = max(drops, key=lambda name: drops[name])
    faults, speed = [], report.speedup
    if drops[worst] > plan.max_drop + 1e-9:
        unit = get_metric_scale(pruned.metric.name)[1] if pruned.metric else ""
        faults.append(
            f"the metric is {drops[worst]:.2f} {unit} below the {worst}, more than --max-drop {plan.max_drop:g}"
        )
    if plan.target_speedup and speed is not None and (speed.high or speed.ratio) < plan.target_speedup:
        faults.append(f"the speed-up is {speed.ratio:.2f} ×, less than --target-speedup {plan.target_speedup:g}")
    source = next(network for network in report.sides if network.name == "source")
    for text, own, whole, flag in (
        (plan.target_bytes, pruned.bytes, source.bytes, "--target-bytes"),
        (plan.target_macs, pruned.macs or 0, source.macs or 0, "--target-macs"),
    ):
        if text and own > parse_amount(text, whole, flag):
            faults.append(f"it has {own:,}, more than {flag} {text}")
    if not faults:
        if plan.target_speedup and speed is not None and speed.ratio < plan.target_speedup:
            note = f"the final measurement gives a speed-up of {speed.ratio:.2f} ×, within the noise of the target"
            report = msgspec.structs.replace(report, notes=(*report.notes, note))
        return report, None
    error = GateFailed(
        f"the pruned {Path(plan.source).name} was rejected",
        "; ".join(faults),
        "lower the target, raise --epochs, add data, or raise --max-drop"
        if report.trained_on
        else "lower the target, use a torch source with --data for fine-tuning, or raise --max-drop",
    )
    return msgspec.structs.replace(report, state="refused", reason=error.why), error


def _publish_pruned(report: PruneReport, plan: PrunePlan, pruned: PrunedNetworks, out: Path) -> PruneReport:
    """Publish the first seed's network: ONNX, and for a torch source a factory with weights."""
    word = "pruned" if plan.method == "structured" else "thinned"
    stem = f"{get_stem(plan.source)}-{word}"
    model = out / f"{stem}.onnx"
    module = weights = None
    with raise_output_errors(out):
        copy_atomically(pruned.files["pruned"][0], model)
        if "pruned" in pruned.trained:
            weights = str(out / f"{stem}.safetensors")
            copy_atomically(pruned.trained["pruned"][0].weights, Path(weights))
            if pruned.module is not None and pruned.module.slices:
                module = f"{write_built_module(out, make_module_name(stem), pruned.module)}:build"
            else:
                module = plan.source
        report = msgspec.structs.replace(report, model=str(model), module=module, weights=weights)
        write_atomically(out / f"{stem}.prune.json", msgspec.json.encode(report))
    return report
