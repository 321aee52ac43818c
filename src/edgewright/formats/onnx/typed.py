"""Reading of a typed graph from an ONNX file in a separate process.

onnx's shape inference is C++ and may crash, hang or take all memory on a hostile file, so the caller only waits for it.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path

import msgspec
from msgspec import Struct

from edgewright import errors
from edgewright.errors import ModelError, ModelUnreadable
from edgewright.formats.typed_graph import TypedGraph
from edgewright.limits import ResourceBudget, read_budget
from edgewright.system.memory_limit import is_allocation_failure, supports_limit


class GraphReadError(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="trouble"):
    """An error of the reading process, with the name of its class in `edgewright.errors`."""

    kind: str
    what: str
    why: str
    try_this: str


class GraphRead(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="found"):
    """The graph."""

    graph: TypedGraph


def read_onnx_graph(
    path: Path, shapes: Mapping[str, Sequence[int]] | None = None, budget: ResourceBudget | None = None
) -> TypedGraph:
    """Return the operators of an ONNX file with the shape and type of every value.

    Args:
        path: the model. Weights of over 4 kB are not read.
        shapes: sizes of inputs. For other inputs, a leading dynamic size is taken as 1, and others stay dynamic.
        budget: the memory and time for reading; by default from the environment, with more time for larger
            files.

    Raises:
        ModelUnreadable: it is damaged, cyclic, or crashes onnx's shape inference.
        ExternalDataMissing: weights are in a file that is absent, or outside of the model's folder.
        InputError: `shapes` has a name that is no input, or does not fit one.
        LimitReached: the budget does not suffice.
    """
    budget = budget or read_budget().for_files(measure_file(path))
    command = [sys.executable, "-P", "-m", "edgewright.formats.onnx.typing_process", str(path.absolute())]
    request = msgspec.json.encode({name: list(sizes) for name, sizes in (shapes or {}).items()})
    environment = {**os.environ, **budget.environment()}
    timeout = budget.left_seconds if isfinite(budget.seconds) else None
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            command, input=request, capture_output=True, timeout=timeout, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        raise budget.time_error(f"inferring the shapes of {path.name}") from None
    return _decode_answer(path, done, budget)


def measure_file(path: Path) -> int:
    """Return the bytes of a file; 0 if it cannot be inspected."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _decode_answer(path: Path, done: "subprocess.CompletedProcess[bytes]", budget: ResourceBudget) -> TypedGraph:
    try:
        answer = msgspec.json.decode(done.stdout, type=GraphRead | GraphReadError)
    except msgspec.MsgspecError:
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        if supports_limit() and is_allocation_failure("\n".join(lines)):
            raise budget.memory_error(f"reading {path.name}") from None
        why = f"the process that reads it ended with {how}" + (f": {lines[-1][:300]}" if lines else "")
        raise ModelUnreadable(f"{path} cannot be analyzed", why, "check it with onnx.checker") from None
    if isinstance(answer, GraphReadError):
        raise _as_error(answer)
    return answer.graph


def _as_error(failure: GraphReadError) -> errors.EdgewrightError:
    kind = getattr(errors, failure.kind, ModelError)
    error: errors.EdgewrightError = kind(failure.what, failure.why, failure.try_this)
    return error
