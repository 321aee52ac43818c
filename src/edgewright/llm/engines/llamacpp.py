"""llama.cpp through its C interface: the library in `xllamacpp`, called with the declarations of `llama-cpp-py-sync`.

Both are pinned to builds whose structures agree. The declarations' own library is never loaded.
"""

import sys
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np

from edgewright.llm.engines.contract import EngineRejected
from edgewright.llm.engines.wire import OpenEngine
from edgewright.llm.sampling import choose_token
from edgewright.schema.arrays import Array

# ggml's numbers of the types of the KV cache.
KV_TYPES = {"fp32": 0, "fp16": 1, "kv8": 8, "kv4": 3}
DEFAULT_KV = "fp16"
FLASH_OFF, FLASH_ON = 0, 1
MOST_BATCH = 512
ERROR_LEVEL = 4


def version() -> str:
    """Return the version of xllamacpp. Raises ImportError if one of the packages is missing."""
    _load_library()
    return metadata.version("xllamacpp")


@cache
def _load_library() -> tuple[Any, Any, Any]:
    """Return cffi's interface, the library, and the callback of its log, which must stay alive."""
    folder, bindings = _find_folder("xllamacpp"), _find_folder("llama_cpp_py_sync") / "_cffi_bindings.py"
    spec = spec_from_file_location("edgewright_llama_declarations", bindings)
    if spec is None or spec.loader is None:
        raise ImportError(f"{bindings} cannot be loaded")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    ffi = module.get_ffi()
    path = next((one for one in sorted(folder.glob("xllamacpp*")) if one.suffix in (".so", ".pyd", ".dylib")), None)
    if path is None:
        raise ImportError(f"{folder} has no library")
    library = ffi.dlopen(str(path))

    def log(level: int, text: Any, data: Any) -> None:
        if level == ERROR_LEVEL:
            sys.stderr.write(ffi.string(text).decode(errors="replace"))
            sys.stderr.flush()

    callback = ffi.callback("void(enum ggml_log_level, const char*, void*)", log)
    library.llama_log_set(callback, ffi.NULL)
    library.llama_backend_init()
    return ffi, library, callback


def _find_folder(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(f"No module named '{package}'")
    return Path(next(iter(spec.submodule_search_locations)))


class _LlamaSession:
    """A model and its context. Tokens are processed in pieces of `MOST_BATCH`."""

    def __init__(self, request: OpenEngine, main: Path) -> None:
        self.kv = request.kv or DEFAULT_KV
        if self.kv not in KV_TYPES:
            raise EngineRejected(f"llama.cpp has no KV cache in {self.kv}")
        self._ffi, self._library, _ = _load_library()
        parameters = self._library.llama_model_default_params()
        parameters.n_gpu_layers = 0
        self._model = self._library.llama_model_load_from_file(str(main).encode(), parameters)
        if self._model == self._ffi.NULL:
            raise EngineRejected(f"{main.name} cannot be loaded")
        vocabulary = self._library.llama_model_get_vocab(self._model)
        self._vocabulary = self._library.llama_vocab_n_tokens(vocabulary)
        self.context = self._library.llama_model_n_ctx_train(self._model)
        self._context = self._open_context(request.threads)
        self._tokens: list[int] = []
        self._waiting: int | None = None
        self._last: Array = np.zeros(0, np.float32)
        self._temperature, self._random = 0.0, np.random.default_rng(0)

    def _open_context(self, threads: int) -> Any:
        parameters = self._library.llama_context_default_params()
        parameters.n_ctx = self.context
        parameters.n_batch = parameters.n_ubatch = min(MOST_BATCH, self.context)
        parameters.n_threads = parameters.n_threads_batch = threads
        parameters.type_k = parameters.type_v = KV_TYPES[self.kv]
        parameters.flash_attn_type = FLASH_OFF if self.kv == "fp32" else FLASH_ON  # which rounds to float16
        context = self._library.llama_init_from_model(self._model, parameters)
        if context == self._ffi.NULL:
            raise EngineRejected(f"there is no context of {self.context} tokens with a KV cache in {self.kv}")
        return context

    def logits(self, tokens: Sequence[int]) -> Array:
        self._clear()
        return self._process(tokens, every=True)

    def start(self, tokens: Sequence[int], temperature: float, seed: int, *, reuse: bool) -> int:
        self._temperature, self._random = temperature, np.random.default_rng(seed)
        kept = self._keep_common(tokens) if reuse else self._clear()
        self._last = self._process(tokens[kept:], every=False)[-1]
        return kept

    def next_token(self) -> int:
        if self._waiting is not None:
            self._last = self._process([self._waiting], every=False)[-1]
        self._waiting = choose_token(self._last, self._temperature, self._random)
        return self._waiting

    def _clear(self) -> int:
        self._library.llama_memory_clear(self._library.llama_get_memory(self._context), True)
        self._tokens.clear()
        self._waiting = None
        return 0

    def _keep_common(self, tokens: Sequence[int]) -> int:
        """Keep what the cache has of a prompt, without its last token, and return the number of tokens kept."""
        most = min(len(self._tokens), len(tokens) - 1)
        kept = next((at for at in range(most) if self._tokens[at] != tokens[at]), most)
        memory = self._library.llama_get_memory(self._context)
        if not self._library.llama_memory_seq_rm(memory, 0, kept, -1):
            return self._clear()
        del self._tokens[kept:]
        self._waiting = None
        return kept

    def _process(self, tokens: Sequence[int], *, every: bool) -> Array:
        """Return the logits after each token, or after the last of each piece, float32 [rows, vocabulary]."""
        self._waiting = None
        return np.concatenate(
            [self._process_piece(tokens[at : at + MOST_BATCH], every=every) for at in range(0, len(tokens), MOST_BATCH)]
        )

    def _process_piece(self, tokens: Sequence[int], *, every: bool) -> Array:
        ffi, library = self._ffi, self._library
        batch = library.llama_batch_init(len(tokens), 0, 1)
        try:
            batch.n_tokens = len(tokens)
            for at, token in enumerate(tokens):
                batch.token[at], batch.pos[at] = int(token), len(self._tokens) + at
                batch.n_seq_id[at], batch.seq_id[at][0] = 1, 0
                batch.logits[at] = every or at == len(tokens) - 1
            if code := library.llama_decode(self._context, batch):
                raise EngineRejected(f"llama_decode returned {code}")
        finally:
            library.llama_batch_free(batch)
        self._tokens += tokens
        rows = range(len(tokens)) if every else [len(tokens) - 1]
        size = 4 * self._vocabulary
        found = [ffi.buffer(library.llama_get_logits_ith(self._context, row), size) for row in rows]
        return np.stack([np.frombuffer(one, np.float32) for one in found])


def open_session(request: OpenEngine, main: Path) -> _LlamaSession:
    """Load a GGUF file. Raises EngineRejected."""
    return _LlamaSession(request, main)
