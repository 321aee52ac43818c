"""Quantization of a model's weights, layer by layer, on texts that the model writes itself."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from edgewright.llm.model import MATRICES, DecoderModel
from edgewright.llm.reference import Reference
from edgewright.llm.sampling import sample_texts
from edgewright.llm.weights.gptq import quantize_gptq, round_4bit
from edgewright.llm.weights.packed import GROUP, Packed, PackedWeights, round_8bit
from edgewright.schema.arrays import Array

# Matrices by the first of those that have the same input, which is the one that the reference names.
SHARED_INPUTS = {"q": ("q", "k", "v"), "o": ("o",), "gate": ("gate", "up"), "down": ("down",)}
MOST_TOKENS = 256
Report = Callable[[str], None]


class Calibration(NamedTuple):
    """Texts that a model writes itself: their number, their tokens, and the seed."""

    texts: int = 32
    tokens: int = MOST_TOKENS
    seed: int = 7


class QuantizedModel(NamedTuple):
    """A model, and those of its weights that are quantized. `model.weights` are the quantized values."""

    model: DecoderModel
    packed: Mapping[str, Packed]


def _can_pack(matrix: Array) -> bool:
    """Return whether a matrix consists of whole groups."""
    return matrix.ndim == 2 and matrix.shape[1] % GROUP == 0


def quantize_8bit(model: DecoderModel) -> QuantizedModel:
    """Return the model with all matrices at 8 bits, rounded to the nearest; those without whole groups stay."""
    names = [name for name in model.weights if model.weights[name].ndim == 2]
    packed = {name: round_8bit(model.weights[name]) for name in names if _can_pack(model.weights[name])}
    return _make_model(model, packed)


def quantize_4bit(
    model: DecoderModel, calibration: Calibration | None, report: Report, *, integer: bool = False
) -> QuantizedModel:
    """Return the model with the layers' matrices at 4 bits, and the embedding and the head at 8.

    Args:
        calibration: texts for GPTQ; None to round to the nearest.
        report: called with what is being done.
        integer: whether zero points must be integers.
    """
    tops = {name: model.weights[name] for name in ("embedding", "head") if name in model.weights}
    packed = {name: round_8bit(matrix) for name, matrix in tops.items() if _can_pack(matrix)}
    if calibration is None:
        for layer in range(model.config.layers):
            report(f"rounding layer {layer + 1} of {model.config.layers}")
            names = [f"layers.{layer}.{kind}" for kind in MATRICES]
            packed |= {
                name: round_4bit(model.weights[name], integer=integer)
                for name in names
                if _can_pack(model.weights[name])
            }
        return _make_model(model, packed)
    return _make_model(model, packed | _calibrate(model, calibration, report, integer=integer))


def _make_model(model: DecoderModel, packed: Mapping[str, Packed]) -> QuantizedModel:
    return QuantizedModel(model._replace(weights=PackedWeights(model.weights, packed)), packed)


def _calibrate(model: DecoderModel, calibration: Calibration, report: Report, *, integer: bool) -> dict[str, Packed]:
    """Return the layers' matrices at 4 bits. Each layer gets the outputs of the quantized ones before it."""
    tokens = min(calibration.tokens, model.config.context)
    report("writing calibration texts")
    texts = sample_texts(Reference(model), calibration.texts, tokens - 1, calibration.seed)
    packed: dict[str, Packed] = {}

    def quantize(first: str, inputs: Array) -> None:
        """Replace the matrices that these inputs are about to be multiplied with."""
        moments = inputs.T @ inputs / len(inputs)
        layer, _, kind = first.rpartition(".")
        for name in (f"{layer}.{kind}" for kind in SHARED_INPUTS[kind]):
            if _can_pack(matrix := model.weights[name]):
                packed[name] = quantize_gptq(matrix, moments, integer=integer)

    quantized = model._replace(weights=PackedWeights(model.weights, packed))
    reference = Reference(quantized, watch=quantize, keep=False)
    cache = reference.open_cache(*texts.shape)
    hidden = reference.embed(texts)
    for layer in range(model.config.layers):
        report(f"quantizing layer {layer + 1} of {model.config.layers}")
        hidden = reference.run_layer(layer, hidden, cache)
    return packed
