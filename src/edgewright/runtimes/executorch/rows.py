"""Conversion of a trace to layer rows joined to the source graph; runs in the parent."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import eq

import numpy as np

from edgewright.runtimes.executorch.align import align_operators, find_common_pairs
from edgewright.runtimes.executorch.description import Instruction, ProgramDescription
from edgewright.runtimes.executorch.trace import ExecutorchEvent, ExecutorchTrace
from edgewright.runtimes.inference import choose_inference
from edgewright.schema.model import GraphNode
from edgewright.schema.ranks import compute_median_bounds
from edgewright.schema.run import Layer, LayerReport

XNNPACK, PORTABLE = "XNNPACK", "portable"
OPAQUE_DELEGATE_REASON = "a delegate reported no operators: its time is one row"


def report_layers(trace: ExecutorchTrace, graph: Sequence[GraphNode]) -> LayerReport:
    """Return one row for each operator, including those of XNNPACK's partitions if its profiler reported
    them."""
    first = trace.runs[0]
    alike = [run for run in trace.runs if [event.name for event in run] == [event.name for event in first]]
    known = {node.name for node in graph}
    sources = _find_sources(first, trace.description)
    begun = np.array([[event.start for event in run] for run in alike]) / 1e3
    begun = np.maximum.accumulate(begun, axis=1)  # XNNPACK sums its own times, which may exceed its partition
    starts = np.median(begun, axis=0)
    times = np.array([[event.duration for event in run] for run in alike]) / 1e3
    bounds = [compute_median_bounds(column) for column in times.T.tolist()]
    rows = [
        Layer(
            position=position,
            name=f"{event.name} @{event.instruction}",
            op=event.name.split(" #")[0],
            source_nodes=tuple(name for name in sources[position] if name in known),
            unit="CPU",
            backend=XNNPACK if event.delegate else PORTABLE,
            evidence="measured",
            start_us=float(starts[position]),
            median_us=float(np.median(times[:, position])),
            p90_us=float(np.percentile(times[:, position], 90)),
            low_us=bounds[position][0],
            high_us=bounds[position][1],
        )
        for position, event in enumerate(first)
    ]
    return LayerReport(
        layers=tuple(rows),
        via="etdump",
        whole_us=float(np.median(trace.runs_us)),
        partitions=_count_pieces(first),
        asked=XNNPACK,
        inference=choose_inference(begun.T.tolist(), times.T.tolist()),
        reason=OPAQUE_DELEGATE_REASON if any(event.name == "partition" for event in first) else "",
    )


def _count_pieces(events: Iterable[ExecutorchEvent]) -> int:
    """Return the number of delegates and of kernel sequences between them."""
    return sum(1 for _ in groupby(events, lambda event: (event.delegate, event.instruction if event.delegate else -1)))


def _find_sources(events: Sequence[ExecutorchEvent], description: ProgramDescription | None) -> list[tuple[str, ...]]:
    """Return the source nodes of each event; none if the program has no information on it.

    Instructions and the description's calls are matched in order, since views of memory may run as instructions too.
    """
    sources: list[tuple[str, ...]] = [()] * len(events)
    groups = [list(group) for _, group in groupby(range(len(events)), lambda i: events[i].instruction)]
    calls = description.calls if description else ()
    ran = ["" if events[group[0]].delegate else events[group[0]].name for group in groups]
    made = ["" if call.delegate else call.operators[0].kind for call in calls]
    for i, j in find_common_pairs(ran, made, eq):
        names = [events[k].name for k in groups[i]]
        for k, found in zip(groups[i], _sources_of_call(names, calls[j]), strict=True):
            sources[k] = found
    return sources


def _sources_of_call(names: Sequence[str], call: Instruction) -> list[tuple[str, ...]]:
    """Return the source nodes of the operators that one instruction ran."""
    if call.delegate and list(names) != ["partition"]:
        return align_operators(names, call.operators)
    return [tuple(dict.fromkeys(name for one in call.operators for name in one.sources))] * len(names)
