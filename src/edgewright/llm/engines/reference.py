"""The reference computation as an engine: GGUF files in numpy, in float32. It is slow, and needs no package."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgewright.llm.engines.contract import EngineRejected
from edgewright.llm.engines.wire import OpenEngine
from edgewright.llm.reference import Cache, Reference
from edgewright.llm.sampling import choose_token
from edgewright.llm.sources.gguf import read_gguf
from edgewright.schema.arrays import Array


class _ReferenceSession:
    kv = "fp32"

    def __init__(self, reference: Reference, context: int) -> None:
        self.context = context
        self._reference = reference
        self._cache = reference.open_cache(1, 0)
        self._last: Array = np.zeros(0, np.float32)
        self._waiting: int | None = None
        self._temperature, self._random = 0.0, np.random.default_rng(0)

    def logits(self, tokens: Sequence[int]) -> Array:
        return self._reference.logits(tokens)

    def start(self, tokens: Sequence[int], temperature: float, seed: int, *, reuse: bool) -> int:
        self._temperature, self._random = temperature, np.random.default_rng(seed)
        self._cache = Cache(self._reference.config, 1, self.context)
        self._last = self._reference.forward(np.asarray([tokens]), self._cache, last=True)[0, -1]
        self._waiting = None
        return 0

    def next_token(self) -> int:
        if self._waiting is not None:
            self._last = self._reference.forward(np.asarray([[self._waiting]]), self._cache)[0, -1]
        self._waiting = choose_token(self._last, self._temperature, self._random)
        return self._waiting


def version() -> str:
    """Return numpy's version."""
    return np.__version__


def open_session(request: OpenEngine, main: Path) -> _ReferenceSession:
    """Load a GGUF file. Raises EngineRejected for an option that the reference does not have."""
    if request.kv not in ("", "fp32"):
        raise EngineRejected(f"the reference computation has no KV cache in {request.kv}")
    model = read_gguf(main)
    return _ReferenceSession(Reference(model), model.config.context)
