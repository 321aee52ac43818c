"""ONNX Runtime's trace as executions of kernels."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

KERNEL = "_kernel_time"
CONTAINERS = ("If", "Loop", "Scan", "SequenceMap")


class Execution(NamedTuple):
    """One execution of one kernel, with times in microseconds since the profiler's start.

    `number` is ONNX Runtime's number of the node, unique in its graph.
    """

    number: str
    node: str
    op: str
    provider: str
    thread: int
    begin: float
    duration: float
    output_bytes: int | None


def split_inferences(events: Iterable[Mapping[str, Any]]) -> list[list[Execution]]:
    """Return the kernels of each inference in the order of their start; an inference ends with its `model_run`
    event."""
    done: list[list[Execution]] = []
    current: list[Execution] = []
    for event in events:
        if event.get("name") == "model_run":
            done.append(sorted(_remove_subgraph_kernels(current), key=lambda execution: execution.begin))
            current = []
        elif event.get("cat") == "Node" and event["name"].endswith(KERNEL):
            current.append(_read_execution(event))
    return done


def _read_execution(event: Mapping[str, Any]) -> Execution:
    args = event["args"]
    size = args.get("output_size")
    return Execution(
        number=str(args.get("node_index", "")),
        node=event["name"].removesuffix(KERNEL),
        op=args.get("op_name", ""),
        provider=args.get("provider", "") or "CPUExecutionProvider",
        thread=int(event.get("tid", 0)),
        begin=float(event["ts"]),
        duration=float(event["dur"]),
        output_bytes=int(size) if size else None,
    )


def _remove_subgraph_kernels(executions: Sequence[Execution]) -> list[Execution]:
    """Return the kernels without those of graphs inside If, Loop and Scan, whose time is in that of their container.

    A kernel is reported when it ends. So a kernel that was reported before its container and began within it, on the
    same thread, was a part of it.
    """
    kept: list[Execution] = []
    for execution in executions:
        if execution.op in CONTAINERS:
            kept = [e for e in kept if e.begin < execution.begin or e.thread != execution.thread]
        kept.append(execution)
    return kept
