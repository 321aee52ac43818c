"""The precision and the quantization form of a model, from its share of convolutions."""

from pathlib import Path
from typing import Literal

from edgewright.errors import UsageError
from edgewright.flows.compile.sources import PreparedSource
from edgewright.formats.costs import measure_costs
from edgewright.formats.onnx.typed import read_onnx_graph
from edgewright.quantization.job import QuantizationForm
from edgewright.quantization.recipe import NodePrecision
from edgewright.schema.vocabulary import QUANTIZED_PRECISIONS


def choose_precision(
    requested: str, prepared: PreparedSource
) -> tuple[NodePrecision | Literal["fp16"], QuantizationForm | Literal["float"], str]:
    """Return the precision, the quantization form and the reason. UsageError if the model does not support it."""
    if requested == "fp16":
        return "fp16", "float", "set by the user"
    share = _compute_convolution_share(prepared)
    form: QuantizationForm = "static" if share >= 0.5 else "products"
    work = f"{share:.0%} of its multiplications are convolutions"
    if requested == "auto":
        if form == "static":
            return "w8a8", "static", f"{work}: static INT8 suits convolutions, dynamic INT8 slows them down"
        return "w8a8-dynamic", "products", f"{work}: dynamic INT8 suits matrix products"
    if requested in ("w8a8", "w8a16"):
        return requested, "static", "set by the user"  # type: ignore[return-value] # mypy does not narrow str by `in`
    if requested in ("w8", "w4", "w4a8"):
        return requested, form, "set by the user"  # type: ignore[return-value] # as above
    if requested == "w8a8-dynamic" and form == "products":
        return "w8a8-dynamic", "products", "set by the user"
    if requested == "w8a8-dynamic":
        raise UsageError(
            f"{prepared.name} cannot be quantized to w8a8-dynamic",
            f"{work}, which run several times slower with dynamic quantization",
            "use --precision w8a8",
        )
    raise UsageError(
        f"--precision {requested} is not supported",
        f"valid precisions are {', '.join(QUANTIZED_PRECISIONS)}",
        "use --precision w8a8",
    )


def _compute_convolution_share(prepared: PreparedSource) -> float:
    """Return the convolutions' share of the multiply-accumulates, or of the operators if those are unknown."""
    costs = measure_costs(read_onnx_graph(Path(prepared.files["onnx"]), prepared.shapes))
    work = [(layer.op, layer.macs or 0) for layer in costs.layers]
    total = sum(macs for _, macs in work)
    return sum(macs for op, macs in work if op.startswith("Conv")) / total if total else 1.0
