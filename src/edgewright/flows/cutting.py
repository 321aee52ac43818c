"""From a model and a budget to what is cut: round by round where it is trained on the way."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from edgewright.compress.pruning.cut import cut_graph, kept_places
from edgewright.compress.pruning.groups import Groups, find_groups
from edgewright.compress.pruning.importance import Scores, score_units
from edgewright.compress.pruning.magnitude import thin_graph
from edgewright.compress.pruning.widths import (
    Budget,
    Keep,
    Table,
    folded_bytes,
    gain_per_unit,
    narrow,
    shrink_graph,
    tabulate_losses,
    total_bytes,
    total_macs,
)
from edgewright.errors import GateFailed, ModelNotConvertible, UsageError
from edgewright.facts.plan import PrunePlan
from edgewright.flows.contest import inspect, judge_all, runnable
from edgewright.flows.course import Course
from edgewright.flows.learning import scale_of
from edgewright.flows.narrowing import Clock, parse_amount, tabulate_times
from edgewright.flows.pruning import WidthRow, width_rows
from edgewright.flows.trainings import Trained, train
from edgewright.formats.onnx_graph import read_onnx_graph
from edgewright.store.store import Store, open_store
from edgewright.system.files import write_whole
from edgewright.training.inspect import Inspected
from edgewright.training.job import InspectJob, Source, Teaching, TrainJob
from edgewright.training.sliceable import Sliceable, count_numbers
from edgewright.training.slices import cut_weights, describe_slices, unfold, write_slices

Array = NDArray[Any]
INEXACT = "a layer normalisation takes its statistics over it, which only training would mend"
SURE = 6  # processes of a time that decides
MARGIN = 1.02  # the search aims a little beyond the target, which is measured again in the end
LADDER = (1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)  # speed-ups that are tried where a drop is the budget


class Cut(NamedTuple):
    """What is cut.

    Attributes:
        onnx: of a file the cut graph, which is not trained.
        zeros: of unstructured pruning.
        epochs: that were trained on the way.
        macs: multiply-accumulates that are left, as a share of the source's.
    """

    onnx: Path
    widths: tuple[WidthRow, ...]
    fixed: dict[str, str]
    zeros: int = 0
    epochs: float = 0.0
    macs: float = 1.0


class Choice(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was chosen in one round, kept so that another try of the same goes on with it."""

    keep: dict[str, tuple[int, ...]]


def thin_file(plan: PrunePlan, onnx: Path, _: Course, folder: Path) -> Cut:
    """Unstructured, of an ONNX model."""
    import onnx as onnx_library

    folder.mkdir(parents=True)
    thinned = thin_graph(onnx_library.load(str(onnx)), plan.sparsity, scope=plan.scope, pattern=plan.pattern)
    path = folder / onnx.name
    save(thinned.model, path)
    return Cut(path, (), {}, zeros=sum(zeros for zeros, _ in thinned.zeros.values()))


def cut_file(plan: PrunePlan, onnx: Path, course: Course, folder: Path) -> Cut:
    """Structured, of an ONNX model: the graph itself, its weights as they are."""
    search = Search(plan, course, onnx, onnx, folder)
    groups = some_groups(search.model, course)
    if not budget_words(plan):
        raise UsageError(
            f"{onnx.name} needs a target", "how much it may lose cannot be tried out without training it",
            "--target-speedup 1.5",
        )  # fmt: skip
    left = {group.name: INEXACT for group in groups.groups if not group.exact}
    keep = search.run(groups, search.scores(groups, {}), left)
    path = folder / "cut" / onnx.name
    path.parent.mkdir()
    save(cut_graph(search.model, groups, keep), path)
    return Cut(path, width_rows(groups, {name: len(kept) for name, kept in keep.items()}), {**groups.fixed, **left})


def cut_module(
    plan: PrunePlan, whole: Source, onnx: Path, course: Course, work: Path, teaching: Teaching | None
) -> tuple[Cut, Source]:
    """Structured, of a torch module; and the module that is still to be trained."""
    rounds = Rounds(plan, course, onnx, work, teaching)
    return rounds.go(whole) if budget_words(plan) else rounds.descend(whole)


def budget_words(plan: PrunePlan) -> tuple[str, ...]:
    """What is not to be exceeded; none where the drop alone is the budget. Counts come first: they cost no time."""
    given = {"macs": plan.target_macs, "bytes": plan.target_bytes, "time": plan.target_speedup}
    return tuple(name for name, value in given.items() if value)


def save(model: Any, path: Path) -> None:
    import onnx

    onnx.save(model, str(path))


def some_groups(model: Any, course: Course, left: Mapping[str, str] = {}) -> Groups:
    """The groups. ModelNotConvertible where there is none but those in `left`."""
    groups = find_groups(model, course.shapes)
    if all(group.name in left or group.size < 2 for group in groups.groups):
        why = "; ".join(f"{name}: {reason}" for name, reason in list({**groups.fixed, **left}.items())[:5])
        raise ModelNotConvertible(
            "nothing of the model can be pruned by channels", why, "--method unstructured takes any weights"
        )
    return groups


def part_of_way(now: float, most: float, step: float) -> float:
    """What one round may have, where all rounds save the same ratio and the last may have `most`."""
    return now * (most / now) ** step if 0 < most < now else most


class Search:
    """The search for what one model keeps, in the plan's budget."""

    def __init__(self, plan: PrunePlan, course: Course, onnx: Path, path: Path, folder: Path) -> None:
        """`onnx` is the whole network, `path` the one that is cut: the same, or one that was cut before."""
        import onnx as onnx_library

        self._plan, self._course, self._onnx, self._path, self._folder = plan, course, onnx, path, folder
        self.model = onnx_library.load(str(path))
        folder.mkdir(parents=True, exist_ok=True)

    def scores(self, groups: Groups, taylor: Mapping[str, Array]) -> Scores:
        from onnx import numpy_helper

        if self._plan.importance == "latency":
            return {group.name: np.full(group.size, 1 / group.size) for group in groups.groups}
        if self._plan.importance == "taylor":
            return score_units(groups, taylor, "taylor")
        arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in self.model.graph.initializer}
        return score_units(groups, arrays, self._plan.importance)

    def run(
        self, groups: Groups, scores: Scores, left: Mapping[str, str], *, step: float = 1.0, speedup: float = 0.0
    ) -> Keep:
        """What is kept to meet the budgets, or the part of the way to each that `step` says (1 is all).

        Args:
            left: groups that stay whole.
            speedup: instead of the plan's budgets.
        """
        plan, tell = self._plan, self._course.court.tell
        free = [group for group in groups.groups if group.name not in left]
        losses = tabulate_losses(free, scores, plan.multiple)
        kinds = ("time",) if speedup else budget_words(plan)
        counted = [self._counted(kind, groups, losses, step) for kind in kinds if kind != "time"]
        if "time" not in kinds:
            return narrow(groups, scores, losses, counted, tell)
        with open_store(self._folder / "search") as store:
            clock = Clock(
                self._onnx, self._course.court._replace(store=store), self._folder / "timed", self._ready(store)
            )
            wanted = speedup or plan.target_speedup or 1.0
            now = clock.shares([self.model], processes=SURE)[0]
            timed = Budget(
                now=now,
                most=part_of_way(now, 1 / wanted, step),
                aim=part_of_way(now, 1 / (wanted * MARGIN), step),
                saved=tabulate_times(self.model, groups, free, scores, plan.multiple, clock, now),
                measure=lambda keep: clock.shares([cut_graph(self.model, groups, keep)], processes=SURE)[0],
                words=lambda share: f"{1 / share:.2f} × as fast",
            )
            return narrow(groups, scores, losses, (*counted, timed), tell)

    def _counted(self, kind: str, groups: Groups, losses: Table, step: float) -> Budget:
        """Bytes or multiply-accumulates. UsageError for a target that is none."""
        plan = self._plan
        total, text = (total_bytes, plan.target_bytes) if kind == "bytes" else (total_macs, plan.target_macs)
        graph = read_onnx_graph(self._path, self._course.shapes)
        of_cut = (
            folded_bytes if kind == "bytes" and self._path != self._onnx else total
        )  # a module's is yet to be exported
        whole = total(read_onnx_graph(self._onnx, self._course.shapes))
        beside = self._onnx.stat().st_size - whole if kind == "bytes" else 0.0  # names and operators of the file
        most = parse_amount(text, whole + beside, f"--target-{kind}") - beside
        if most >= whole:
            what = f"--target-{kind} {text} is no less than it has"
            raise UsageError(what, f"it has {whole + beside:,.0f}", f"--target-{kind} 2x")
        now = of_cut(graph)
        allowed = part_of_way(now, most, step)
        sizes = {group.name: group.size for group in groups.groups}
        gains = gain_per_unit(graph, groups, of_cut)
        unit = "bytes" if kind == "bytes" else "multiply-accumulates"
        return Budget(
            now=now,
            most=allowed,
            aim=allowed,
            saved={name: {width: gains[name] * (sizes[name] - width) for width in own} for name, own in losses.items()},
            measure=lambda keep: of_cut(shrink_graph(graph, groups, keep)),
            words=lambda amount: f"{amount + beside:,.0f} {unit}",
        )

    def _ready(self, store: Store) -> Callable[[Path], Path]:
        court = self._course.court

        def ready(path: Path) -> Path:
            made, error = runnable(
                path, court.runtime, self._folder / "compiled" / path.stem, court.device, store, court.tell,
                court.timeout_s,
            )  # fmt: skip
            if error is not None:
                raise error
            return made

        return ready


class Rounds:
    """A torch module cut in one or more rounds, each trained before the next."""

    def __init__(self, plan: PrunePlan, course: Course, onnx: Path, work: Path, teaching: Teaching | None) -> None:
        self._plan, self._course, self._onnx, self._work, self._teaching = plan, course, onnx, work, teaching

    def go(self, whole: Source) -> tuple[Cut, Source]:
        """To the plan's budget."""
        rounds, current, cut = self._plan.rounds, whole, None
        for number in range(rounds):
            step = 1 / (rounds - number)
            cut, module = self._cut(number, current, cut, step=step)
            if number < rounds - 1:
                current = self._trained(number, module)[0]
        if cut is None:
            raise UsageError("--rounds counts from 1", "", "--rounds 1")
        return cut._replace(epochs=(rounds - 1) * self._plan.round_epochs), module

    def descend(self, whole: Source) -> tuple[Cut, Source]:
        """Faster and faster, until more than the plan's drop is lost on the samples held out."""
        if self._course.laid is None or not self._course.laid.labels:
            raise UsageError("--max-drop as the budget needs labels", "--data has none", "--target-speedup 1.5")
        held = self._held_out_metric()
        current, good, best = whole, None, None
        cut: Cut | None = None
        for number, speedup in enumerate(LADDER):
            try:
                cut, module = self._cut(number, current, cut, speedup=speedup)
            except GateFailed as error:
                if number == 0:
                    what = f"--max-drop {self._plan.max_drop:g} leads nowhere: {error.what}"
                    raise GateFailed(what, error.why, "a --target of your own, or a smaller --multiple") from error
                break
            current, trained = self._trained(number, module)
            lost = self._lost(held, trained)
            self._course.court.tell(f"{speedup:g} × as fast: {lost:.2f} lost on the samples held out")
            if lost > self._plan.max_drop:
                break
            good, best = (cut._replace(epochs=(number + 1) * self._plan.round_epochs), current), speedup
        if good is None or best is None:
            raise GateFailed(
                f"--max-drop {self._plan.max_drop:g} cannot be met",
                f"a network {LADDER[0]:g} × as fast loses more after {self._plan.round_epochs:g} epochs",
                "more --round-epochs, more data, or a greater --max-drop",
            )
        return good

    def _cut(
        self, number: int, current: Source, before: Cut | None, *, step: float = 1.0, speedup: float = 0.0
    ) -> tuple[Cut, Source]:
        course, folder = self._course, self._course.memory / f"round{number}"
        inspected = inspect(
            InspectJob(
                module=current, shapes=course.shapes, task=course.task_json, data=course.laid,
                settings=course.settings, groups=True, taylor=self._plan.importance == "taylor",
                out=str(folder / "inspected"),
            ),
            course.court,
        )  # fmt: skip
        search = Search(self._plan, course, self._onnx, inspected / "named.onnx", self._work / f"search{number}")
        told = msgspec.json.decode((inspected / "inspected.json").read_bytes(), type=Inspected)
        left = told.refused
        groups = some_groups(search.model, course, left)
        chosen = folder / "choice.json"
        if not chosen.is_file():
            found = search.run(groups, search.scores(groups, taylor_of(inspected)), left, step=step, speedup=speedup)
            choice = Choice(keep={name: tuple(int(unit) for unit in kept) for name, kept in found.items()})
            write_whole(chosen, msgspec.json.encode(choice))
        choice = msgspec.json.decode(chosen.read_bytes(), type=Choice)
        keep: Keep = {name: np.array(kept) for name, kept in choice.keep.items()}
        places = kept_places(groups, keep)
        numbers = count_numbers(Sliceable(told.sliceable, told.refused, told.numbers), keep)
        slices = describe_slices(current, folder, places, numbers=numbers, shapes=course.shapes)
        write_slices(slices, folder / "slices.json")
        weights = folder / "cut.safetensors"
        cut_weights(inspected / "weights.safetensors", places, weights)
        widths = {name: len(kept) for name, kept in keep.items()}
        whole, current_graph = (read_onnx_graph(path, course.shapes) for path in (self._onnx, inspected / "named.onnx"))
        share = total_macs(shrink_graph(current_graph, groups, keep)) / (total_macs(whole) or 1.0)
        rows = width_rows(groups, widths, before.widths if before else ())
        cut = Cut(self._onnx, rows, {**groups.fixed, **left}, macs=share)
        source = Source(factory=unfold(current).factory, weights=str(weights), slices=str(folder / "slices.json"))
        return cut, source

    def _trained(self, number: int, module: Source) -> tuple[Source, Trained]:
        """The module after a round's training, as a source that can be cut further."""
        course, folder = self._course, self._course.memory / f"round{number}"
        if course.laid is None:
            raise UsageError("there is nothing to train on", "", "--data")
        trained = train(
            TrainJob(
                title=f"network of round {number + 1}",
                module=module,
                shapes=course.shapes,
                task=course.task_json,
                code=course.court.code,
                data=course.laid,
                settings=msgspec.structs.replace(course.settings, epochs=self._plan.round_epochs),
                teaching=self._teaching,
                out=str(folder / "trained"),
                memory=str(folder / "checkpoints"),
            ),
            course.court.tell,
        )
        return msgspec.structs.replace(module, weights=str(trained.weights)), trained

    def _held_out_metric(self) -> float:
        """Of the source, on the samples that steer."""
        course = self._course
        with open_store(self._work / "held-out") as store:
            held = tuple(course.laid.indices[place] for place in course.laid.held_out) if course.laid else None
            court = course.court._replace(store=store, val=self._plan.data, indices=held)
            row = judge_all({"source": self._onnx}, court)["source"]
        return row.metric.value if row.metric else 0.0

    def _lost(self, before: float, trained: Trained) -> float:
        """In points of a share, or the metric's unit."""
        if trained.report.metric is None:
            raise UsageError("--max-drop needs labels", "the samples held out have none", "--target-speedup 1.5")
        worse = before - trained.report.metric if self._course.task.higher_is_better else trained.report.metric - before
        return worse * scale_of(self._course.task.metric)[0]


def taylor_of(inspected: Path) -> dict[str, Array]:
    path = inspected / "importance.npz"
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}
