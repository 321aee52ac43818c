"""What a runtime is: a module of plain functions.

The functions run in two places. `version`, `compile`, `open_session` and whatever a session does run inside a worker
process, the only place where the runtime's own library is imported. `layers` runs in the parent, on the files
that a session's `profile` left behind, so that it can use the source graph and be tested on stored traces.

A runtime's module must import without its library: only its functions import that.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from edgewright.runtimes.wire import Compiled, CompileRequest, SessionRequest
from edgewright.schema.model import GraphNode, Signature, TensorSpec
from edgewright.schema.run import LayerReport

Array = NDArray[Any]


class Rejected(Exception):
    """The runtime's library rejects the model or the options; the text is the library's own."""


class Mismatch(Exception):
    """The arrays to be bound do not fit the session's signature."""


class NotConvertible(Exception):
    """A compiler cannot express the model.

    Args:
        why: names the unsupported operators and the reason of each, one a line.
        hint: what would help.
    """

    def __init__(self, why: str, hint: str = "") -> None:
        super().__init__(why)
        self.hint = hint


class Session(Protocol):
    """A loaded model. All calls come from one thread.

    Attributes:
        signature: as the runtime sees the model, after `shapes` were applied.
        notes: what the user should know, such as a backend asked for and not given.
    """

    signature: Signature
    notes: Sequence[str]

    def bind(self, feeds: Mapping[str, Array]) -> None:
        """Put the inputs where the runtime reads them; Mismatch where they do not fit the signature.

        Not timed. What is bound stays bound for all following `run` calls.
        """

    def run(self) -> None:
        """One inference on the bound inputs. This call is what is timed, so it does nothing else.

        What the library raises passes through: the worker reports it as a failure of the model.
        """

    def fetch(self) -> dict[str, Array]:
        """Return the outputs of the last `run`, by name, as copies."""

    def close(self) -> None:
        """Free what the session holds."""


class Runtime(Protocol):
    """The module of one runtime."""

    def version(self) -> str:
        """Return the version of the installed library; ImportError where it is absent. Runs in the worker."""

    def compile(self, request: CompileRequest) -> Compiled:
        """Write the source as this runtime's own files; only where `RuntimeInfo.writes` is not empty.

        NotConvertible where it cannot be expressed. What the library raises otherwise is reported as the same.
        """

    def open_session(self, request: SessionRequest) -> Session:
        """Load the model, in the worker; its time is the load time. Rejected where the library rejects."""

    def profile(self, request: SessionRequest, feeds: Mapping[str, Array], runs: int, folder: Path) -> None:
        """Run the model `runs` times with per-operator timing and leave the trace as files in `folder`.

        Runs in a worker of its own, since profiling disturbs. What the files are is the runtime's own affair:
        only its `layers` reads them.
        """

    def layers(self, folder: Path, graph: Sequence[GraphNode]) -> LayerReport:
        """Turn the files of `profile` into layer rows joined to the source graph; runs in the parent."""


def check_feeds(signature: Signature, feeds: Mapping[str, Array]) -> None:
    """Raise Mismatch unless `feeds` has just the signature's inputs, in their dtypes and fixed sizes."""
    wanted = {spec.name: spec for spec in signature.inputs}
    if wanted.keys() != feeds.keys():
        raise Mismatch(f"the model's inputs are {sorted(wanted)}, but the values given are for {sorted(feeds)}")
    for name, array in feeds.items():
        _check_array(wanted[name], array)


def _check_array(spec: TensorSpec, array: Array) -> None:
    given = "str" if array.dtype.kind in "UO" else array.dtype.name
    if given != spec.dtype:
        raise Mismatch(f"input '{spec.name}' is {spec.dtype}, but the value given is {given}")
    fits = len(spec.shape) == array.ndim and all(
        isinstance(size, str) or size == length for size, length in zip(spec.shape, array.shape, strict=True)
    )
    if not fits:
        raise Mismatch(
            f"input '{spec.name}' has shape {list(spec.shape)}, but the value given has shape {list(array.shape)}"
        )
