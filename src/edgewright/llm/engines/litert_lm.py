"""LiteRT-LM. Its library is set up and checked; Edgewright does not write its files, so no artifact can be opened."""

from importlib import import_module, metadata
from pathlib import Path

from edgewright.llm.engines.contract import EngineRejected, EngineSession
from edgewright.llm.engines.wire import OpenEngine


def version() -> str:
    """Return the library's version. Raises ImportError if it is not installed."""
    import_module("litert_lm")
    return metadata.version("litert-lm-api")


def open_session(request: OpenEngine, main: Path) -> EngineSession:
    """Raise EngineRejected."""
    raise EngineRejected(f"{main.name} cannot be opened: Edgewright does not read LiteRT-LM's files")
