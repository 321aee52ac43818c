"""The interface of a runtime, which is a module of functions.

The functions run in two processes. `version`, `compile`, `open_session` and the session's methods run in a worker
process, the only one that imports the runtime's own library. `layers` runs in the parent, on the files
that `profile` wrote, so that it can use the source graph and be tested on stored traces.

The import of a runtime's module must not import its library: only its functions do.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from edgewright.runtimes.wire import Compiled, CompileRequest, SessionRequest
from edgewright.schema.arrays import Array
from edgewright.schema.model import GraphNode, Signature, TensorSpec
from edgewright.schema.run import LayerReport


class Rejected(Exception):
    """Raised if the runtime's library rejects the model or the options.

    Args:
        why: the library's own text.
        hint: a remedy.
    """

    def __init__(self, why: str, hint: str = "") -> None:
        super().__init__(why)
        self.hint = hint


class Mismatch(Exception):
    """Raised if the arrays do not fit the session's signature."""


class VaryingOutput(ValueError):
    """Raised if an output has different shapes for two inputs, so that they are not an array; the text names both."""

    hint = "one input can be used: compile --samples 1, or invoke"


class NotConvertible(Exception):
    """Raised if a compiler cannot express the model.

    Args:
        why: the unsupported operators with the reason of each, one per line.
        hint: a remedy.
    """

    def __init__(self, why: str, hint: str = "") -> None:
        super().__init__(why)
        self.hint = hint


class Session(Protocol):
    """A loaded model. All calls come from one thread.

    Attributes:
        signature: the runtime's, after `shapes` were applied.
        notes: notes for the user, such as a requested backend that is not available.
    """

    signature: Signature
    notes: Sequence[str]

    def bind(self, feeds: Mapping[str, Array]) -> None:
        """Set the inputs for all following `run` calls. Raises Mismatch if they do not fit the signature.

        It is not timed.
        """

    def run(self) -> None:
        """Run one inference on the bound inputs. This call is timed, so it does nothing else.

        Exceptions of the library are not caught: the worker reports them as failures of the model.
        """

    def fetch(self) -> dict[str, Array]:
        """Return the outputs of the last `run`, by name, as copies."""

    def close(self) -> None:
        """Free the session's resources."""


class Runtime(Protocol):
    """The module of one runtime."""

    def version(self) -> str:
        """Return the version of the installed library. Raises ImportError if it is absent. Runs in the worker."""

    def compile(self, request: CompileRequest) -> Compiled:
        """Write the source in this runtime's format; only if `RuntimeInfo.writes` is not empty.

        Raises NotConvertible if it cannot be expressed. Other exceptions of the library are reported in the same way.
        """

    def open_session(self, request: SessionRequest) -> Session:
        """Load the model in the worker; its time is the load time. Raises Rejected."""

    def profile(self, request: SessionRequest, feeds: Mapping[str, Array], runs: int, folder: Path) -> None:
        """Run the model `runs` times with per-operator timing and write the trace as files to `folder`.

        Runs in a separate worker, since profiling disturbs measurements. The files have any format:
        only the runtime's `layers` reads them.
        """

    def layers(self, folder: Path, graph: Sequence[GraphNode]) -> LayerReport:
        """Convert the files of `profile` to layer rows joined to the source graph; runs in the parent."""


def check_feeds(signature: Signature, feeds: Mapping[str, Array]) -> None:
    """Raise Mismatch unless `feeds` has exactly the signature's inputs, in their dtypes and fixed sizes."""
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
