"""The interface of an engine: a module with `version` and `open_session`, which only its worker calls.

The import of the module must not import the engine's library: only its functions do.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from edgewright.llm.engines.wire import OpenEngine
from edgewright.schema.arrays import Array


class EngineRejected(Exception):
    """Raised if an engine's library rejects the model or an option; the text is the library's own."""


class EngineSession(Protocol):
    """A loaded language model. All calls come from one thread.

    Attributes:
        kv: precision of its KV cache.
        context: longest sequence in tokens.
    """

    kv: str
    context: int

    def logits(self, tokens: Sequence[int]) -> Array:
        """Return the logits after each token of one sequence, float32 [tokens, vocabulary]; the cache is new."""

    def start(self, tokens: Sequence[int], temperature: float, seed: int, *, reuse: bool) -> int:
        """Process a prompt, and return how many of its tokens were in the cache already."""

    def next_token(self) -> int:
        """Return the next token of the current generation."""


class Engine(Protocol):
    """An engine's module."""

    def version(self) -> str:
        """Return the library's version. Raises ImportError if it is not installed."""

    def open_session(self, request: OpenEngine, main: Path) -> EngineSession:
        """Load an artifact. Raises EngineRejected."""
