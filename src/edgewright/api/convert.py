"""Functions that examine and convert a model: analyze, compile, quantize."""

from pathlib import Path
from typing import Any, Unpack

from edgewright.api.calls import ApiCall
from edgewright.api.options import AnalyzeOptions, CompileOptions, QuantizeOptions, accept, convert
from edgewright.api.plans import plan_compile, plan_quantization
from edgewright.api.results.analysis import AnalyzeResult
from edgewright.api.results.artifacts import CompileResult, QuantizeResult
from edgewright.api.values import to_shapes, to_words
from edgewright.flows.analyze.flow import analyze as run_analysis
from edgewright.flows.compile.flow import compile_all
from edgewright.flows.quantize.flow import quantize as run_quantization
from edgewright.schema.plan import CompilePlan, QuantizePlan


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
        plan = plan_compile(path, call.given)
        with call.open_workspace() as workspace:
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
        plan = plan_quantization(path, call.given)
        with call.open_workspace() as workspace:
            report, error = run_quantization(plan, call.find_output(path), workspace)
        return call.finish(QuantizeResult(report), error)
