"""Pruning: find coupled channels, remove the least important until the budget is met, and fine-tune.

Trained networks are kept in a folder of the output until the command succeeds, so that the same command resumes after
an interruption, on this machine or another one.
"""

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import msgspec

from edgewright.errors import EdgewrightError, GateFailed
from edgewright.flows.compile.publication import open_work_folder
from edgewright.flows.compile.sources import (
    PreparedSource,
    check_float_onnx,
    get_stem,
    hash_source,
    is_torch,
    prepare_source,
)
from edgewright.flows.experiment.records import TrainingRun
from edgewright.flows.experiment.report import Measured, collect_training_notes, compute_mean_drop, get_metric_scale
from edgewright.flows.experiment.run import Networks, compare, conclude, make_jobs, publish, reject
from edgewright.flows.experiment.setup import (
    Experiment,
    check_validation_data,
    open_experiment_folder,
    prepare_experiment,
    remove_folder,
)
from edgewright.flows.experiment.teacher_outputs import compute_module_outputs, count_views
from edgewright.flows.experiment.trainings import make_torch_source, train_networks
from edgewright.flows.prune.budgets import parse_amount
from edgewright.flows.prune.check import check_plan
from edgewright.flows.prune.report import PruneReport, list_targets, make_module_name
from edgewright.flows.prune.rounds import PrunedModel, prune_file, prune_module, save_onnx
from edgewright.flows.workspace import Workspace
from edgewright.formats.onnx.editable import EditableGraph
from edgewright.pruning.magnitude import sparsify_graph
from edgewright.schema.plan import CompilePlan, PrunePlan
from edgewright.schema.vocabulary import GRADIENT_CRITERIA
from edgewright.store.recording import utc_now
from edgewright.training.job import CachedDataset, DistillationSettings, ModuleSource, SparsitySettings
from edgewright.training.slices import write_built_module

SIMILAR_COST_SHARE = (
    0.5  # of the MACs: with two processors a shorter training saves no time next to the whole network's
)
UNTRAINED_NOTE = (
    "the pruned model was not fine-tuned: this requires a torch source, FILE.py:FACTORY with its weights, and --data"
)


class PrunedNetworks(NamedTuple):
    """The compared networks, what was pruned, and the module of a torch source."""

    networks: Networks
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
    with open_work_folder(out) as work, experiment.context.workspace.record_cancelled("prune", plan, started):
        source = CompilePlan(
            source=plan.source, weights=plan.weights, cells=(), timeout_s=plan.timeout_s,
            shapes=experiment.shapes if is_torch(plan.source) or plan.source.endswith(".onnx") else dict(plan.shapes),
        )  # fmt: skip
        prepared = prepare_source(source, work, workspace.device, bare=True)
        check_float_onnx(prepared, "pruned")
        check_validation_data(experiment, prepared.model.signature)
        with open_experiment_folder(experiment, plan) if trains else nullcontext(experiment) as ready:
            pruned = _make_networks(plan, prepared, ready, work)
            measured = compare(pruned.networks, ready, "prune", get_stem(plan.source), work)
            judged = _apply_gate(_make_report(plan, prepared, pruned, ready, measured), plan)
            run = TrainingRun("prune", plan, prepared.as_given(plan.source), pruned.networks.trained, started)
            publisher = partial(_publish_pruned, plan=plan, pruned=pruned, out=out)
            report, error = conclude(judged, began, publisher, run, ready)
    if report.model is not None:  # a rejected result is kept, so that a changed gate does not require new training
        remove_folder(experiment.memory)
    return report, error


def _make_networks(plan: PrunePlan, prepared: PreparedSource, experiment: Experiment, work: Path) -> PrunedNetworks:
    """Return every network of the comparison, trained if possible."""
    onnx = Path(prepared.files["onnx"])
    if experiment.dataset is None:
        make = prune_file if plan.method == "structured" else _sparsify_file
        result = make(plan, onnx, experiment, work / "cut")
        return PrunedNetworks(Networks("source", "pruned", {"source": [onnx], "pruned": [result.onnx]}, {}), result)
    whole = make_torch_source(plan.source, plan.weights)
    teaching = _prepare_teacher(whole, plan, experiment, experiment.dataset) if plan.distill else None
    thinning: SparsitySettings | None = None
    if plan.method == "structured":
        result, module = prune_module(plan, whole, onnx, experiment, work, teaching)
    else:
        result, module = PrunedModel(onnx, (), {}), whole
        thinning = SparsitySettings(sparsity=plan.sparsity, scope=plan.scope, pattern=plan.pattern)
    jobs = {"pruned": partial(make_jobs, module=module, thinning=thinning, teaching=teaching)}
    if plan.control:  # it is trained as long as a network that was pruned in rounds
        jobs = {"control": partial(make_jobs, more_epochs=result.epochs, module=whole, teaching=teaching), **jobs}
    trained = train_networks(
        {name: make(name, f"{name} network", experiment, seeds=plan.seeds) for name, make in jobs.items()},
        experiment.context.workspace.progress, similar_cost=result.macs >= SIMILAR_COST_SHARE,
    )  # fmt: skip
    files = {"source": [onnx]} | {name: [one.onnx for one in all_seeds] for name, all_seeds in trained.items()}
    return PrunedNetworks(Networks("source", "pruned", files, trained), result, module)


def _sparsify_file(plan: PrunePlan, onnx: Path, _: Experiment, folder: Path) -> PrunedModel:
    """Prune an ONNX model without structure."""
    folder.mkdir(parents=True)
    sparse = sparsify_graph(
        EditableGraph.open(onnx, is_mapped=False), plan.sparsity, scope=plan.scope, pattern=plan.pattern
    )
    path = folder / onnx.name
    save_onnx(sparse.model, path)
    return PrunedModel(path, (), {}, zeros=sum(zeros for zeros, _ in sparse.zeros.values()))


def _prepare_teacher(
    whole: ModuleSource, plan: PrunePlan, experiment: Experiment, dataset: CachedDataset
) -> DistillationSettings:
    """Return the source as the teacher of the pruned network and of the control."""
    outputs_path = compute_module_outputs(plan.views, whole, experiment, dataset)
    alpha = plan.alpha if dataset.labels else 1.0
    return DistillationSettings(
        logits=str(outputs_path), views=count_views(plan.views, experiment), temperature=plan.temperature, alpha=alpha
    )


def _make_report(
    plan: PrunePlan, prepared: PreparedSource, pruned: PrunedNetworks, experiment: Experiment, measured: Measured
) -> PruneReport:
    measured["networks"] = tuple(
        msgspec.structs.replace(one, zeros=one.zeros or pruned.result.zeros) if one.name == "pruned" else one
        for one in measured["networks"]
    )
    return PruneReport(
        **measured,
        source=plan.source,
        source_sha256=prepared.sha256,
        method=plan.method,
        importance=plan.importance if plan.method == "structured" else "magnitude",
        targets=list_targets(plan),
        widths=pruned.result.widths,
        fixed=pruned.result.fixed,
        notes=_list_notes(plan, experiment, pruned),
    )


def _list_notes(plan: PrunePlan, experiment: Experiment, pruned: PrunedNetworks) -> tuple[str, ...]:
    notes = [*collect_training_notes(one.report for one in pruned.networks.trained.get("pruned", ()))]
    if experiment.dataset is None:
        notes.append(UNTRAINED_NOTE)
    elif plan.distill:
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
    networks = {network.name: network for network in report.networks}
    pruned = networks.pop("pruned")
    drops = {name: compute_mean_drop(pruned, other) for name, other in networks.items()}
    worst = max(drops, key=lambda name: drops[name])
    faults, speed = [], report.speedup
    if drops[worst] > plan.max_drop + 1e-9:
        unit = get_metric_scale(pruned.metric.name)[1] if pruned.metric else ""
        faults.append(
            f"the metric is {drops[worst]:.2f} {unit} below the {worst}, more than --max-drop {plan.max_drop:g}"
        )
    if plan.target_speedup and speed is not None and (speed.high or speed.ratio) < plan.target_speedup:
        faults.append(f"the speed-up is {speed.ratio:.2f} ×, less than --target-speedup {plan.target_speedup:g}")
    source = next(network for network in report.networks if network.name == "source")
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
        "lower the target, raise --epochs, add data, or raise --max-drop, which trains nothing again"
        if report.trained_on
        else "lower the target, use a torch source with --data for fine-tuning, or raise --max-drop",
    )
    return reject(report, error)


def _publish_pruned(report: PruneReport, *, plan: PrunePlan, pruned: PrunedNetworks, out: Path) -> PruneReport:
    stem = f"{get_stem(plan.source)}-{'pruned' if plan.method == 'structured' else 'sparse'}"

    def write_module() -> str:
        if pruned.module is None or not pruned.module.slices:
            return plan.source
        return f"{write_built_module(out, make_module_name(stem), pruned.module)}:build"

    return publish(report, pruned.networks, out / stem, "prune", write_module)
