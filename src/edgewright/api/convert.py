"""Functions that examine a model and make others of it: analyze, compile, quantize, prune, distill."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from edgewright.api.calls import ApiCall
from edgewright.api.options import (
    AnalyzeOptions,
    CompileOptions,
    DistillOptions,
    PruneOptions,
    QuantizeOptions,
    accept,
    convert,
)
from edgewright.api.plans import plan_compile, plan_distillation, plan_pruning, plan_quantization
from edgewright.api.results.analysis import AnalyzeResult
from edgewright.api.results.artifacts import CompileResult, QuantizeResult
from edgewright.api.results.training import DistillResult, PruneResult
from edgewright.api.values import to_shapes, to_words
from edgewright.errors import EdgewrightError, UsageError
from edgewright.flows.analyze.flow import analyze as run_analysis
from edgewright.flows.compile.cells import FLOAT_PRECISIONS
from edgewright.flows.compile.flow import compile_all
from edgewright.flows.distill.flow import distill as run_distillation
from edgewright.flows.prune.flow import prune as run_pruning
from edgewright.flows.quantize.flow import quantize as run_quantization
from edgewright.flows.workspace import Workspace
from edgewright.schema.plan import CompilePlan, DistillPlan, PrunePlan, QuantizePlan
from edgewright.schema.vocabulary import PRECISION_ALIASES, normalize_word

Given = Mapping[str, Any]
# Options of `benchmark` that compile and quantize have too.
_SHARED = ("task", "data", "samples", "shapes", "fixed", "seed", "timeout_s", "allow_code")


@accept(AnalyzeOptions)
def analyze(model: Any, **options: Unpack[AnalyzeOptions]) -> AnalyzeResult:
    """Estimate a model's costs and its support by each runtime and unit, without running it.

    Args:
        model: path of an ONNX or TFLite file, an `onnx.ModelProto`, or a `torch.nn.Module` with `inputs=` example
            inputs.
        **options: as on the command line, see docs/analyze.md.

    Returns:
        Operators, parameters, MACs, bytes, and what each runtime does not support, with the reason.

    Raises:
        ModelError: the model cannot be read.
        InputError: `shape` or `fix` does not fit the model.

    Example:
        >>> import edgewright
        >>> result = edgewright.analyze("digits.onnx", runtime="litert")
        >>> result.answer
        'digits.onnx has 27 operators, 27.1 k (27,050) parameters, 108 kB of weights; litert compiles.'
    """
    with ApiCall(options) as call:
        (path,) = call.write_models(model)
        words = to_words(call.given.get("runtime"))
        shapes = convert("shape", call.given.get("shapes"), to_shapes)
        analysis = run_analysis(Path(path), shapes, words, call.progress, fixed=call.given.get("fixed", {}))
        return call.finish(AnalyzeResult(analysis), None)


@accept(CompileOptions, CompilePlan)
def compile(model: Any, **options: Unpack[CompileOptions]) -> CompileResult:
    """Convert a model into artifacts for every runtime, and check that their outputs match the source model.

    Args:
        model: path of an ONNX or TFLite file or of a torch program, `FILE.py:FACTORY`, an `onnx.ModelProto`, or a
            `torch.nn.Module` with `inputs=` example inputs.
        **options: as on the command line, see docs/compile.md.

    Returns:
        A row for each artifact: its path, size in bytes, and the comparison with the source.

    Raises:
        UsageError, InputError, ModelError, OutputError: nothing is compiled.
        GateFailed: the outputs of an artifact differ; other errors of one artifact. `error.result` has all artifacts.
        Cancelled: by Ctrl-C or the event.

    Example:
        >>> import edgewright
        >>> result = edgewright.compile("digits.onnx", runtime="onnxruntime", output="build")
        >>> result.artifact("onnxruntime").path
        'build/digits-onnxruntime-fp32.onnx'
    """
    with ApiCall(options) as call:
        (path,) = call.write_models(model, as_onnx=False)
        device = call.select_device()
        plan = plan_compile(path, call.given)
        with call.open_judged(device) as workspace:
            report, error = compile_all(plan, call.find_output(path), workspace, bisect=call.given.get("bisect", False))
        return call.finish(CompileResult(report), error)


@accept(QuantizeOptions, QuantizePlan)
def quantize(model: Any, **options: Unpack[QuantizeOptions]) -> QuantizeResult:
    """Quantize a model once for every runtime, and evaluate it before it is written.

    Args:
        model: path of a float ONNX file or of a torch program, `FILE.py:FACTORY`, an `onnx.ModelProto`, or a
            `torch.nn.Module` with `inputs=` example inputs.
        **options: as on the command line, see docs/quantize.md; `task` and `data` are required. `task` is a path or
            an `edgewright.Task`.

    Returns:
        A row for each artifact: its path, size in bytes, metric with the 95 % interval, and speedup over float.

    Raises:
        UsageError, DataError, ModelError: nothing is quantized.
        GateFailed: an artifact is worse than `max_drop` allows, and is not written; `error.result` has all artifacts.
        Cancelled: by Ctrl-C or the event.
    """
    with ApiCall(options) as call:
        (path,) = call.write_models(model, as_onnx=False)
        device = call.select_device()
        plan = plan_quantization(path, call.given)
        with call.open_judged(device) as workspace:
            report, error = run_quantization(plan, call.find_output(path), workspace)
        return call.finish(QuantizeResult(report), error)


@accept(PruneOptions, PrunePlan, importance=None, seed=0)
def prune(model: Any, **options: Unpack[PruneOptions]) -> PruneResult:
    """Prune a network, and fine-tune it if it is a torch source with `data`.

    Args:
        model: `FILE.py:FACTORY` of a torch network with `weights`, which can be fine-tuned; or a path or an
            `onnx.ModelProto`, which is pruned without fine-tuning.
        **options: as on the command line, see docs/prune.md; `task` and `val` are required.

    Returns:
        Source, control and pruned network with their metrics, sizes in bytes and times in microseconds.

    Raises:
        UsageError, DataError, ModelError: nothing is pruned.
        GateFailed: the drop exceeds `max_drop`, or a target cannot be met; `error.result` has the networks.
        Cancelled: by Ctrl-C or the event.
    """
    with ApiCall(options) as call:
        (path,) = call.write_models(model)
        plan = plan_pruning(path, call.given)
        with call.open_workspace() as workspace:
            report, error = run_pruning(plan, call.find_output(path), workspace)
        return call.finish(PruneResult(report), error)


@accept(DistillOptions, DistillPlan, seed=0)
def distill(**options: Unpack[DistillOptions]) -> DistillResult:
    """Distill a large network into a small one, and compare it with one that was trained without the teacher.

    Args:
        **options: as on the command line, see docs/distill.md; `teacher`, `student`, `task`, `data` and `val` are
            required.

    Returns:
        Teacher, control and student with their metrics, sizes in bytes and times in microseconds.

    Raises:
        UsageError, DataError, ModelError: nothing is trained.
        GateFailed: the student is worse than the control by more than `max_drop`; `error.result` has the networks.
        Cancelled: by Ctrl-C or the event.
    """
    with ApiCall(options) as call:
        plan = plan_distillation(call.given)
        with call.open_workspace() as workspace:
            report, error = run_distillation(plan, call.find_output(plan.teacher), workspace)
        return call.finish(DistillResult(report), error)


def make_artifacts(
    models: Sequence[str], call: ApiCall, workspace: Workspace
) -> tuple[list[str], list[EdgewrightError]]:
    """Return the paths of the artifacts in every runtime and precision that the call names, and what failed.

    Float ones that exist already are reused; quantized ones are calibrated on `data` and evaluated, not timed.

    Raises UsageError if a quantized precision is requested without task and data.
    """
    words = [PRECISION_ALIASES.get(word, word) for word in map(normalize_word, to_words(call.given["precision"]))]
    paths: list[str] = []
    errors: list[EdgewrightError] = []
    for model in models:
        for word in dict.fromkeys(words):
            make = _compile if word in FLOAT_PRECISIONS else _quantize
            found, error = make(model, word, call, workspace)
            paths += found
            errors += [error] if error is not None else []
    if not paths and errors:
        raise errors[0]
    return paths, errors


def _compile(model: str, word: str, call: ApiCall, workspace: Workspace) -> tuple[list[str], EdgewrightError | None]:
    plan = plan_compile(
        model, _choose(call.given, ("runtime", "shapes", "fixed", "seed", "timeout_s")) | {"precision": word}
    )
    report, error = compile_all(plan, call.find_output(model), workspace)
    return [row.path for row in report.artifacts if row.path], error


def _quantize(model: str, word: str, call: ApiCall, workspace: Workspace) -> tuple[list[str], EdgewrightError | None]:
    if not {"task", "data"} <= call.given.keys():
        raise UsageError(
            f"--precision {word} needs --task and --data",
            "the model is quantized with calibration data, and evaluated",
            "--task task.toml --data DATA",
        )
    chosen = _choose(call.given, ("runtime", *_SHARED)) | {"precision": word, "measure": False}
    report, error = run_quantization(plan_quantization(model, chosen), call.find_output(model), workspace)
    return [row.path for row in report.artifacts if row.path], error


def _choose(given: Given, names: Sequence[str]) -> dict[str, Any]:
    return {name: given[name] for name in names if name in given}
