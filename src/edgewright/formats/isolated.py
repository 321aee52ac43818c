"""Reading of untrusted files in a process of its own, under limits of memory and time.

Native code that reads a hostile file may crash, hang or take all memory, so the caller only waits for it. The answer is
one line of JSON.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from edgewright import errors
from edgewright.errors import EdgewrightError, ModelError, ModelUnreadable
from edgewright.limits import ResourceBudget, read_budget
from edgewright.system.memory_limit import SPARE_BYTES, is_allocation_failure, limit_this_process, supports_limit
from edgewright.system.parent import die_with_parent

T = TypeVar("T")


class IsolatedError(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An error of the process, with the name of its class in `edgewright.errors`."""

    kind: str
    what: str
    why: str
    try_this: str


class IsolatedAnswer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The result, or the error."""

    result: msgspec.Raw = msgspec.Raw(b"null")
    error: IsolatedError | None = None


def ask_isolated(module: str, path: Path, request: object, answer: type[T], budget: ResourceBudget) -> T:
    """Return what `answer_isolated` returns in a process of the module.

    Args:
        module: one that calls `answer_isolated` when it is run.
        path: the file to be read.
        request: data that JSON can express.
        answer: the type of the result.

    Raises:
        LimitReached: it exceeds the budget.
        ModelUnreadable: it crashes. Also any error that it raises itself.
    """
    command = [sys.executable, "-P", "-m", module, str(path.absolute())]
    environment = {**os.environ, **budget.environment()}
    timeout = budget.left_seconds if isfinite(budget.seconds) else None
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            command, input=msgspec.json.encode(request), capture_output=True, timeout=timeout, env=environment,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise budget.time_error(f"reading {path.name}") from None
    try:
        found = msgspec.json.decode(done.stdout, type=IsolatedAnswer)
        if found.error is None:
            return msgspec.json.decode(found.result, type=answer)
    except msgspec.MsgspecError:
        raise _explain_end(path, done, budget) from None
    kind: type[EdgewrightError] = getattr(errors, found.error.kind, ModelError)
    raise kind(found.error.what, found.error.why, found.error.try_this)


def _explain_end(path: Path, done: "subprocess.CompletedProcess[bytes]", budget: ResourceBudget) -> EdgewrightError:
    """Return the error for a process that ended without an answer."""
    how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    if supports_limit() and is_allocation_failure("\n".join(lines)):
        return budget.memory_error(f"reading {path.name}")
    why = f"the process that reads it ended with {how}" + (f": {lines[-1][:300]}" if lines else "")
    return ModelUnreadable(f"{path} cannot be analyzed", why, "check it with onnx.checker")


def answer_isolated(request: type[T], read: Callable[[Path, T, ResourceBudget], object], *, copies: int = 0) -> None:
    """Answer with what `read` returns for the path and the request of this process.

    `copies` of the file are allowed in addition to the memory budget.
    """
    channel = os.dup(1)
    os.dup2(2, 1)  # output of native code must not reach the answer
    path = Path(sys.argv[1])
    given = msgspec.json.decode(sys.stdin.buffer.read(), type=request)
    budget = read_budget()
    die_with_parent()
    size = path.stat().st_size if copies and path.is_file() else 0
    limit_this_process(SPARE_BYTES + budget.memory_bytes + copies * size)
    try:
        answer = IsolatedAnswer(result=msgspec.Raw(msgspec.json.encode(read(path, given, budget))))
    except EdgewrightError as error:
        answer = IsolatedAnswer(error=_describe(error))
    except MemoryError:
        answer = IsolatedAnswer(error=_describe(budget.memory_error(f"reading {path.name}")))
    with os.fdopen(channel, "wb") as out:
        out.write(msgspec.json.encode(answer))


def _describe(error: EdgewrightError) -> IsolatedError:
    return IsolatedError(kind=type(error).__name__, what=error.what, why=error.why, try_this=error.try_this)
