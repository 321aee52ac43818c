"""Dry run of the writer without a file: `python -m edgewright.runtimes.litert.dry_run MODEL`.

It runs the writer's stages up to the one that writes bytes, and reports every rejection by its node, so that
`edgewright analyze` predicts what `edgewright compile` does. It is a separate process, since shapes are inferred by
onnx's C++ and constants are computed. Shapes come as JSON on stdin.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from edgewright.errors import EdgewrightError
from edgewright.limits import ResourceBudget, read_budget
from edgewright.system.memory_limit import (
    CONVERTER_COPIES,
    SPARE_BYTES,
    is_allocation_failure,
    limit_this_process,
    supports_limit,
)

if TYPE_CHECKING:
    from edgewright.runtimes.litert.writer.graph import Graph, OperatorRejected
    from edgewright.runtimes.litert.writer.program import Program


class PlannedOperator(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One operator of the file that would be written, with what the support tables of LiteRT's units require.

    Attributes:
        op: LiteRT's name.
        sources: ONNX nodes that it computes, the main one first.
        dtypes, shapes, constant: of each input and, at the end, of the first output.
        reads, makes: numbers of the input and output tensors.
    """

    op: str
    sources: tuple[str, ...]
    dtypes: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    constant: tuple[bool, ...]
    reads: tuple[int, ...]
    makes: tuple[int, ...]


class RejectedNode(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A node that the writer cannot express."""

    node: str
    op: str
    reason: str
    remedy: str


class DryRun(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Either the operators of the file, or the rejections; `failure` if the model cannot be read at all."""

    operators: tuple[PlannedOperator, ...] = ()
    refused: tuple[RejectedNode, ...] = ()
    failure: str = ""
    remedy: str = ""


def plan_file(path: Path, shapes: Mapping[str, Sequence[int]], budget: ResourceBudget | None = None) -> DryRun:
    """Return the dry run's result from a process of its own; `failure` says where the process crashed.

    Raises LimitReached if it exceeds the budget of time or memory.
    """
    budget = budget or read_budget()
    command = [sys.executable, "-P", "-m", "edgewright.runtimes.litert.dry_run", str(path.absolute())]
    request = msgspec.json.encode({name: list(sizes) for name, sizes in shapes.items()})
    environment = {**os.environ, **budget.environment()}
    timeout = budget.left_seconds if isfinite(budget.seconds) else None
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            command, input=request, capture_output=True, timeout=timeout, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        raise budget.time_error("the writer's dry run") from None
    try:
        return msgspec.json.decode(done.stdout, type=DryRun)
    except msgspec.MsgspecError:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        if supports_limit() and is_allocation_failure("\n".join(lines)):
            raise budget.memory_error("the writer's dry run") from None
        return DryRun(failure=f"the writer's dry run ended with {done.returncode}: {lines[-1][:300] if lines else ''}")


# In the child process


def main() -> None:
    channel = os.dup(1)
    os.dup2(2, 1)
    shapes = msgspec.json.decode(sys.stdin.buffer.read() or b"{}", type=dict[str, tuple[int, ...]])
    path, budget = Path(sys.argv[1]), read_budget()
    limit_this_process(SPARE_BYTES + budget.memory_bytes + CONVERTER_COPIES * path.stat().st_size)
    try:
        answer = _plan_operators(path, shapes)
    except MemoryError:
        sys.exit("MemoryError")  # is_allocation_failure knows this text
    except EdgewrightError as error:
        answer = DryRun(failure=": ".join(filter(None, (error.what, error.why))), remedy=error.try_this)
    with os.fdopen(channel, "wb") as out:
        out.write(msgspec.json.encode(answer))


def _plan_operators(path: Path, shapes: Mapping[str, Sequence[int]]) -> DryRun:
    """Run the writer's stages in the order of `writer.convert.convert_onnx`, without the last one.

    If an early stage rejects a node, the later ones continue with the rest, so that as much as possible is reported.
    """
    from edgewright.runtimes.litert.writer import convert

    with convert.documented_errors():
        return _plan_nodes(path, shapes)


def _plan_nodes(path: Path, shapes: Mapping[str, Sequence[int]]) -> DryRun:
    from edgewright.runtimes.litert.writer import convert, nodes
    from edgewright.runtimes.litert.writer.build import Builder
    from edgewright.runtimes.litert.writer.graph import DAMAGE
    from edgewright.runtimes.litert.writer.operators import TABLE
    from edgewright.runtimes.litert.writer.passes.rewrite import REWRITTEN
    from edgewright.runtimes.litert.writer.reading.read import read_graph
    from edgewright.runtimes.litert.writer.reading.shapes import FOLDED, resolve_shapes
    from edgewright.runtimes.litert.writer.reading.unroll import CONTROL

    graph = read_graph(path, shapes, {*TABLE, *FOLDED, *REWRITTEN, *CONTROL})
    refused = _list_rejections(graph, {**resolve_shapes(graph), **nodes.find_unknown(graph)})
    try:
        convert.reshape_graph(graph)
        builder = Builder(graph)
        convert.place_inputs(builder, "channels_last")
        refused += _list_rejections(graph, nodes.write_nodes(builder))
        if not refused:
            convert.place_outputs(builder, "channels_last")
    except (EdgewrightError, *DAMAGE):
        if not refused:
            raise
    if refused:
        return DryRun(refused=tuple({one.node: one for one in reversed(refused)}.values())[::-1])
    builder.program.drop_unused()
    return DryRun(operators=_list_operators(builder.program))


def _list_rejections(graph: "Graph", rejections: Mapping[str, "OperatorRejected"]) -> list[RejectedNode]:
    ops = {node.name: node.op for node in graph.nodes}
    return [
        RejectedNode(node=name, op=ops.get(name, ""), reason=str(one), remedy=one.help)
        for name, one in rejections.items()
    ]


def _list_operators(program: "Program") -> tuple[PlannedOperator, ...]:
    numbers: dict[int, int] = {}
    planned = []
    for operator in program.operators:
        inputs = [tensor for tensor in operator.inputs if tensor is not None]
        outputs = list(operator.outputs)
        described = [*inputs, *outputs[:1]]
        for tensor in (*inputs, *outputs):
            numbers.setdefault(id(tensor), len(numbers))
        planned.append(
            PlannedOperator(
                op=operator.code,
                sources=tuple(operator.sources),
                dtypes=tuple(tensor.dtype.name for tensor in described),
                shapes=tuple(tuple(int(size) for size in tensor.shape) for tensor in described),
                constant=tuple(tensor.data is not None for tensor in described),
                reads=tuple(numbers[id(tensor)] for tensor in inputs if tensor.data is None),
                makes=tuple(numbers[id(tensor)] for tensor in outputs),
            )
        )
    return tuple(planned)


if __name__ == "__main__":
    main()
