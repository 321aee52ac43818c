"""The engines as a literal table, readable without importing any of them."""

from typing import NamedTuple

from edgewright.errors import UsageError
from edgewright.schema.text import suggest
from edgewright.schema.vocabulary import normalize_word


class EngineInfo(NamedTuple):
    """Properties of an engine that are known without its import.

    Attributes:
        module: of its session.
        needs: import names of the packages without which it cannot run.
        environment: the isolated environment that it runs in; empty if the base install is enough.
        head_multiple, hidden_multiple: the sizes that it requires of a head and of the feed-forward part.
        kv: precisions of the KV cache, the default first.
    """

    name: str
    title: str
    module: str
    needs: tuple[str, ...]
    environment: str
    head_multiple: int = 1
    hidden_multiple: int = 1
    kv: tuple[str, ...] = ("fp32",)


ENGINES: dict[str, EngineInfo] = {
    "reference": EngineInfo(
        name="reference",
        title="Edgewright's reference computation (numpy)",
        module="edgewright.llm.engines.reference",
        needs=(),
        environment="",
        hidden_multiple=32,
    ),
    "onnxruntime-genai": EngineInfo(
        name="onnxruntime-genai",
        title="ONNX Runtime GenAI",
        module="edgewright.llm.engines.onnxruntime_genai",
        needs=("onnxruntime_genai", "onnxruntime"),
        environment="onnxruntime-genai",
        head_multiple=16,
        hidden_multiple=32,
    ),
    "llamacpp": EngineInfo(
        name="llamacpp",
        title="llama.cpp",
        module="edgewright.llm.engines.llamacpp",
        needs=("xllamacpp", "llama_cpp_py_sync", "cffi"),
        environment="llamacpp",
        head_multiple=32,
        hidden_multiple=32,
        kv=("fp16", "fp32", "kv8", "kv4"),
    ),
    "litert-lm": EngineInfo(
        name="litert-lm",
        title="LiteRT-LM",
        module="edgewright.llm.engines.litert_lm",
        needs=("litert_lm",),
        environment="litert-lm",
    ),
}


def find_engine(word: str) -> EngineInfo:
    """Return the engine with the name `word`. Raises UsageError with the known ones."""
    name = normalize_word(word)
    if name in ENGINES:
        return ENGINES[name]
    raise UsageError(
        f"unknown engine '{word}'{suggest(name, ENGINES)}",
        f"known: {', '.join(ENGINES)}",
        "edgewright llm compile MODEL --runtime llamacpp",
    )
