"""ONNX Runtime GenAI."""

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgewright.llm.engines.contract import EngineRejected
from edgewright.llm.engines.wire import OpenEngine
from edgewright.llm.sampling import choose_token
from edgewright.schema.arrays import Array


def version() -> str:
    """Return the library's version. Raises ImportError if it is not installed."""
    _load_library()
    return metadata.version("onnxruntime-genai")


def _load_library() -> Any:
    """Return the module with its telemetry off: the variable is set for every process, and this is its own switch."""
    import onnxruntime_genai

    onnxruntime_genai.disable_telemetry_events()
    return onnxruntime_genai


class _GenaiSession:
    """A model with one generator at a time, whose KV cache has the length of the context."""

    kv = "fp32"

    def __init__(self, request: OpenEngine, main: Path) -> None:
        self._library = _load_library()
        settings = msgspec.json.decode((main / "genai_config.json").read_bytes())
        self.context: int = settings["model"]["context_length"]
        config = self._library.Config(str(main))
        options = {"intra_op_num_threads": request.threads, "inter_op_num_threads": 1}
        config.overlay(msgspec.json.encode({"model": {"decoder": {"session_options": options}}}).decode())
        try:
            self._model = self._library.Model(config)
        except Exception as error:  # the library has no kind of its own
            raise EngineRejected(str(error)) from None
        self._tokens: list[int] = []
        self._generator: Any = None
        self._temperature, self._random = 0.0, np.random.default_rng(0)
        self._waiting: int | None = None

    def _begin(self) -> None:
        parameters = self._library.GeneratorParams(self._model)
        parameters.set_search_options(max_length=self.context, do_sample=False)
        self._generator = None  # before the next one, so that only one KV cache exists
        self._generator = self._library.Generator(self._model, parameters)
        self._tokens.clear()

    def _append(self, tokens: Sequence[int]) -> Array:
        """Return the logits after each token, float32 [tokens, vocabulary]."""
        self._generator.append_tokens(np.asarray(tokens, np.int32))
        self._tokens += tokens
        found: Array = np.asarray(self._generator.get_output("logits"), np.float32)[0]
        return found

    def logits(self, tokens: Sequence[int]) -> Array:
        self._begin()
        return np.array(self._append(tokens))

    def start(self, tokens: Sequence[int], temperature: float, seed: int, *, reuse: bool) -> int:
        self._temperature, self._random = temperature, np.random.default_rng(seed)
        kept = self._keep_common(tokens) if reuse and self._generator is not None else 0
        if not kept:
            self._begin()
        self._last = self._append(tokens[kept:])[-1]
        self._waiting = None
        return kept

    def _keep_common(self, tokens: Sequence[int]) -> int:
        most = min(len(self._tokens), len(tokens) - 1)
        kept = next((at for at in range(most) if self._tokens[at] != tokens[at]), most)
        if kept:
            self._generator.rewind_to(kept)
            del self._tokens[kept:]
        return kept

    def next_token(self) -> int:
        if self._waiting is not None:
            self._last = self._append([self._waiting])[-1]
        self._waiting = choose_token(self._last, self._temperature, self._random)
        return self._waiting


def open_session(request: OpenEngine, main: Path) -> _GenaiSession:
    """Load a folder with a model. Raises EngineRejected."""
    if request.kv not in ("", "fp32"):
        raise EngineRejected(f"the model has no KV cache in {request.kv}")
    return _GenaiSession(request, main)
