"""Selection of channels and weights within a budget, in rounds with training in between."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Struct

from edgewright.errors import GateFailed, ModelNotConvertible, UsageError
from edgewright.flows.experiment.control import convert_for_runtime, evaluate_networks, inspect_module
from edgewright.flows.experiment.report import WidthRow, get_metric_scale
from edgewright.flows.experiment.setup import Experiment
from edgewright.flows.experiment.trainings import TrainedNetwork, train
from edgewright.flows.prune.budgets import NetworkTimer, parse_amount, tabulate_times
from edgewright.flows.prune.report import make_width_rows
from edgewright.formats.onnx.editable import EditableGraph
from edgewright.formats.onnx.typed import read_onnx_graph
from edgewright.pruning.graph_pruner import find_kept_indices, prune_graph
from edgewright.pruning.groups import PruningGroups, find_groups
from edgewright.pruning.importance import UnitScores, score_units
from edgewright.pruning.widths import (
    KeptUnits,
    PruningBudget,
    WidthTable,
    measure_gain_per_unit,
    search_widths,
    select_units,
    shrink_graph,
    sum_constant_bytes,
    sum_folded_bytes,
    sum_macs,
    tabulate_losses,
)
from edgewright.schema.arrays import Array
from edgewright.schema.plan import PrunePlan
from edgewright.schema.vocabulary import GRADIENT_CRITERIA
from edgewright.store.store import Store, open_store
from edgewright.system.files import write_atomically
from edgewright.training.inspection import InspectionReport
from edgewright.training.job import DistillationSettings, InspectJob, ModuleSource, TrainJob
from edgewright.training.slices import make_slices, resolve_built_source, slice_weights, write_slices
from edgewright.training.slicing.sliceable import SliceableGroups, compute_size_attributes

INEXACT_REASON = "a layer normalization computes statistics over it, so pruning it requires training"
DECISIVE_PROCESSES = 6  # processes of a decisive timing
MARGIN = 1.02  # safety margin of the search, since the target is measured again at the end
SPEEDUP_STEPS = (1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)  # tried in turn if a drop is the budget


class PrunedModel(NamedTuple):
    """What was removed.

    Attributes:
        onnx: the pruned graph of a file, which is not trained.
        zeros: of unstructured pruning.
        epochs: trained between the rounds.
        macs: remaining multiply-accumulates, as a share of the source's.
    """

    onnx: Path
    widths: tuple[WidthRow, ...]
    fixed: dict[str, str]
    zeros: int = 0
    epochs: float = 0.0
    macs: float = 1.0


class RoundChoice(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The selection of one round, stored so that a repeated command resumes with it."""

    keep: dict[str, tuple[int, ...]]


def prune_file(plan: PrunePlan, onnx: Path, experiment: Experiment, folder: Path) -> PrunedModel:
    """Prune an ONNX model with structure: the graph itself, without training."""
    search = WidthSearch(plan, experiment, onnx, onnx, folder)
    groups = _find_prunable_groups(search.model, experiment)
    if not _list_budget_kinds(plan):
        raise UsageError(
            f"{onnx.name} requires a target", "--max-drop as the only budget requires training",
            "use --target-speedup 1.5",
        )  # fmt: skip
    left = {group.name: INEXACT_REASON for group in groups.groups if not group.exact}
    keep = search.run(groups, search.scores(groups, {}), left)
    path = folder / "cut" / onnx.name
    path.parent.mkdir()
    save_onnx(prune_graph(search.model, groups, keep), path)
    return PrunedModel(
        path, make_width_rows(groups, {name: len(kept) for name, kept in keep.items()}), {**groups.fixed, **left}
    )


def prune_module(
    plan: PrunePlan,
    whole: ModuleSource,
    onnx: Path,
    experiment: Experiment,
    work: Path,
    teaching: DistillationSettings | None,
) -> tuple[PrunedModel, ModuleSource]:
    """Prune a torch module with structure; the result is a module to be trained."""
    rounds = PruningRounds(plan, experiment, onnx, work, teaching)
    return rounds.run_to_budget(whole) if _list_budget_kinds(plan) else rounds.run_to_max_drop(whole)


def _list_budget_kinds(plan: PrunePlan) -> tuple[str, ...]:
    """Return the budgets, counted ones first since they cost no time; none if the drop is the budget."""
    given = {"macs": plan.target_macs, "bytes": plan.target_bytes, "time": plan.target_speedup}
    return tuple(name for name, value in given.items() if value)


def save_onnx(model: Any, path: Path) -> None:
    import onnx

    onnx.save(model, str(path))


def _find_prunable_groups(model: Any, experiment: Experiment, left: Mapping[str, str] = {}) -> PruningGroups:
    """Return the groups. ModelNotConvertible if there is none except those in `left`."""
    groups = find_groups(model, experiment.shapes)
    if all(group.name in left or group.size < 2 for group in groups.groups):
        why = "; ".join(f"{name}: {reason}" for name, reason in list({**groups.fixed, **left}.items())[:5])
        raise ModelNotConvertible(
            "the model has no channels that can be pruned", why, "--method unstructured works on all weights"
        )
    return groups


def _interpolate_budget(now: float, most: float, step: float) -> float:
    """Return the budget of one round, if all rounds save the same ratio and the last may have `most`."""
    return now * (most / now) ** step if 0 < most < now else most


class WidthSearch:
    """Search for the units that a model keeps within the plan's budget."""

    def __init__(self, plan: PrunePlan, experiment: Experiment, onnx: Path, path: Path, folder: Path) -> None:
        """Set up the search; `onnx` is the whole network, `path` the one to prune, which may be pruned already."""
        self._plan, self._experiment, self._onnx, self._path, self._folder = plan, experiment, onnx, path, folder
        self.model = EditableGraph.open(path, is_mapped=False)
        folder.mkdir(parents=True, exist_ok=True)

    def scores(self, groups: PruningGroups, gradients: Mapping[str, Array]) -> UnitScores:
        if self._plan.importance in GRADIENT_CRITERIA:
            return score_units(groups, gradients, self._plan.importance)
        return score_units(groups, self.model.constants, self._plan.importance)

    def run(
        self,
        groups: PruningGroups,
        scores: UnitScores,
        left: Mapping[str, str],
        *,
        step: float = 1.0,
        speedup: float = 0.0,
    ) -> KeptUnits:
        """Return the kept units that meet the budgets, or the share `step` of the reduction to each (1 is all).

        Args:
            left: groups that are not pruned.
            speedup: replaces the plan's budgets.
        """
        plan, progress = self._plan, self._experiment.context.workspace.progress
        free = [group for group in groups.groups if group.name not in left]
        losses = tabulate_losses(free, scores, plan.multiple)
        kinds = ("time",) if speedup else _list_budget_kinds(plan)
        counted = [self._make_counted_budget(kind, groups, losses, step) for kind in kinds if kind != "time"]
        if "time" not in kinds:
            return search_widths(groups, scores, losses, counted, progress)
        with open_store(self._folder / "search") as store:
            timer = NetworkTimer(
                self._onnx,
                self._experiment.context.with_store(store),
                self._folder / "timed",
                self._make_converter(store),
            )
            requested = speedup or plan.target_speedup or 1.0
            now = timer.shares([self.model.to_message()], processes=DECISIVE_PROCESSES)[0]
            timed = PruningBudget(
                now=now,
                most=_interpolate_budget(now, 1 / requested, step),
                target=_interpolate_budget(now, 1 / (requested * MARGIN), step),
                saved=tabulate_times(
                    lambda widths: prune_graph(self.model, groups, select_units(groups, scores, widths)),
                    free,
                    plan.multiple,
                    timer,
                    now,
                ),
                measure=lambda keep: timer.shares(
                    [prune_graph(self.model, groups, keep)], processes=DECISIVE_PROCESSES
                )[0],
                words=lambda share: f"a speed-up of {1 / share:.2f} ×",
            )
            return search_widths(groups, scores, losses, (*counted, timed), progress)

    def _make_counted_budget(self, kind: str, groups: PruningGroups, losses: WidthTable, step: float) -> PruningBudget:
        """Return the budget in bytes or multiply-accumulates. UsageError for a target that is not valid."""
        plan = self._plan
        total, text = (sum_constant_bytes, plan.target_bytes) if kind == "bytes" else (sum_macs, plan.target_macs)
        graph = read_onnx_graph(self._path, self._experiment.shapes)
        of_cut = (
            sum_folded_bytes if kind == "bytes" and self._path != self._onnx else total
        )  # a module is exported later
        whole = total(read_onnx_graph(self._onnx, self._experiment.shapes))
        overhead = self._onnx.stat().st_size - whole if kind == "bytes" else 0.0
        most = parse_amount(text, whole + overhead, f"--target-{kind}") - overhead
        if most >= whole:
            what = f"--target-{kind} {text} is not below the current amount"
            raise UsageError(what, f"the model has {whole + overhead:,.0f}", f"use --target-{kind} 2x")
        now = of_cut(graph)
        allowed = _interpolate_budget(now, most, step)
        sizes = {group.name: group.size for group in groups.groups}
        gains = measure_gain_per_unit(graph, groups, of_cut)
        unit = "bytes" if kind == "bytes" else "multiply-accumulates"
        return PruningBudget(
            now=now,
            most=allowed,
            target=allowed,
            saved={name: {width: gains[name] * (sizes[name] - width) for width in own} for name, own in losses.items()},
            measure=lambda keep: of_cut(shrink_graph(graph, groups, keep)),
            words=lambda amount: f"{amount + overhead:,.0f} {unit}",
        )

    def _make_converter(self, store: Store) -> Callable[[Path], Path]:
        context = self._experiment.context

        def ready(path: Path) -> Path:
            made, error = convert_for_runtime(
                path, context.runtime, self._folder / "compiled" / path.stem, context.workspace._replace(store=store),
                context.timeout_s,
            )  # fmt: skip
            if error is not None:
                raise error
            return made

        return ready


class PruningRounds:
    """Pruning of a torch module in one or more rounds, each trained before the next."""

    def __init__(
        self, plan: PrunePlan, experiment: Experiment, onnx: Path, work: Path, teaching: DistillationSettings | None
    ) -> None:
        self._plan, self._experiment, self._onnx, self._work, self._teaching = plan, experiment, onnx, work, teaching

    def run_to_budget(self, whole: ModuleSource) -> tuple[PrunedModel, ModuleSource]:
        """Prune in rounds to the plan's budget."""
        rounds, current, result = self._plan.rounds, whole, None
        for number in range(rounds):
            step = 1 / (rounds - number)
            result, module = self._prune(number, current, result, step=step)
            if number < rounds - 1:
                current = self._train(number, module)[0]
        if result is None:
            raise UsageError("--rounds must be at least 1", "", "use --rounds 1")
        return result._replace(epochs=(rounds - 1) * self._plan.round_epochs), module

    def run_to_max_drop(self, whole: ModuleSource) -> tuple[PrunedModel, ModuleSource]:
        """Increase the speed-up until the drop on the validation samples exceeds the plan's."""
        if self._experiment.dataset is None or not self._experiment.dataset.labels:
            raise UsageError(
                "--max-drop as the only budget requires labels", "--data has none", "use --target-speedup 1.5"
            )
        held = self._held_out_metric()
        current, good, best = whole, None, None
        result: PrunedModel | None = None
        for number, speedup in enumerate(SPEEDUP_STEPS):
            try:
                result, module = self._prune(number, current, result, speedup=speedup)
            except GateFailed as error:
                if number == 0:
                    what = f"--max-drop {self._plan.max_drop:g} cannot be met: {error.what}"
                    raise GateFailed(what, error.why, "set a --target option, or lower --multiple") from error
                break
            current, trained = self._train(number, module)
            lost = self._measure_drop(held, trained)
            self._experiment.context.workspace.progress(
                f"speed-up {speedup:g} ×: the metric drops by {lost:.2f} on the validation samples"
            )
            if lost > self._plan.max_drop:
                break
            good, best = (result._replace(epochs=(number + 1) * self._plan.round_epochs), current), speedup
        if good is None or best is None:
            raise GateFailed(
                f"--max-drop {self._plan.max_drop:g} cannot be met",
                f"a speed-up of {SPEEDUP_STEPS[0]:g} × already loses more after {self._plan.round_epochs:g} epochs",
                "raise --round-epochs, add data, or raise --max-drop",
            )
        return good

    def _prune(
        self, number: int, current: ModuleSource, before: PrunedModel | None, *, step: float = 1.0, speedup: float = 0.0
    ) -> tuple[PrunedModel, ModuleSource]:
        experiment, folder = self._experiment, self._experiment.memory / f"round{number}"
        inspected = inspect_module(
            InspectJob(
                module=current, shapes=experiment.shapes, task=experiment.task_json, data=experiment.dataset,
                settings=experiment.settings, groups=True, taylor=self._plan.importance in GRADIENT_CRITERIA,
                out=str(folder / "inspected"),
            ),
            experiment.context,
        )  # fmt: skip
        search = WidthSearch(
            self._plan, experiment, self._onnx, inspected / "named.onnx", self._work / f"search{number}"
        )
        inspection = msgspec.json.decode((inspected / "inspected.json").read_bytes(), type=InspectionReport)
        left = inspection.refused
        groups = _find_prunable_groups(search.model, experiment, left)
        chosen = folder / "choice.json"
        if not chosen.is_file():
            found = search.run(
                groups, search.scores(groups, _load_taylor_scores(inspected)), left, step=step, speedup=speedup
            )
            choice = RoundChoice(keep={name: tuple(int(unit) for unit in kept) for name, kept in found.items()})
            write_atomically(chosen, msgspec.json.encode(choice))
        choice = msgspec.json.decode(chosen.read_bytes(), type=RoundChoice)
        keep: KeptUnits = {name: np.array(kept) for name, kept in choice.keep.items()}
        places = find_kept_indices(groups, keep)
        numbers = compute_size_attributes(
            SliceableGroups(inspection.sliceable, inspection.refused, inspection.numbers), keep
        )
        slices = make_slices(current, folder, places, numbers=numbers, shapes=experiment.shapes)
        write_slices(slices, folder / "slices.json")
        weights = folder / "cut.safetensors"
        slice_weights(inspected / "weights.safetensors", places, weights)
        widths = {name: len(kept) for name, kept in keep.items()}
        whole, current_graph = (
            read_onnx_graph(path, experiment.shapes) for path in (self._onnx, inspected / "named.onnx")
        )
        share = sum_macs(shrink_graph(current_graph, groups, keep)) / (sum_macs(whole) or 1.0)
        rows = make_width_rows(groups, widths, before.widths if before else ())
        result = PrunedModel(self._onnx, rows, {**groups.fixed, **left}, macs=share)
        source = ModuleSource(
            factory=resolve_built_source(current).factory, weights=str(weights), slices=str(folder / "slices.json")
        )
        return result, source

    def _train(self, number: int, module: ModuleSource) -> tuple[ModuleSource, TrainedNetwork]:
        """Return the module after a round's training, as a source that can be pruned further."""
        experiment, folder = self._experiment, self._experiment.memory / f"round{number}"
        if experiment.dataset is None:
            raise UsageError("no training data was given", "", "--data")
        trained = train(
            TrainJob(
                title=f"network of round {number + 1}",
                module=module,
                shapes=experiment.shapes,
                task=experiment.task_json,
                code=experiment.context.code,
                data=experiment.dataset,
                settings=msgspec.structs.replace(experiment.settings, epochs=self._plan.round_epochs),
                teaching=self._teaching,
                out=str(folder / "trained"),
                memory=str(folder / "checkpoints"),
            ),
            experiment.context.workspace.progress,
        )
        return msgspec.structs.replace(module, weights=str(trained.weights)), trained

    def _held_out_metric(self) -> float:
        """Return the source's metric on the validation samples."""
        experiment = self._experiment
        with open_store(self._work / "held-out") as store:
            held = (
                tuple(experiment.dataset.indices[index] for index in experiment.dataset.held_out)
                if experiment.dataset
                else None
            )
            context = experiment.context.with_store(store)._replace(val=self._plan.data, indices=held)
            row = evaluate_networks({"source": self._onnx}, context)["source"]
        return row.metric.value if row.metric else 0.0

    def _measure_drop(self, before: float, trained: TrainedNetwork) -> float:
        """Return the drop in points of a share, or in the metric's unit."""
        if trained.report.metric is None:
            raise UsageError(
                "--max-drop requires labels", "the validation samples have none", "use --target-speedup 1.5"
            )
        worse = (
            before - trained.report.metric if self._experiment.task.higher_is_better else trained.report.metric - before
        )
        return worse * get_metric_scale(self._experiment.task.metric)[0]


def _load_taylor_scores(inspected: Path) -> dict[str, Array]:
    path = inspected / "importance.npz"
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}
