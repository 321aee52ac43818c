"""Closed vocabularies: precisions, units, evidence, states, verdicts, and their aliases."""

from typing import Literal

Precision = Literal["fp32", "fp16", "bf16", "w8a8", "w8a8-dynamic", "w8a16", "w8", "w4", "w4a8", "mixed"]
# Values of `quantize --precision`.
QUANTIZED_PRECISIONS = ("fp16", "w8a8", "w8a8-dynamic", "w8a16", "w8", "w4", "w4a8", "auto")
ImportanceCriterion = Literal["l1", "l2", "bn-gamma", "taylor", "latency"]
GRADIENT_CRITERIA: tuple[ImportanceCriterion, ...] = ("taylor",)  # those that require training data
TransferLoss = Literal["none", "features", "attention"]
AdapterMethod = Literal["lora", "head", "bias", "full"]
Unit = Literal["CPU", "GPU", "NPU", "UNKNOWN"]
Evidence = Literal["measured", "assigned", "requested", "none"]
Verdict = Literal["faster", "slower", "no difference", "inconclusive"]
RunState = Literal["queued", "running", "done", "failed", "cancelled"]

RUNTIME_ALIASES = {"ort": "onnxruntime", "onnx": "onnxruntime", "tflite": "litert"}
FORMER_OPTIONS = {"teach": "distill"}  # options and keywords with these names are still read
PRECISION_ALIASES = {"int8": "w8a8", "dynamic": "w8a8-dynamic"}


def normalize_word(word: str) -> str:
    """Return an option or value in lower case, with `-` for `_`."""
    return word.strip().lower().replace("_", "-")


def normalize_runtime_name(word: str) -> str:
    """Return the runtime for a name or alias: `tflite` and `TFLite` are `litert`."""
    word = normalize_word(word)
    return RUNTIME_ALIASES.get(word, word)


# Of an application, from an encoded sample to its result.
PHASES = ("decode", "convert", "copy-in", "inference", "copy-out", "post-processing")
