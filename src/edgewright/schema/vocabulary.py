"""The closed vocabularies: precisions, units, evidence, states, verdicts, and the aliases people type."""

from typing import Literal

Precision = Literal["fp32", "fp16", "bf16", "w8a8", "w8a8-dynamic", "w8a16", "w8", "w4", "w4a8", "mixed"]
# What `quantize` can be asked for.
QUANTIZED_PRECISIONS = ("fp16", "w8a8", "w8a8-dynamic", "w8a16", "w8", "w4", "w4a8", "auto")
Unit = Literal["CPU", "GPU", "NPU", "UNKNOWN"]
Evidence = Literal["measured", "assigned", "requested", "none"]
Verdict = Literal["faster", "slower", "no difference", "inconclusive"]
RunState = Literal["queued", "running", "done", "failed", "cancelled"]

RUNTIME_ALIASES = {"ort": "onnxruntime", "onnx": "onnxruntime", "tflite": "litert"}
PRECISION_ALIASES = {"int8": "w8a8", "dynamic": "w8a8-dynamic"}


def normalize_word(word: str) -> str:
    """Lower case, with `-` for `_`: how options and their values are compared."""
    return word.strip().lower().replace("_", "-")


def normalize_runtime_name(word: str) -> str:
    """The runtime that a user means: `tflite` and `TFLite` are `litert`."""
    word = normalize_word(word)
    return RUNTIME_ALIASES.get(word, word)
