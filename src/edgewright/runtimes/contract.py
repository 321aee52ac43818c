"""What a runtime is: a module of plain functions.

The functions run in two places. `version`, `open_session` and whatever a session does run inside a worker
process, the only place where the runtime's own library is imported. `layers` runs in the parent, on the files
that a session's `profile` left behind, so that it can use the source graph and be tested on stored traces.

A runtime's module must import without its library: only its functions import that.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct
from numpy.typing import NDArray

from edgewright.facts.model import GraphNode, Signature
from edgewright.facts.run import LayerReport

Array = NDArray[Any]


class Rejected(Exception):
    """The runtime's library refuses the model or the options; the text is the library's own."""


class SessionRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `open_session` is asked for.

    Attributes:
        model: path of the model file on the machine of the worker.
        threads: threads for one inference.
        options: the runtime's own options, already known to be among `RuntimeInfo.options`.
        shapes: sizes for the inputs whose shape is free.
    """

    model: str
    threads: int = 1
    options: dict[str, str] = {}
    shapes: dict[str, tuple[int, ...]] = {}


class Session(Protocol):
    """A loaded model. All calls come from one thread.

    Attributes:
        signature: as the runtime sees the model, after `shapes` were applied.
        notes: what the user should know, such as a backend asked for and not given.
    """

    signature: Signature
    notes: Sequence[str]

    def bind(self, feeds: Mapping[str, Array]) -> None:
        """Put the inputs where the runtime reads them; arrays have the signature's names, dtypes and shapes.

        Not timed. What is bound stays bound for all following `run` calls.
        """

    def run(self) -> None:
        """One inference on the bound inputs. This call is what is timed, so it does nothing else."""

    def fetch(self) -> dict[str, Array]:
        """The outputs of the last `run`, by name, as copies."""

    def close(self) -> None:
        """Free what the session holds."""


class Runtime(Protocol):
    """The module of one runtime."""

    def version(self) -> str:
        """The version of the installed library; ImportError where it is absent. Runs in the worker."""

    def open_session(self, request: SessionRequest) -> Session:
        """Load the model; raises Rejected where the library refuses. Runs in the worker; its time is the load time."""

    def profile(self, request: SessionRequest, feeds: Mapping[str, Array], runs: int, folder: Path) -> None:
        """Run the model `runs` times with per-operator timing and leave the trace as files in `folder`.

        Runs in a worker of its own, since profiling disturbs. What the files are is the runtime's own affair:
        only its `layers` reads them.
        """

    def layers(self, folder: Path, graph: Sequence[GraphNode]) -> LayerReport:
        """Turn the files of `profile` into layer rows, joined to the nodes of the source graph. Runs in the parent."""
