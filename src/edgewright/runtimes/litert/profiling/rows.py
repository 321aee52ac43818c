"""Conversion of a trace to layer rows."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from statistics import median
from typing import NamedTuple

from edgewright.runtimes.inference import choose_inference
from edgewright.runtimes.litert.profiling.join import (
    EventOwner,
    align_events,
    assign_skipped_operators,
    partition_graph,
)
from edgewright.runtimes.litert.profiling.trace import C_API, LiteRtEvent, LiteRtTrace, ProfiledRun
from edgewright.schema.model import GraphNode
from edgewright.schema.ranks import compute_median_bounds
from edgewright.schema.run import Layer, LayerReport

# Kinds of events, and the subgraph in `metadata2`: see `capi.py`.
DEFAULT_KIND, OPERATOR, DELEGATE_KINDS = 1, 2, (4, 8)
MAIN_SUBGRAPH = 0
INVOKE = "Invoke"
XNNPACK, BUILTIN = "XNNPACK", "builtin"


class OperatorTimes(NamedTuple):
    """One executed operator over all runs.

    `position` is that in the file or, for a delegated operator, in its partition; `block` counts delegated
    partitions from 0 and is None for a built-in kernel.
    """

    tag: str
    position: int
    block: int | None
    starts_us: tuple[int, ...]
    times_us: tuple[int, ...]


class RowSource(NamedTuple):
    """The source of a row: its name, and the file's operators."""

    name: str
    nodes: tuple[str, ...]


def report_layers(trace: LiteRtTrace, graph: Sequence[GraphNode]) -> LayerReport:
    """Return the rows of a trace, one for each executed operator, in order of execution.

    Through the C API (`via` `c-api`) the times are those of the operators in the model, and each event reports the
    backend (evidence `measured`). XNNPACK reports durations without start times: within a partition, operators are
    placed one after the other. The profiler truncates to whole microseconds, so a time of 3 means 3 to 4: medians and
    quantiles are those of grouped data, linear within the class, as in Python's `statistics.median_grouped`. If the
    inference is too short for half a microsecond more for each operator, the classes are narrower. `whole_us` is the
    interpreter's own `Invoke` if the trace has it, without the C API's handling of buffers, which `run` does not have.

    For cut-outs (`via` `cut-out`) the times are those of each operator alone, and its backend in the whole model is
    assumed to be the same (evidence `assigned`); starts are unknown.

    `partitions` counts the parts that one backend ran at once: delegated partitions, and longest sequences
    of built-in kernels between them.

    Args:
        trace: the file that `profile` wrote.
        graph: the nodes of the same file (`formats.tflite.read_graph`); `source_nodes` are their names, and are
            empty if the mapping is not certain, or if `graph` is not the file's.
    """
    ours = graph if tuple(node.op for node in graph) == trace.operators else ()
    return _report_events(trace, ours) if trace.via == C_API else _report_cut_outs(trace, ours)


# Events


def _report_events(trace: LiteRtTrace, graph: Sequence[GraphNode]) -> LayerReport:
    runs = _alike(trace)
    steps = _read_steps(trace, runs)
    sources = _name_sources(steps, graph)
    width = _class_width_us(trace, runs)
    zeros = _zeros(trace, runs)
    starts = _place_starts(steps, zeros, width)
    begun = [_place_run(steps, zeros, run) for run in range(len(runs))]
    rows = [_row(i, step, sources[i], starts[i], width) for i, step in enumerate(steps)]
    return LayerReport(
        layers=tuple(rows),
        via=trace.via,
        whole_us=_measure_whole_us(trace, runs),
        partitions=_count_pieces([step.block for step in steps]),
        asked=_find_requested_backend(trace),
        reason=trace.reason,
        inference=choose_inference(list(zip(*begun, strict=True)), [step.times_us for step in steps]),
    )


def _find_requested_backend(trace: LiteRtTrace) -> str:
    return BUILTIN if trace.delegate == "none" else XNNPACK


def _row(position: int, step: OperatorTimes, source: RowSource, start_us: float, width: float) -> Layer:
    low, high = compute_median_bounds(step.times_us)
    return Layer(
        position=position,
        name=source.name,
        op=step.tag,
        source_nodes=source.nodes,
        unit="CPU",
        backend=BUILTIN if step.block is None else XNNPACK,
        evidence="measured",
        start_us=start_us,
        median_us=grouped_quantile(step.times_us, 0.5, width),
        p90_us=grouped_quantile(step.times_us, 0.9, width),
        low_us=low,
        high_us=None if high is None else high + width,
    )


def _alike(trace: LiteRtTrace) -> list[ProfiledRun]:
    """Return the runs that executed the most frequent sequence of operators: with branches, runs can differ."""
    shapes = [tuple((e.tag, e.kind, e.metadata1) for e in _operator_events(trace, run)) for run in trace.runs]
    ((usual, _),) = Counter(shapes).most_common(1)
    return [run for run, shape in zip(trace.runs, shapes, strict=True) if shape == usual]


def _operator_events(trace: LiteRtTrace, run: ProfiledRun) -> list[LiteRtEvent]:
    """Return the events of single operators, without a delegate's own event around its operators.

    Operators of other subgraphs are part of the operator that calls them, such as IF or WHILE.
    """
    kinds = (OPERATOR, *DELEGATE_KINDS)
    events = [e for e in run.events if e.kind in kinds and e.metadata2 == MAIN_SUBGRAPH]
    following = [*events[1:], None]
    return [e for e, after in zip(events, following, strict=True) if not _is_umbrella(trace, e, after)]


def _is_umbrella(trace: LiteRtTrace, event: LiteRtEvent, after: LiteRtEvent | None) -> bool:
    """Return whether the event is a delegate's node, which is after the file's operators and begins before its
    operators."""
    beyond = event.kind == OPERATOR and event.metadata1 >= len(trace.operators)
    return beyond and after is not None and after.kind in DELEGATE_KINDS


def _read_steps(trace: LiteRtTrace, runs: Sequence[ProfiledRun]) -> list[OperatorTimes]:
    steps: list[OperatorTimes] = []
    block = -1
    for column in zip(*(_operator_events(trace, run) for run in runs), strict=True):
        event = column[0]
        delegated = event.kind in DELEGATE_KINDS or event.metadata1 >= len(trace.operators)
        if delegated and _opens_block(event, steps):
            block += 1
        steps.append(
            OperatorTimes(
                tag=trace.tags[event.tag],
                position=event.metadata1,
                block=block if delegated else None,
                starts_us=tuple(e.start_us for e in column) if event.kind == OPERATOR else (),
                times_us=tuple(e.elapsed_us for e in column),
            )
        )
    return steps


def _opens_block(event: LiteRtEvent, before: Sequence[OperatorTimes]) -> bool:
    """Return whether a partition begins, in which XNNPACK counts its operators from 0."""
    return not before or before[-1].block is None or event.metadata1 <= before[-1].position


def _count_pieces(blocks: Iterable[int | None]) -> int:
    return sum(1 for _ in groupby(blocks))


def _invokes(trace: LiteRtTrace, run: ProfiledRun) -> LiteRtEvent | None:
    """Return the event around the whole inference; other subgraphs have one of the same name."""
    mine = (e for e in run.events if e.kind == DEFAULT_KIND and e.metadata2 == MAIN_SUBGRAPH)
    return next((e for e in mine if trace.tags[e.tag] == INVOKE), None)


def _zeros(trace: LiteRtTrace, runs: Sequence[ProfiledRun]) -> list[int]:
    """Return the start of each run on the profiler's clock: that of the inference, or else of its first event."""
    zeros = []
    for run in runs:
        invoke = _invokes(trace, run)
        starts = [e.start_us for e in run.events if e.kind == OPERATOR]
        zeros.append(invoke.start_us if invoke else min(starts, default=0))
    return zeros


def _measure_whole_us(trace: LiteRtTrace, runs: Sequence[ProfiledRun]) -> float:
    reported = [invoke.elapsed_us for run in runs if (invoke := _invokes(trace, run))]
    if len(reported) == len(runs):
        return grouped_quantile(reported, 0.5)
    return median(run.whole_ns for run in runs) / 1e3


def _class_width_us(trace: LiteRtTrace, runs: Sequence[ProfiledRun]) -> float:
    """Return the width of the classes of times: 1 µs, or less if the inferences are shorter."""
    margins_us = []
    for run in runs:
        times = [event.elapsed_us for event in _operator_events(trace, run)]
        invoke = _invokes(trace, run)
        whole = invoke.elapsed_us if invoke else run.whole_ns / 1e3
        margins_us.append((whole - sum(times)) / max(len(times), 1))
    return min(1.0, max(0.0, 2 * median(margins_us)))


def _place_starts(steps: Sequence[OperatorTimes], zeros: Sequence[int], width: float) -> list[float]:
    """Return starts in microseconds: as reported for built-in kernels, one after the other within a partition."""
    starts: list[float] = []
    end = 0.0
    for step in steps:
        reported = [start - zero for start, zero in zip(step.starts_us, zeros, strict=True)] if step.starts_us else []
        start = max(median(reported), 0.0) if reported else end
        starts.append(start)
        end = start + grouped_quantile(step.times_us, 0.5, width)
    return starts


def _place_run(steps: Sequence[OperatorTimes], zeros: Sequence[int], run: int) -> list[float]:
    """Return the starts of one inference as `_place_starts` does."""
    starts: list[float] = []
    end = 0.0
    for step in steps:
        starts.append(max(float(step.starts_us[run] - zeros[run]), 0.0) if step.starts_us else end)
        end = starts[-1] + step.times_us[run]
    return starts


def grouped_quantile(values: Sequence[int], share: float, width: float = 1.0) -> float:
    """Return the quantile of times that were truncated to units: a value v means v to v + width."""
    counts = Counter(values)
    wanted, below = share * len(values), 0
    for value in sorted(counts):
        if below + counts[value] >= wanted:
            return value + width * (wanted - below) / counts[value]
        below += counts[value]
    return max(counts) + width


# Mapping to the file


def _name_sources(steps: Sequence[OperatorTimes], graph: Sequence[GraphNode]) -> list[RowSource]:
    """Return the sources of each step; steps that cannot be joined get a name of their own and no nodes."""
    sources = [_unjoined(step) for step in steps]
    builtin = {i: step.position for i, step in enumerate(steps) if step.block is None}
    if not graph or any(position >= len(graph) for position in builtin.values()):
        return sources
    for i, position in builtin.items():
        sources[i] = RowSource(graph[position].name, (graph[position].name,))
    for members, positions in _match_partitions(steps, graph, set(builtin.values())):
        _join_partition(steps, graph, members, positions, sources)
    return sources


def _unjoined(step: OperatorTimes) -> RowSource:
    return RowSource(f"{_head_of(step.tag)}@{step.block}.{step.position}", ())


def _head_of(tag: str) -> str:
    """Return the kind of an XNNPACK operator: `Convolution` for `Convolution (NHWC, F32) IGEMM`."""
    return tag.split(" (")[0]


def _match_partitions(
    steps: Sequence[OperatorTimes], graph: Sequence[GraphNode], builtin: set[int]
) -> list[tuple[list[int], tuple[int, ...]]]:
    """Yield steps and file positions of each delegated partition; none unless the whole execution order agrees."""
    blocks: dict[int, list[int]] = {}
    seen: list[int | str] = []
    for i, step in enumerate(steps):
        if step.block is None:
            seen.append(step.position)
        else:
            if step.block not in blocks:
                seen.append(XNNPACK)
            blocks.setdefault(step.block, []).append(i)
    subsets = partition_graph(graph, builtin)
    expected = [p for s in subsets for p in ((XNNPACK,) if s.delegated else s.positions)]
    if seen != expected:
        return []
    return list(zip(blocks.values(), (s.positions for s in subsets if s.delegated), strict=True))


def _join_partition(
    steps: Sequence[OperatorTimes],
    graph: Sequence[GraphNode],
    members: Sequence[int],
    positions: Sequence[int],
    sources: list[RowSource],
) -> None:
    """Write the sources of the steps `members` of one partition to `sources`."""
    heads = [_head_of(steps[i].tag) for i in members]
    owners, skipped = align_events(heads, [graph[p].op for p in positions])
    stands_for = {owner.operator: [positions[owner.operator]] for owner in owners.values() if owner.main}
    assign_skipped_operators(graph, positions, skipped, stands_for)
    for event, owner in owners.items():
        sources[members[event]] = _joined(graph, positions, owner, stands_for, heads[event])


def _joined(
    graph: Sequence[GraphNode],
    positions: Sequence[int],
    owner: EventOwner,
    stands_for: dict[int, list[int]],
    head: str,
) -> RowSource:
    name = graph[positions[owner.operator]].name
    if not owner.main:
        return RowSource(f"{name}/{head}", (name,))
    return RowSource(name, tuple(graph[p].name for p in sorted(stands_for[owner.operator])))


# Cut-outs


def _report_cut_outs(trace: LiteRtTrace, graph: Sequence[GraphNode]) -> LayerReport:
    rows: list[Layer] = []
    for cut in trace.cut_outs:
        name = graph[cut.position].name if graph else f"{trace.operators[cut.position]}#{cut.position}"
        times_us = [time_ns / 1e3 for time_ns in cut.times_ns]
        low, high = compute_median_bounds(times_us)
        rows.append(
            Layer(
                position=len(rows),
                name=name,
                op=trace.operators[cut.position],
                source_nodes=(name,) if graph else (),
                unit="CPU",
                backend=XNNPACK if cut.delegated else BUILTIN,
                evidence="assigned",
                start_us=None,
                median_us=median(times_us),
                p90_us=nearest_quantile(times_us, 0.9),
                low_us=low,
                high_us=high,
            )
        )
    return LayerReport(
        layers=tuple(rows),
        via=trace.via,
        whole_us=median(run.whole_ns for run in trace.runs) / 1e3,
        partitions=_count_pieces([0 if cut.delegated else None for cut in trace.cut_outs]),
        asked=_find_requested_backend(trace),
        reason=trace.reason,
    )


def nearest_quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1)]
