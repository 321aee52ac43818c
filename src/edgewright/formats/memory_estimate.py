"""Memory estimate of a model from its shapes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from edgewright.errors import EdgewrightError, LimitReached
from edgewright.formats.arena import find_peak_memory
from edgewright.formats.files import sniff
from edgewright.formats.onnx.typed import read_onnx_graph
from edgewright.formats.tflite.typed import read_tflite_graph
from edgewright.formats.typed_graph import TypedGraph
from edgewright.limits import ResourceBudget


class MemoryNeed(NamedTuple):
    """The memory of one inference, and its purpose."""

    size: int
    what: str


def find_need(graph: TypedGraph) -> MemoryNeed:
    """Return the larger of two figures: peak of activations, and constants around one folded node.

    Unknown sizes count 0.
    """
    peak, node = find_peak_memory(graph, {})
    needs = [MemoryNeed(peak or 0, f"the activations at '{node[:80]}'" if node else "the inputs")]
    for one in graph.nodes:
        if one.folded:
            kinds = (graph.tensors[name] for name in {*one.inputs, *one.outputs} if name in graph.tensors)
            size = sum(kind.bytes() or 0 for kind in kinds if not kind.stored)
            needs.append(MemoryNeed(size, f"the constant that '{one.name[:80]}' computes"))
    return max(needs, key=lambda need: need.size)


def check_memory(graph: TypedGraph, budget: ResourceBudget, name: str) -> None:
    """Raise LimitReached if the model needs more memory than the budget."""
    size, what = find_need(graph)
    budget.check_bytes(size, f"{what} of {name}")


def check_file_memory(path: Path, shapes: Mapping[str, Sequence[int]], budget: ResourceBudget) -> None:
    """Call `check_memory` for an ONNX or TFLite file; errors of an unreadable file are left to its loader."""
    try:
        kind = sniff(path)
        if kind not in ("onnx", "tflite"):
            return
        graph = read_onnx_graph(path, shapes, budget) if kind == "onnx" else read_tflite_graph(path, shapes)
    except LimitReached:
        raise
    except EdgewrightError:
        return
    check_memory(graph, budget, "the model")
