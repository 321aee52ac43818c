"""From ONNX Runtime's trace to layer rows joined to the source graph; runs in the parent."""

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from edgewright.facts.model import GraphNode
from edgewright.facts.run import Layer, LayerReport
from edgewright.runtimes.onnxruntime.profiler import RAN, TRACE, Ran, RanNode

KERNEL = "_kernel_time"
ADDEND = 3  # position of the tensor that a fused convolution adds to its result
NCHWC = re.compile(r"_nchwc(_token_\d+|_\d+)?$")


class Execution(NamedTuple):
    """One execution of one kernel, times in microseconds since the profiler's begin."""

    node: str
    op: str
    provider: str
    begin: float
    duration: float
    output_bytes: int | None


def layers(folder: Path, graph: Sequence[GraphNode]) -> LayerReport:
    """Read `trace.json` and `ran.json` of the profiling pass."""
    ran = msgspec.json.decode((folder / RAN).read_bytes(), type=Ran)
    events = msgspec.json.decode((folder / TRACE).read_bytes())
    inferences = split_inferences(events)[ran.warmup :]
    sources = source_nodes(ran.nodes, graph)
    rows = [
        layer_row(position, [run[position] for run in inferences], inferences, sources)
        for position in range(min((len(run) for run in inferences), default=0))
    ]
    providers = [row.backend for row in rows]
    return LayerReport(
        layers=tuple(rows),
        via="profiler",
        whole_us=float(np.median(ran.runs_us)) if ran.runs_us else 0.0,
        partitions=count_partitions(providers),
        asked=ran.provider,
    )


def split_inferences(events: Sequence[Mapping[str, Any]]) -> list[list[Execution]]:
    """The kernels of each inference in the order they began; an inference ends with its `model_run` event."""
    done: list[list[Execution]] = []
    current: list[Execution] = []
    for event in events:
        if event.get("name") == "model_run":
            done.append(sorted(current, key=lambda execution: execution.begin))
            current = []
        elif event.get("cat") == "Node" and event["name"].endswith(KERNEL):
            current.append(read_execution(event))
    return done


def read_execution(event: Mapping[str, Any]) -> Execution:
    args = event["args"]
    size = args.get("output_size")
    return Execution(
        node=event["name"].removesuffix(KERNEL),
        op=args.get("op_name", ""),
        provider=args.get("provider", "") or "CPUExecutionProvider",
        begin=float(event["ts"]),
        duration=float(event["dur"]),
        output_bytes=int(size) if size else None,
    )


def layer_row(
    position: int,
    executions: Sequence[Execution],
    inferences: Sequence[Sequence[Execution]],
    sources: Mapping[str, tuple[str, ...]],
) -> Layer:
    first = executions[0]
    times = [execution.duration for execution in executions]
    starts = [run[position].begin - run[0].begin for run in inferences]
    return Layer(
        position=position,
        name=first.node,
        op=first.op,
        source_nodes=sources.get(first.node, ()),
        unit="CPU" if first.provider in ("CPUExecutionProvider", "XnnpackExecutionProvider") else "UNKNOWN",
        backend=first.provider,
        evidence="measured",
        start_us=float(np.median(starts)),
        median_us=float(np.median(times)),
        p90_us=float(np.percentile(times, 90)),
        memory_bytes=first.output_bytes,
    )


def count_partitions(providers: Sequence[str]) -> int:
    """Connected pieces that one provider ran in one go, in execution order."""
    changes = sum(before != after for before, after in itertools.pairwise(providers))
    return changes + 1 if providers else 0


def source_nodes(ran: Sequence[RanNode], graph: Sequence[GraphNode]) -> dict[str, tuple[str, ...]]:
    """For each node that ran, the source nodes that it computes.

    A node that ran still ends in a tensor of the source graph: under its own name, or, for the blocked layout
    NCHWc, in the node's name. Everything between that tensor and the next such tensors upstream was fused
    into the node. A reorder of the layout computes nothing of the source.
    """
    maker = {tensor: node for node in graph for tensor in node.outputs}
    readers = read_by(graph)
    ends = {node.name: end_tensors(node, maker, readers) for node in ran if not node.op.startswith("Reorder")}
    stops = {tensor for tensors in ends.values() for tensor in tensors}
    return {name: walk_back(tensors, stops, maker) for name, tensors in ends.items()}


def read_by(graph: Sequence[GraphNode]) -> dict[str, list[GraphNode]]:
    readers: dict[str, list[GraphNode]] = {}
    for node in graph:
        for tensor in node.inputs:
            readers.setdefault(tensor, []).append(node)
    return readers


def end_tensors(node: RanNode, maker: Mapping[str, GraphNode], readers: Mapping[str, Sequence[GraphNode]]) -> list[str]:
    """The source tensors that the node ends in, and those that an addition fused into it passes on the way."""
    ends = [tensor for tensor in (*node.outputs, NCHWC.sub("", node.name)) if tensor in maker]
    if node.op in ("Conv", "FusedConv") and len(node.inputs) > ADDEND and node.inputs[ADDEND]:
        return [follow(follow(tensor, "Add", readers), node.activation, readers) for tensor in ends]
    return ends


def follow(tensor: str, op: str, readers: Mapping[str, Sequence[GraphNode]]) -> str:
    """The output of the only `op` that reads the tensor, or the tensor itself."""
    found = [node for node in readers.get(tensor, ()) if node.op == op]
    return found[0].outputs[0] if len(found) == 1 else tensor


def walk_back(ends: Sequence[str], stops: set[str], maker: Mapping[str, GraphNode]) -> tuple[str, ...]:
    """Names of the source nodes from `ends` upstream to the next stops, the most upstream first."""
    found: dict[str, None] = {}
    left = list(ends)
    while left:
        node = maker.get(left.pop())
        if node is None or node.name in found:
            continue
        found[node.name] = None
        left.extend(tensor for tensor in node.inputs if tensor not in stops)
    return tuple(reversed(found))
