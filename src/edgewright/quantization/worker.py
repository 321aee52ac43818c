"""`python -m edgewright.quantization.worker JOB.json`: quantize one model and report progress as JSON lines.

It is a separate process, so that it can be stopped at any moment and its memory is freed; stdout has only the
messages of `job.py`.
"""

import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgewright.errors import EdgewrightError, InputError, ModelNotConvertible, find_full_disk_error
from edgewright.formats.onnx.attributes import iterate_subgraphs, read_opset
from edgewright.formats.onnx.editable import EditableGraph
from edgewright.formats.onnx.fold import SMALL
from edgewright.formats.onnx.normalize.weights import fold
from edgewright.formats.onnx.prepare import remove_exporter_metadata
from edgewright.quantization.checkpoint import Checkpoint
from edgewright.quantization.job import (
    BINS,
    FidelityReport,
    FloatOperator,
    JobError,
    JobFinished,
    JobMessage,
    QuantizationJob,
    QuantizationReport,
    StageProgress,
    TensorReport,
    WeightNodeReport,
)
from edgewright.quantization.matmul.job import run_matmul_job
from edgewright.quantization.network import FloatNetwork
from edgewright.quantization.observe import NotFinite, TensorValues
from edgewright.quantization.recipe import Recipe, parse_recipe, write_recipe
from edgewright.quantization.search import Fidelity, FidelityTarget
from edgewright.quantization.static.equalize import equalize
from edgewright.quantization.static.stages import SENSITIVITY_SAMPLES, QuantizedNetwork, StaticQuantizer
from edgewright.quantization.static.write import FOUR_BIT_OPSET, protect_float_layers
from edgewright.system.parent import die_with_parent

PAIRS_OPSET = 13  # the first in which pairs have an axis


def main(path: str) -> None:
    die_with_parent()
    channel = os.dup(1)
    os.dup2(2, 1)  # what libraries print must not stand between the words

    def send(word: JobMessage) -> None:
        os.write(channel, msgspec.json.encode(word) + b"\n")

    job = msgspec.json.decode(Path(path).read_bytes(), type=QuantizationJob)
    try:
        run(job, send)
    except NotFinite as error:
        what = f"the model computes NaN or infinities in '{error.tensor}'"
        send(
            _make_job_error(
                InputError(what, f"on calibration sample {error.sample}", "check the data and the task's mean and std")
            )
        )
    except Exception as error:
        reported = find_full_disk_error(error) or error
        if not isinstance(reported, EdgewrightError):
            raise
        send(_make_job_error(reported))
    else:
        send(JobFinished())


def _make_job_error(error: EdgewrightError) -> JobError:
    return JobError(kind=type(error).__name__, what=error.what, why=error.why, try_this=error.try_this)


def run(job: QuantizationJob, send: Any) -> None:
    import onnx

    recipe = parse_recipe(job.recipe, "the recipe")
    graph = EditableGraph.open(Path(job.model))
    remove_exporter_metadata(graph.model)
    graph = ensure_opset(graph, FOUR_BIT_OPSET if recipe.precision == "w8a16" else PAIRS_OPSET)
    fold(graph)
    network = FloatNetwork(graph)
    if inner := [node.name for node in network.nodes if any(iterate_subgraphs(node))]:
        raise ModelNotConvertible(
            f"'{inner[0]}' contains a subgraph",
            "branches and loops cannot be quantized",
            "export the model without them",
        )
    if not network.weight_nodes:
        raise ModelNotConvertible(
            "there is nothing to quantize",
            "no Conv, Gemm or MatMul has constant float32 weights",
            "use another model",
        )
    fit, check = _load(job.fit), _load(job.check)
    if recipe.equalize and job.form == "static":
        network = _equalize_network(network, fit[:SENSITIVITY_SAMPLES])
    progress = lambda stage, done, of: send(StageProgress(stage=stage, done=done, of=of))  # noqa: E731 - one word for one line
    out = Path(job.out)
    if job.form == "products":
        report = run_matmul_job(network, job, recipe, fit, check, progress)
        (out / "report.json").write_bytes(msgspec.json.encode(report))
        return
    quantizer = StaticQuantizer(network, fit, check, Checkpoint(Path(job.memory)), progress, report=job.report)
    outcome = quantizer.quantize(recipe, FidelityTarget(job.aim_db, job.aim_flips), job.leave_out)
    onnx.save(outcome.model, str(out / "model.onnx"))
    if (guarded := protect_float_layers(outcome.model)) is not None:
        onnx.save(guarded, str(out / "model-onnxruntime.onnx"))
    (out / "recipe.toml").write_text(write_recipe(outcome.recipe), encoding="utf-8")
    report = _describe(network, recipe, outcome, len(fit), len(check))
    (out / "report.json").write_bytes(msgspec.json.encode(report))


def _equalize_network(network: FloatNetwork, samples: list[dict[str, Any]]) -> FloatNetwork:
    """Return the network with its channels scaled, which computes the same."""
    changed = equalize(network, samples)
    network.constants.update(changed)
    return FloatNetwork(network.graph) if changed else network


def ensure_opset(graph: EditableGraph, opset: int) -> EditableGraph:
    """Return the graph in that opset or a newer one. Raises ModelNotConvertible."""
    import onnx

    have = read_opset(graph.model)
    if have >= opset:
        return graph
    try:
        return graph.replace_model(onnx.version_converter.convert_version(graph.to_message(SMALL), opset))
    except RuntimeError as error:  # the converter's C++ exceptions
        raise ModelNotConvertible(
            f"the model's opset {have} cannot be converted to {opset}",
            str(error)[:300],
            "export the model again with opset 17",
        ) from None


def _load(files: dict[str, str]) -> list[dict[str, Any]]:
    """Return the samples as feeds; the arrays stay on disk until they are read."""
    stacks = {name: np.load(path, mmap_mode="r", allow_pickle=False) for name, path in files.items()}
    count = len(next(iter(stacks.values()), ()))
    return [{name: np.ascontiguousarray(stack[place]) for name, stack in stacks.items()} for place in range(count)]


def _describe(
    network: FloatNetwork, recipe: Recipe, outcome: QuantizedNetwork, fitted: int, checked: int
) -> QuantizationReport:
    rules = {rule.nodes: rule for rule in outcome.recipe.rules if rule.precision == "fp32"}
    return QuantizationReport(
        precision=recipe.precision,
        fitted_on=fitted,
        checked_on=checked,
        first=_report_fidelity(outcome.first),
        final=_report_fidelity(outcome.fidelity),
        sites=tuple(_describe_weight_node(network, recipe, outcome, name) for name in network.weight_nodes),
        tensors=tuple(_describe_tensor(outcome, name, values) for name, values in outcome.values.items()),
        integer_operators=len(outcome.operators),
        operators=len(network.nodes),
        float_operators=tuple(
            FloatOperator(node=node.name, op=node.op_type, why=rules[node.name].why)
            for node in network.nodes
            if node.name in rules and node.name not in network.weight_nodes
        ),
    )


def _report_fidelity(one: Fidelity) -> FidelityReport:
    return FidelityReport(sqnr_db=one.loss.sqnr_db, agreement=1 - one.loss.flips, expected_flips=one.flips)


def _describe_weight_node(
    network: FloatNetwork, recipe: Recipe, outcome: QuantizedNetwork, name: str
) -> WeightNodeReport:
    weight_node, precision = network.weight_nodes[name], outcome.precisions[name]
    seen, stored = outcome.sensitivity.get(name), outcome.stored.get(name)
    weights = network.constants[weight_node.weight]
    why = next((rule.why for rule in reversed(outcome.recipe.rules) if rule.nodes == name and rule.precision), "")
    return WeightNodeReport(
        node=name,
        op=weight_node.op,
        precision=precision,
        kept="" if precision == recipe.precision else why or "set by the recipe",
        sqnr_db=seen.both.sqnr_db if seen else None,
        weights_db=seen.weights.sqnr_db if seen else None,
        input_db=seen.inputs.sqnr_db if seen else None,
        agreement=1 - seen.both.flips if seen else None,
        weight_bytes=weights.nbytes if stored is None else stored.values.size * stored.bits // 8,
    )


def _describe_tensor(outcome: QuantizedNetwork, name: str, values: TensorValues) -> TensorReport:
    one, tensor_params = outcome.ranges[name], outcome.tensor_params[name]
    outside = (values.some < one.low) | (values.some > one.high)
    reach = (values.low, values.high) if values.high > values.low else (values.low, values.low + 1.0)
    counts, _ = np.histogram(values.some, bins=BINS, range=reach)
    return TensorReport(
        name=name,
        method=one.method,
        low=one.low,
        high=one.high,
        seen_low=values.low,
        seen_high=values.high,
        clipped=float(outside.mean()) if values.some.size else 0.0,
        scale=float(tensor_params.scale),
        zero_point=int(tensor_params.zero),
        dtype=tensor_params.zero.dtype.name,
        histogram=tuple(int(count) for count in counts),
    )


if __name__ == "__main__":
    main(sys.argv[1])
