"""Incremental execution of a graph with samples; only tensors that are still read stay in memory."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from edgewright.formats.neighbors import find_read_names, select_needed
from edgewright.formats.onnx.constants import make_tensor
from edgewright.schema.arrays import Array

IR_VERSION = 10


class IncrementalExecutor:
    """Samples that are run through a graph's nodes step by step; constants may change before they are read.

    Args:
        nodes: in execution order.
        constants: by name, read when a node that uses them runs.
        samples: the feeds of each sample, by input name.
        types: the ONNX element type of every tensor between two steps.
        wanted: tensors that are read after the last step.
    """

    def __init__(
        self,
        nodes: Sequence[Any],
        constants: Mapping[str, Array],
        samples: Iterable[Mapping[str, Array]],
        types: Mapping[str, int],
        wanted: Iterable[str] = (),
        *,
        opset: int,
    ) -> None:
        self._waiting = list(nodes)
        self._constants = constants
        self._types = types
        self._wanted = set(wanted)
        self._opset = opset
        self.live: list[dict[str, Array]] = [dict(sample) for sample in samples]

    def reach(self, *targets: str) -> None:
        """Compute these tensors for every sample, and release tensors that are no longer read."""
        missing = [name for name in targets if name not in self.live[0]]
        if not missing:
            return
        steps = select_needed(self._waiting, missing)
        needed = {id(node) for node in steps}
        self._waiting = [node for node in self._waiting if id(node) not in needed]
        later = find_read_names(self._waiting) | self._wanted | set(targets)
        made = {name for node in steps for name in node.output if name}
        results = sorted(made & later)
        taken = sorted(find_read_names(steps) & self.live[0].keys() - made)
        session = self._open(steps, taken, results)
        for live in self.live:
            outputs = session.run(results, {name: live[name] for name in taken})
            live.update(zip(results, outputs, strict=True))
            for name in [name for name in live if name not in later]:
                del live[name]

    def make_remaining(self, outputs: Sequence[str]) -> Callable[[Mapping[str, Array]], list[Array]]:
        """Return a function that computes `outputs` from the live tensors of one sample."""
        missing = [name for name in outputs if name not in self.live[0]]
        if not missing:
            return lambda live: [live[name] for name in outputs]
        steps = select_needed(self._waiting, missing)
        made = {name for node in steps for name in node.output}
        taken = sorted(find_read_names(steps) & self.live[0].keys() - made)
        session = self._open(steps, taken, missing, optimize=True)

        def run(live: Mapping[str, Array]) -> list[Array]:
            results = dict(zip(missing, session.run(missing, {name: live[name] for name in taken}), strict=True))
            return [results[name] if name in results else live[name] for name in outputs]

        return run

    def _open(
        self, steps: Sequence[Any], taken: Sequence[str], results: Sequence[str], *, optimize: bool = False
    ) -> Any:
        part = GraphPart(steps, taken, results)
        return open_graph(part, self._constants, self._type, self._opset, optimize=optimize)

    def _type(self, name: str) -> int:
        from onnx import helper

        if self.live and name in self.live[0]:
            return helper.np_dtype_to_tensor_dtype(self.live[0][name].dtype)
        return self._types.get(name, 1)


class GraphPart(NamedTuple):
    """Nodes that run alone, with the tensors that they get and return."""

    nodes: Sequence[Any]
    inputs: Sequence[str]
    outputs: Sequence[str]


def open_graph(
    part: GraphPart,
    constants: Mapping[str, Array],
    type_of: Callable[[str], int],
    opset: int,
    *,
    optimize: bool = False,
) -> Any:
    """Open a session for a part of a graph; `type_of` returns the ONNX element type of inputs and outputs."""
    from onnx import helper

    read = find_read_names(part.nodes)
    graph = helper.make_graph(
        part.nodes,
        "part",
        [helper.make_tensor_value_info(name, type_of(name), None) for name in part.inputs],
        [helper.make_tensor_value_info(name, type_of(name), None) for name in part.outputs],
        [make_tensor(name, array) for name, array in constants.items() if name in read],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSION)
    return open_session(model.SerializeToString(), optimize=optimize)


def open_session(model: bytes | str, *, optimize: bool = False, threads: int = 0) -> Any:
    """Open ONNX Runtime on the CPU; without `optimize` a Q/DQ pair rounds floats and is not fused."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run_model(model: Any, outputs: Sequence[str], samples: Iterable[Mapping[str, Array]]) -> list[list[Array]]:
    """Return the outputs of each sample in ONNX Runtime with its default optimizations: [samples][outputs]."""
    session = open_session(model.SerializeToString(), optimize=True)
    return [session.run(list(outputs), dict(feeds)) for feeds in samples]
