"""Causes of slow layers, each with its measured share of the time and a suggestion.

Every cause is one function that maps the profile to a finding or None; `CAUSES` is the complete set.
"""

import re
from collections.abc import Callable, Collection, Sequence

from msgspec import Struct

from edgewright.schema.run import Layer
from edgewright.schema.vocabulary import Precision

MIN_SHARE = 0.02  # of the layers' time: smaller shares are not reported
INTEGER_PRECISIONS = ("w8a8", "w8a16", "w8a8-dynamic", "mixed")

# Operator names in the traces of the runtimes: ONNX, LiteRT and XNNPACK, OpenVINO,
# MNN and ncnn.
TRANSPOSE = re.compile(r"^(transpose|permute)\b", re.I)
REFORMAT = re.compile(r"^(reorderinput|reorderoutput|reorder|packing|converttensor|subgraph-reformat)\b", re.I)
CAST = re.compile(r"^(cast|(inserted)?precisionfreecast|convert\b(?! ?\(NC, ?(F32|Q))|floattofp16)", re.I)
QUANTIZE = re.compile(
    r"^(quantizelinear|dequantizelinear|dynamicquantizelinear|quantize|dequantize|fakequantize"
    r"|floattoint8|int8tofloat|convert ?\(NC, ?(F32, ?Q|Q\w+, ?F32))",
    re.I,
)
# XNNPACK names no types in newer versions: of a quantized model it is the conversion at an input or output.
BARE_CONVERT = re.compile(r"^convert ?\(NC\)$", re.I)
COMPUTE = re.compile(r"conv(?!ert)|gemm|matmul|fully[ _]?connected|innerproduct|linear\b|lstm|gru", re.I)
QUANTIZED_KERNEL = re.compile(r"qlinear|integer|qgemm|int8|\bi8\b|\bu8\b|\bq[sucdbp]?\w*8|dynamicquantize", re.I)
FLOAT_KERNEL = re.compile(
    r"\bf(p|)(32|16)\b|^(nhwc)?(fused)?(conv|gemm|matmul)(transpose)?$|^fusedgemm$|^(lstm|gru)$", re.I
)


class SlowdownCause(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One cause.

    Attributes:
        code: one of the documented words.
        text: the observation and a suggestion.
        share: of the layers' time; None if it was not measured.
        layers: names of the layers concerned.
    """

    code: str
    text: str
    share: float | None
    layers: tuple[str, ...] = ()


class LayerProfile(Struct, frozen=True, kw_only=True):
    """Everything that the causes depend on.

    Attributes:
        partitions: connected subgraphs that one backend ran without interruption.
        features: the processor's instruction sets, by the kernel's names; None if unknown.
    """

    layers: Sequence[Layer]
    precision: Precision
    partitions: int
    machine: str
    features: Collection[str] | None

    def share(self, layers: Sequence[Layer]) -> float:
        total = sum(layer.median_us for layer in self.layers)
        return sum(layer.median_us for layer in layers) / total if total else 0.0

    def find_layers(self, pattern: re.Pattern[str]) -> list[Layer]:
        return [layer for layer in self.layers if pattern.search(layer.op)]


def explain_slowdown(profile: LayerProfile) -> tuple[SlowdownCause, ...]:
    """Return the causes that apply, by decreasing share; those with an unknown share come last."""
    found = [finding for cause in CAUSES.values() if (finding := cause(profile)) is not None]
    worth = [one for one in found if one.share is None or one.share >= MIN_SHARE]
    return tuple(sorted(worth, key=lambda one: -(one.share or 0.0)))


def _make_cause(code: str, layers: Sequence[Layer], profile: LayerProfile, text: str) -> SlowdownCause | None:
    if not layers:
        return None
    names = tuple(layer.name for layer in layers)
    return SlowdownCause(code=code, text=text, share=profile.share(layers), layers=names)


def _describe_count(layers: Sequence[Layer], word: str) -> str:
    """Return a text like `3 transposes, 2 of them without a node in the source`."""
    own = sum(not layer.source_nodes for layer in layers)
    plural = word if len(layers) == 1 else f"{word}s"
    inserted = f", {own} of them without a node in the source" if own else ""
    return f"{len(layers)} {plural}{inserted}"


def _find_transposes(profile: LayerProfile) -> SlowdownCause | None:
    layers = profile.find_layers(TRANSPOSE)
    text = (
        f"{_describe_count(layers, 'transpose')}: they move data without computing; compile with the layout that the "
        "runtime uses (LiteRT: -p io=channels-last), or move the model's own Transpose nodes out of its main path"
    )
    return _make_cause("transposes", layers, profile, text)


def _find_reformats(profile: LayerProfile) -> SlowdownCause | None:
    layers = profile.find_layers(REFORMAT)
    text = (
        f"{_describe_count(layers, 'reformat')} between the runtime's memory layouts: operators available only in a "
        "plain layout alternate with operators in a fast one; replace or fuse them, or try another runtime"
    )
    return _make_cause("reformats", layers, profile, text)


def _is_bare_convert(layer: Layer, profile: LayerProfile) -> bool:
    return profile.precision in INTEGER_PRECISIONS and BARE_CONVERT.search(layer.op) is not None


def _find_casts(profile: LayerProfile) -> SlowdownCause | None:
    layers = [layer for layer in profile.find_layers(CAST) if not _is_bare_convert(layer, profile)]
    text = (
        f"{_describe_count(layers, 'cast')}: this processor or runtime does not compute in the model's type "
        "throughout; compile with --precision fp32, or quantize"
    )
    return _make_cause("casts", layers, profile, text)


def _find_quantize_islands(profile: LayerProfile) -> SlowdownCause | None:
    layers = [layer for layer in profile.layers if QUANTIZE.search(layer.op) or _is_bare_convert(layer, profile)]
    text = (
        f"{_describe_count(layers, 'step')} between integers and floats: operators without an integer kernel are "
        "between quantized ones; keep whole blocks in float, or quantize these operators too"
    )
    return _make_cause("quantize-islands", layers, profile, text)


def _find_float_fallbacks(profile: LayerProfile) -> SlowdownCause | None:
    """Find convolutions and matrix products of a quantized model that ran in float."""
    if profile.precision not in INTEGER_PRECISIONS:
        return None
    layers = [
        layer
        for layer in profile.find_layers(COMPUTE)
        if FLOAT_KERNEL.search(layer.op) and not QUANTIZED_KERNEL.search(layer.op)
    ]
    text = (
        f"{len(layers)} convolutions or matrix products of a {profile.precision} model ran in float: their inputs "
        "have no quantization parameters, or the runtime has no integer kernel for them; quantize them per channel "
        "with 8-bit activations"
    )
    return _make_cause("float-fallbacks", layers, profile, text)


def _find_partitions(profile: LayerProfile) -> SlowdownCause | None:
    """Find multiple partitions; the share is that of the backend with less of the time."""
    backends = {layer.backend for layer in profile.layers}
    if profile.partitions < 2 or len(backends) < 2:
        return None
    main = max(backends, key=lambda name: profile.share([one for one in profile.layers if one.backend == name]))
    layers = [layer for layer in profile.layers if layer.backend != main]
    operators = ", ".join(dict.fromkeys(layer.op for layer in layers))
    text = (
        f"{profile.partitions} partitions: {main} does not support {operators}; each boundary costs a copy and a wait; "
        "edgewright analyze reports the reason for each operator"
    )
    return _make_cause("partitions", layers, profile, text)


def _find_missing_features(profile: LayerProfile) -> SlowdownCause | None:
    """Find missing instruction sets that the precision needs to be fast; one run does not show their cost."""
    if profile.features is None:
        return None
    useful = _list_useful_features(profile.precision, profile.machine)
    if not useful or useful & set(profile.features):
        return None
    text = (
        f"the processor has none of {', '.join(sorted(useful))}: {profile.precision} gains little speed without "
        "them; compare with fp32 on this device"
    )
    return SlowdownCause(code="missing-features", text=text, share=None)


def _list_useful_features(precision: Precision, machine: str) -> set[str]:
    """Return instruction sets of which any makes the precision fast on this machine; empty if none is known."""
    arm = machine.lower() in ("aarch64", "arm64")
    if precision in ("w8a8", "w8a8-dynamic"):
        return {"asimddp", "i8mm"} if arm else {"avx512_vnni", "avx_vnni", "avxvnni", "amx_int8"}
    if precision == "fp16":
        return {"asimdhp"} if arm else {"avx512_fp16", "amx_fp16"}
    return set()


CAUSES: dict[str, Callable[[LayerProfile], SlowdownCause | None]] = {
    "transposes": _find_transposes,
    "reformats": _find_reformats,
    "casts": _find_casts,
    "quantize-islands": _find_quantize_islands,
    "float-fallbacks": _find_float_fallbacks,
    "partitions": _find_partitions,
    "missing-features": _find_missing_features,
}


def compute_integer_share(layers: Sequence[Layer]) -> float | None:
    """Return the share of the convolutions and matrix products that ran in integer arithmetic, by the kernels' names.

    Returns None if the trace does not show it.
    """
    computing = [layer for layer in layers if COMPUTE.search(layer.op)]
    classified = [layer for layer in computing if QUANTIZED_KERNEL.search(layer.op) or FLOAT_KERNEL.search(layer.op)]
    if not computing or not classified:
        return None
    return sum(bool(QUANTIZED_KERNEL.search(layer.op)) for layer in computing) / len(computing)
