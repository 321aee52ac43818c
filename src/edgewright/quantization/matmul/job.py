"""The quantization job of matrix products: writes both graphs and measures their fidelity."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from edgewright.quantization.checkpoint import Checkpoint
from edgewright.quantization.executor import run_model
from edgewright.quantization.job import FidelityReport, QuantizationJob, QuantizationReport, WeightNodeReport
from edgewright.quantization.matmul.stages import QuantizedTransformer, quantize_matmuls
from edgewright.quantization.network import FloatNetwork
from edgewright.quantization.probe import find_compared_outputs
from edgewright.quantization.recipe import Recipe, assign_precisions, write_recipe
from edgewright.quantization.search import estimate_flips
from edgewright.schema.arrays import Array

Feeds = Mapping[str, Array]


def run_matmul_job(
    network: FloatNetwork,
    job: QuantizationJob,
    recipe: Recipe,
    fit: Sequence[Feeds],
    check: Sequence[Feeds],
    progress: Callable[[str, int, int], None],
) -> QuantizationReport:
    """Write `model.onnx`, `model-onnxruntime.onnx` and `recipe.toml` into `out`."""
    import onnx

    done, out = 0, Path(job.out)

    def report_progress(text: str) -> None:
        nonlocal done
        done += text.startswith("rounding")
        progress("rounding weights", done, len(network.weight_nodes))

    kept = [name for name, precision in assign_precisions(network.weight_nodes, recipe).items() if precision == "fp32"]
    quantized = quantize_matmuls(
        network.graph,
        fit,
        precision=job.precision,  # type: ignore[arg-type] # the flow requests only supported ones
        rounding=recipe.rounding,
        keep=kept,
        store=Checkpoint(Path(job.memory)),
        progress=report_progress,
    )
    onnx.save(quantized.graphs["qdq"], str(out / "model.onnx"))
    onnx.save(quantized.graphs["onnxruntime"], str(out / "model-onnxruntime.onnx"))
    (out / "recipe.toml").write_text(write_recipe(recipe), encoding="utf-8")
    fidelity = _measure_fidelity(network, quantized, check)
    return _describe(network, job, quantized, kept, fidelity, (len(fit), len(check)))


def _measure_fidelity(network: FloatNetwork, quantized: QuantizedTransformer, check: Sequence[Feeds]) -> FidelityReport:
    """Compare the graph for ONNX Runtime with the source."""
    outputs = find_compared_outputs(network)
    exact = run_model(network.graph.to_message(), outputs.names, check)
    given = run_model(quantized.graphs["onnxruntime"], outputs.names, check)
    loss = outputs.compare(exact, given)
    flips = estimate_flips([one[0] for one in exact], [one[0] for one in given])
    return FidelityReport(sqnr_db=loss.sqnr_db, agreement=1 - loss.flips, expected_flips=flips)


def _describe(
    network: FloatNetwork,
    job: QuantizationJob,
    quantized: QuantizedTransformer,
    kept: Sequence[str],
    fidelity: FidelityReport,
    samples: tuple[int, int],
) -> QuantizationReport:
    found = {one.node: one for one in quantized.weight_nodes}
    sites = []
    for name, weight_node in network.weight_nodes.items():
        one = found.get(name)
        why = "set by the recipe" if name in kept else "it is not a matrix product"
        sites.append(
            WeightNodeReport(
                node=name,
                op=weight_node.op,
                precision=job.precision if one else "fp32",
                kept="" if one else why,
                sqnr_db=None,
                weights_db=None,
                input_db=None,
                agreement=None,
                output_db=one.sqnr_db if one else None,
                weight_bytes=one.bytes if one else int(np.asarray(network.constants[weight_node.weight]).nbytes),
            )
        )
    return QuantizationReport(
        precision=job.precision,
        fitted_on=samples[0],
        checked_on=samples[1],
        first=fidelity,
        final=fidelity,
        sites=tuple(sites),
        tensors=(),
        integer_operators=len(found) if job.precision in ("w8a8-dynamic", "w4a8") else 0,
        operators=len(network.nodes),
    )
