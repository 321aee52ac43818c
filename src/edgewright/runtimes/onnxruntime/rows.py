"""Conversion of ONNX Runtime's trace to layer rows joined to the source graph; runs in the parent."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from edgewright.runtimes.inference import choose_inference
from edgewright.runtimes.onnxruntime.join import find_source_nodes, index_by_name
from edgewright.runtimes.onnxruntime.profiler import RAN, TRACE, OnnxruntimeProfile
from edgewright.runtimes.onnxruntime.trace import Execution, split_inferences
from edgewright.schema.model import GraphNode
from edgewright.schema.ranks import compute_median_bounds
from edgewright.schema.run import Layer, LayerReport

RESOLUTION_US = 1.0  # the trace truncates to whole microseconds: a time of 3 means 3 to 4
ON_CPU = ("CPUExecutionProvider", "XnnpackExecutionProvider")

Sources = Mapping[tuple[str, str], tuple[str, ...]]


def report_layers(folder: Path, graph: Sequence[GraphNode]) -> LayerReport:
    """Read `trace.json` and `ran.json` of the profiling pass.

    The graph inside an If, Loop or Scan has no rows of its own, but is part of that operator's.
    """
    ran = msgspec.json.decode((folder / RAN).read_bytes(), type=OnnxruntimeProfile)
    events = msgspec.json.decode((folder / TRACE).read_bytes())
    sources = index_by_name(ran.nodes, find_source_nodes(ran.nodes, graph))
    found = _group_executions(split_inferences(events)[ran.warmup :])
    rows = tuple(_layer_row(position, *seen, sources) for position, seen in enumerate(found))
    return LayerReport(
        layers=rows,
        via="profiler",
        whole_us=float(np.median(ran.runs_us)) if ran.runs_us else 0.0,
        partitions=_count_partitions([row.backend for row in rows]),
        asked=ran.provider,
        inference=choose_inference(
            [starts for _, starts in found], [[one.duration for one in ran_once] for ran_once, _ in found]
        ),
    )


def _group_executions(inferences: Sequence[Sequence[Execution]]) -> list[tuple[list[Execution], list[float]]]:
    """Return the executions of each node and their starts within the inference, ordered by median start.

    Nodes are identified by ONNX Runtime's number, not by their position in the order, which changes if operators
    run in parallel. A node that some inferences did not run is omitted.
    """
    found: dict[tuple[str, str], tuple[list[Execution], list[float]]] = {}
    for run in inferences:
        for execution in run:
            seen, starts = found.setdefault((execution.number, execution.node), ([], []))
            seen.append(execution)
            starts.append(execution.begin - run[0].begin)
    whole = [each for each in found.values() if len(each[0]) == len(inferences)]
    return sorted(whole, key=lambda each: float(np.median(each[1])))


def _layer_row(position: int, executions: Sequence[Execution], starts: Sequence[float], sources: Sources) -> Layer:
    first = executions[0]
    times = [execution.duration for execution in executions]
    low, high = compute_median_bounds(times)
    return Layer(
        position=position,
        name=first.node,
        op=first.op,
        source_nodes=_find_sources(first, sources),
        unit="CPU" if first.provider in ON_CPU else "UNKNOWN",
        backend=first.provider,
        evidence="measured",
        start_us=float(np.median(starts)),
        median_us=float(np.median(times)),
        p90_us=float(np.percentile(times, 90)),
        memory_bytes=first.output_bytes,
        low_us=low,
        high_us=None if high is None else high + RESOLUTION_US,
    )


def _find_sources(execution: Execution, sources: Sources) -> tuple[str, ...]:
    """Return the rows with the node's name; the trace names a nameless node by its operator and number."""
    if execution.node == f"{execution.op}_{execution.number}" and (execution.node, execution.op) not in sources:
        return sources.get(("", execution.op), ())
    return sources.get((execution.node, execution.op), ())


def _count_partitions(providers: Sequence[str]) -> int:
    """Return the number of connected parts that one provider ran at once, in execution order."""
    changes = sum(before != after for before, after in itertools.pairwise(providers))
    return changes + 1 if providers else 0
