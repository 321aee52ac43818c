"""A typed graph from an ONNX file, read in a process of its own.

onnx's shape inference is C++ and may crash, hang or take all memory on a hostile file: the caller only waits for it.
"""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from edgewright import errors
from edgewright.errors import ModelError, ModelUnreadable
from edgewright.formats.typed_graph import TypedGraph

TIMEOUT_S = 120.0


class Trouble(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="trouble"):
    """An error of the reading process, by the name of its class in `edgewright.errors`."""

    kind: str
    what: str
    why: str
    try_this: str


class Found(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="found"):
    """The graph."""

    graph: TypedGraph


def read_onnx_graph(
    path: Path, shapes: Mapping[str, Sequence[int]] | None = None, *, timeout_s: float = TIMEOUT_S
) -> TypedGraph:
    """The operators of an ONNX file with the shape and type of every value.

    Args:
        path: the model. Weights of over 4 kB are not read, wherever they lie.
        shapes: sizes of inputs. Of an input that is not named, a leading free size is taken as 1, and others stay free.
        timeout_s: the longest time that reading may take.

    Raises:
        ModelUnreadable: it is damaged, cyclic, or crashes onnx's shape inference.
        ExternalDataMissing: weights lie in a file that is absent, or outside of the model's folder.
        InputError: `shapes` names no input, or does not fit one.
    """
    command = [sys.executable, "-P", "-m", "edgewright.formats.onnx_typing", str(path.absolute())]
    request = msgspec.json.encode({name: list(sizes) for name, sizes in (shapes or {}).items()})
    try:
        done = subprocess.run(command, input=request, capture_output=True, timeout=timeout_s, check=False)  # noqa: S603 - our own module
    except subprocess.TimeoutExpired:
        why = f"finding out its shapes takes more than {timeout_s:g} seconds"
        raise ModelUnreadable(f"{path} cannot be analysed", why, "fix its input shapes, or simplify it") from None
    return take_answer(path, done)


def take_answer(path: Path, done: "subprocess.CompletedProcess[bytes]") -> TypedGraph:
    try:
        answer = msgspec.json.decode(done.stdout, type=Found | Trouble)
    except msgspec.MsgspecError:
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        words = done.stderr.decode(errors="replace").strip().splitlines()
        why = f"the process that reads it ended with {how}" + (f": {words[-1][:300]}" if words else "")
        raise ModelUnreadable(f"{path} cannot be analysed", why, "check it with onnx.checker") from None
    if isinstance(answer, Trouble):
        raise as_error(answer)
    return answer.graph


def as_error(trouble: Trouble) -> errors.EdgewrightError:
    kind = getattr(errors, trouble.kind, ModelError)
    error: errors.EdgewrightError = kind(trouble.what, trouble.why, trouble.try_this)
    return error
