"""Matrix products quantised as a job asks: both graphs written, and judged on samples that took no part."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.compress.checkpoint import Checkpoint
from edgewright.compress.job import Job, Judged, QuantizationReport, SiteReport
from edgewright.compress.matmuls import Quantized, quantize_matmuls
from edgewright.compress.network import Network
from edgewright.compress.probe import compare
from edgewright.compress.recipe import Recipe, treat, write_recipe
from edgewright.compress.search import expect_flips
from edgewright.compress.walk import run_model

Array = NDArray[Any]
Feeds = Mapping[str, Array]


def quantize_products(
    model: Any,
    network: Network,
    job: Job,
    recipe: Recipe,
    fit: Sequence[Feeds],
    check: Sequence[Feeds],
    out: Path,
    tell: Callable[[str, int, int], None],
) -> QuantizationReport:
    """Write `model.onnx`, `model-onnxruntime.onnx` and `recipe.toml` into `out`."""
    import onnx

    done = 0

    def say(text: str) -> None:
        nonlocal done
        done += text.startswith("rounding")
        tell("rounding weights", done, len(network.sites))

    kept = [name for name, precision in treat(network.sites, recipe).items() if precision == "fp32"]
    quantized = quantize_matmuls(
        model,
        fit,
        precision=job.precision,  # type: ignore[arg-type] # the flow asks for those that this road knows
        rounding=recipe.rounding,
        keep=kept,
        memory=Checkpoint(Path(job.memory)),
        tell=say,
    )
    onnx.save(quantized.graphs["qdq"], str(out / "model.onnx"))
    onnx.save(quantized.graphs["onnxruntime"], str(out / "model-onnxruntime.onnx"))
    (out / "recipe.toml").write_text(write_recipe(recipe), encoding="utf-8")
    judged = judge(model, quantized, network.outputs[0], check)
    return describe(network, job, quantized, kept, judged, fitted=len(fit), checked=len(check))


def judge(model: Any, quantized: Quantized, output: str, check: Sequence[Feeds]) -> Judged:
    """The graph for ONNX Runtime against the source."""
    exact = run_model(model, output, check)
    given = run_model(quantized.graphs["onnxruntime"], output, check)
    loss = compare(exact, given)
    return Judged(sqnr_db=loss.sqnr_db, agreement=1 - loss.flips, expected_flips=expect_flips(exact, given))


def describe(
    network: Network, job: Job, quantized: Quantized, kept: Sequence[str], judged: Judged, *, fitted: int, checked: int
) -> QuantizationReport:
    found = {one.node: one for one in quantized.sites}
    sites = []
    for name, site in network.sites.items():
        one = found.get(name)
        why = "the recipe says so" if name in kept else "it is no product of matrices"
        sites.append(
            SiteReport(
                node=name,
                op=site.op,
                precision=job.precision if one else "fp32",
                kept="" if one else why,
                sqnr_db=None,
                weights_db=None,
                input_db=None,
                agreement=None,
                output_db=one.sqnr_db if one else None,
                weight_bytes=one.bytes if one else int(np.asarray(network.constants[site.weight]).nbytes),
            )
        )
    return QuantizationReport(
        precision=job.precision,
        fitted_on=fitted,
        checked_on=checked,
        first=judged,
        final=judged,
        sites=tuple(sites),
        tensors=(),
        integer_operators=len(found) if job.precision in ("w8a8-dynamic", "w4a8") else 0,
        operators=len(network.nodes),
    )
