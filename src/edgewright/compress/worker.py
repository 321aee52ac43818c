"""`python -m edgewright.compress.worker JOB.json`: quantise one model, telling how far it is, a JSON line each.

A process of its own, so that it can be stopped at any moment and takes its memory with it; stdout belongs to the
words of `job.py` alone.
"""

import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgewright.compress.checkpoint import Checkpoint
from edgewright.compress.equalize import equalize
from edgewright.compress.fold import fold_batch_norms
from edgewright.compress.job import (
    BINS,
    Finished,
    Job,
    Judged,
    QuantizationReport,
    SiteReport,
    Step,
    TensorReport,
    Trouble,
    Word,
)
from edgewright.compress.network import Network
from edgewright.compress.observe import NotFinite, Values
from edgewright.compress.products import quantize_products
from edgewright.compress.recipe import Recipe, parse_recipe, write_recipe
from edgewright.compress.search import Aim, Judgement
from edgewright.compress.static import SOME, Outcome, Static
from edgewright.compress.write import FOUR_BIT_OPSET, guard_floats
from edgewright.errors import EdgewrightError, InputError, ModelNotConvertible, full_disk
from edgewright.formats.prepare import drop_origins
from edgewright.system.parent import die_with_parent

GRAPHS = (5, 10)  # AttributeProto.GRAPH and GRAPHS
PAIRS_OPSET = 13  # the first in which pairs have an axis


def main(path: str) -> None:
    die_with_parent()
    channel = os.dup(1)
    os.dup2(2, 1)  # what libraries print must not stand between the words

    def say(word: Word) -> None:
        os.write(channel, msgspec.json.encode(word) + b"\n")

    job = msgspec.json.decode(Path(path).read_bytes(), type=Job)
    try:
        run(job, say)
    except NotFinite as error:
        what = f"the model computes NaN or infinities in '{error.tensor}'"
        say(
            trouble(
                InputError(
                    what, f"on calibration sample {error.sample}", "look at the data and at the task's mean and std"
                )
            )
        )
    except Exception as error:
        reported = full_disk(error) or error
        if not isinstance(reported, EdgewrightError):
            raise
        say(trouble(reported))
    else:
        say(Finished())


def trouble(error: EdgewrightError) -> Trouble:
    return Trouble(kind=type(error).__name__, what=error.what, why=error.why, try_this=error.try_this)


def run(job: Job, say: Any) -> None:
    import onnx

    recipe = parse_recipe(job.recipe, "the recipe")
    model = onnx.load(job.model)
    drop_origins(model)
    model = at_least(model, FOUR_BIT_OPSET if recipe.precision == "w8a16" else PAIRS_OPSET)
    fold_batch_norms(model)
    network = Network(model)
    if inner := [node.name for node in network.nodes if any(one.type in GRAPHS for one in node.attribute)]:
        raise ModelNotConvertible(
            f"'{inner[0]}' runs a graph of its own",
            "branches and loops are not quantised",
            "export the model without them",
        )
    if not network.sites:
        raise ModelNotConvertible(
            "there is nothing to quantise",
            "no Conv, Gemm or MatMul has constant float32 weights",
            "quantise another model",
        )
    fit, check = load(job.fit), load(job.check)
    if recipe.equalize and job.form == "static":
        network = equalized(model, network, fit[:SOME])
    tell = lambda stage, done, of: say(Step(stage=stage, done=done, of=of))  # noqa: E731 - one word for one line
    out = Path(job.out)
    if job.form == "products":
        report = quantize_products(model, network, job, recipe, fit, check, out, tell)
        (out / "report.json").write_bytes(msgspec.json.encode(report))
        return
    road = Static(network, fit, check, Checkpoint(Path(job.memory)), tell)
    outcome = road.quantize(recipe, Aim(job.aim_db, job.aim_flips))
    onnx.save(outcome.model, str(out / "model.onnx"))
    if (guarded := guard_floats(outcome.model)) is not None:
        onnx.save(guarded, str(out / "model-onnxruntime.onnx"))
    (out / "recipe.toml").write_text(write_recipe(outcome.recipe), encoding="utf-8")
    report = describe(network, recipe, outcome, len(fit), len(check))
    (out / "report.json").write_bytes(msgspec.json.encode(report))


def equalized(model: Any, network: Network, samples: list[dict[str, Any]]) -> Network:
    """The network with its channels scaled, which computes the same."""
    from onnx import numpy_helper

    changed = equalize(network, samples)
    for tensor in model.graph.initializer:
        if tensor.name in changed:
            tensor.CopyFrom(numpy_helper.from_array(changed[tensor.name], tensor.name))
    return Network(model) if changed else network


def at_least(model: Any, opset: int) -> Any:
    """The model in that opset or a newer one. ModelNotConvertible."""
    import onnx

    have = next(one.version for one in model.opset_import if one.domain in ("", "ai.onnx"))
    if have >= opset:
        return model
    try:
        return onnx.version_converter.convert_version(model, opset)
    except RuntimeError as error:  # what the converter throws, whatever it is
        raise ModelNotConvertible(
            f"the model's opset {have} cannot be raised to {opset}", str(error)[:300], "export it anew, at opset 17"
        ) from None


def load(files: dict[str, str]) -> list[dict[str, Any]]:
    """Samples as feeds; the arrays stay on disk until they are read."""
    stacks = {name: np.load(path, mmap_mode="r", allow_pickle=False) for name, path in files.items()}
    count = len(next(iter(stacks.values()), ()))
    return [{name: np.ascontiguousarray(stack[place]) for name, stack in stacks.items()} for place in range(count)]


def describe(network: Network, asked: Recipe, outcome: Outcome, fitted: int, checked: int) -> QuantizationReport:
    return QuantizationReport(
        precision=asked.precision,
        fitted_on=fitted,
        checked_on=checked,
        first=judged(outcome.first),
        final=judged(outcome.judgement),
        sites=tuple(describe_site(network, asked, outcome, name) for name in network.sites),
        tensors=tuple(describe_tensor(outcome, name, values) for name, values in outcome.values.items()),
        integer_operators=len(outcome.operators),
        operators=len(network.nodes),
    )


def judged(one: Judgement) -> Judged:
    return Judged(sqnr_db=one.loss.sqnr_db, agreement=1 - one.loss.flips, expected_flips=one.flips)


def describe_site(network: Network, asked: Recipe, outcome: Outcome, name: str) -> SiteReport:
    site, precision = network.sites[name], outcome.treated[name]
    seen, stored = outcome.sensitivity.get(name), outcome.stored.get(name)
    weights = network.constants[site.weight]
    why = next((rule.why for rule in reversed(outcome.recipe.rules) if rule.nodes == name and rule.precision), "")
    return SiteReport(
        node=name,
        op=site.op,
        precision=precision,
        kept="" if precision == asked.precision else why or "the recipe says so",
        sqnr_db=seen.both.sqnr_db if seen else None,
        weights_db=seen.weights.sqnr_db if seen else None,
        input_db=seen.inputs.sqnr_db if seen else None,
        agreement=1 - seen.both.flips if seen else None,
        weight_bytes=weights.nbytes if stored is None else stored.values.size * stored.bits // 8,
    )


def describe_tensor(outcome: Outcome, name: str, values: Values) -> TensorReport:
    one, steps = outcome.ranges[name], outcome.steps[name]
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
        scale=float(steps.scale),
        zero_point=int(steps.zero),
        dtype=steps.zero.dtype.name,
        histogram=tuple(int(count) for count in counts),
    )


if __name__ == "__main__":
    main(sys.argv[1])
