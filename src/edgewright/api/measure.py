"""Functions that run models: benchmark, compare, evaluate, invoke."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Unpack

from edgewright.api.calls import ApiCall
from edgewright.api.convert import make_artifacts
from edgewright.api.options import BenchmarkOptions, CompareOptions, EvaluateOptions, InvokeOptions, accept
from edgewright.api.plans import plan_benchmark, plan_evaluation
from edgewright.api.results.evaluation import EvaluateResult, InvokeResult
from edgewright.api.results.measurement import BenchmarkResult, CompareResult
from edgewright.api.user_store import open_user_store
from edgewright.errors import EdgewrightError, GateFailed, UsageError
from edgewright.flows.benchmark.comparison import are_evaluations, compare_evaluations, compare_runs
from edgewright.flows.benchmark.devices import benchmark_on
from edgewright.flows.benchmark.gates import check_fallback_shares
from edgewright.flows.benchmark.report import make_report
from edgewright.flows.candidates import check_number, choose_runtime, split_options
from edgewright.flows.evaluate.flow import evaluate as run_evaluation
from edgewright.flows.evaluate.invoke import check_output_paths, choose_file, save_outputs
from edgewright.flows.evaluate.invoke import invoke as run_once
from edgewright.formats.artifact_sets import list_files
from edgewright.schema.plan import TIMEOUT_S, BenchmarkPlan, EvaluatePlan
from edgewright.schema.run import Run


@accept(BenchmarkOptions, BenchmarkPlan)
def benchmark(models: Any = (), **options: Unpack[BenchmarkOptions]) -> BenchmarkResult:
    """Measure models, interleaved, each in fresh processes, and store a run for each.

    Args:
        models: a model or a list: paths, folders of artifacts, `onnx.ModelProto`, or a `torch.nn.Module` with
            `inputs=` example inputs. The first is the reference of the verdicts.
        **options: as on the command line, see docs/benchmark.md; `inputs` may be arrays by name.

    Returns:
        The runs: times in microseconds with their confidence intervals, memory in bytes, layers.

    Raises:
        UsageError, ModelError, RuntimeMissing: before anything is measured.
        GateFailed, WorkerError: of a candidate; `error.result` has the measurements of all.
        Cancelled: by Ctrl-C or the event; the measurements so far are stored.

    Example:
        >>> import edgewright
        >>> result = edgewright.benchmark("digits.onnx", processes=2, seconds=0.01, layers=False)
        >>> result.answer
        'digits.onnx in onnxruntime takes ... µs (50% interval ... µs) on local.'
        >>> result.rows[0].latency_us.p50 > 0
        True
    """
    with ApiCall(options) as call:
        paths, errors = call.write_models(models), list[EdgewrightError]()
        if "precision" in call.given:
            with call.open_workspace() as workspace:
                paths, errors = make_artifacts(paths, call, workspace)
        plan = plan_benchmark(paths, call.given)
        found = benchmark_on(plan, call.select_devices(plan.device), call.open_workspace, call.given.get("tag", {}))
        outcome = found.outcome
        result = BenchmarkResult(make_report(outcome.runs, outcome.comparisons, found.failed), outcome.runs)
        error = outcome.error or next(iter(errors), None)
        return call.finish(result, error or _find_fallback_error(outcome.runs, call.given))


INVOCATION_SCHEMA = "edgewright.invocation/1"


def _find_fallback_error(runs: Sequence[Run], given: Mapping[str, Any]) -> GateFailed | None:
    try:
        if "fail_on_fallback" in given:
            check_fallback_shares(runs, given["fail_on_fallback"])
    except GateFailed as error:
        return error
    return None


@accept(CompareOptions)
def compare(*items: Any, **options: Unpack[CompareOptions]) -> CompareResult:
    """Compare stored runs, or measure models now and compare them; each with the first.

    Args:
        *items: run ids (the unique beginning or a unique piece of six letters is enough), or models as for `benchmark`.
        **options: `threshold`: the smallest relative difference that is reported as one; `inputs` as for `benchmark`.

    Returns:
        The ratios of the times with their confidence intervals, and the verdicts; of evaluations the differences
        sample by sample.

    Raises:
        UsageError: fewer than two items, or runs that cannot be compared.
        RunNotFound: no run has this id.
    """
    if len(items) < 2:
        raise UsageError("compare needs two runs or models", f"{len(items)} is given", "edgewright compare A B")
    with ApiCall(options) as call:
        if _are_ids(items):
            if "inputs" in call.given:
                raise UsageError("--inputs has no effect here", "stored runs are compared", "omit it, or give models")
            runs = _load_runs(items)
        else:
            runs = _measure_all(items, options)
        if are_evaluations(runs):
            return call.finish(CompareResult(runs, evaluations=compare_evaluations(runs)), None)
        comparisons = compare_runs(runs, call.given.get("threshold"))
        return call.finish(CompareResult(runs, comparisons), None)


def _are_ids(items: Sequence[Any]) -> bool:
    """Return whether the items are run ids: texts that name no file and do not look like one."""
    return not any(not isinstance(item, str) or Path(item).exists() or "." in item or "/" in item for item in items)


def _measure_all(items: Sequence[Any], options: CompareOptions) -> Sequence[Run]:
    own: Any = {**options, "on_run": None}
    return benchmark(list(items), **own).runs


def _load_runs(items: Sequence[str]) -> Sequence[Run]:
    with closing(open_user_store()) as store:
        return [store.load(item) for item in items]


@accept(EvaluateOptions, EvaluatePlan)
def evaluate(models: Any, **options: Unpack[EvaluateOptions]) -> EvaluateResult:
    """Evaluate models on labeled data, all on the same samples, and store a run for each.

    Args:
        models: a model or a list, as for `benchmark`. The first is the reference of agreement and difference.
        **options: as on the command line, see docs/evaluate.md; `task` and `data` are required. `task` is a path or
            an `edgewright.Task`.

    Returns:
        The task's metric of each model with its 95 % interval, and the difference to the first on the same samples.

    Raises:
        UsageError, DataError, ModelError: before anything is evaluated.
        WorkerError and others of one model; `error.result` has the other models.
        Cancelled: by Ctrl-C or the event; the results so far are stored.

    Example:
        >>> import edgewright
        >>> result = edgewright.evaluate("digits.onnx", task="task.toml", data="heldout.npz", samples=100)
        >>> result.rows[0].metric.name, result.rows[0].evaluated
        ('accuracy', 100)
    """
    with ApiCall(options) as call:
        call.select_device()
        plan = plan_evaluation(call.write_models(models), call.given)
        with call.open_workspace(plan.device) as workspace:
            outcome = run_evaluation(plan, workspace, call.given.get("tag", {}))
            runs = [workspace.store.load(row.run_id) for row in outcome.report.results]
        return call.finish(EvaluateResult(outcome.report, runs), outcome.error)


@accept(InvokeOptions, timeout=TIMEOUT_S)
def invoke(artifact: Any, **options: Unpack[InvokeOptions]) -> InvokeResult:
    """Run a model once in a worker process; `load` keeps a model for many calls.

    Args:
        artifact: a model, as for `benchmark`; an artifact has the inputs and outputs of its source.
        **options: `inputs`: a file or arrays by name, required; `output`: .npz for the outputs; `runtime`, `option`,
            and `timeout` in seconds.

    Returns:
        `outputs`: arrays by the source's names.

    Raises:
        ModelError: the model cannot be read, or the runtime rejects it.
        InputError: the inputs do not fit the model.
        OutputError: the outputs cannot be written.
        RuntimeMissing: the runtime is not installed.
        WorkerError: the process that runs the model failed.

    Example:
        >>> import edgewright, numpy
        >>> image = numpy.zeros((1, 1, 8, 8), "float32")
        >>> edgewright.invoke("digits.onnx", inputs={"image": image}).outputs["logits"].shape
        (1, 10)
    """
    with ApiCall(options) as call:
        given, (name,) = call.given, call.write_models(artifact)
        if "inputs" not in given:
            raise UsageError("--inputs is missing", "the model is run on them", 'inputs={"x": array}, or a .npz file')
        output, inputs = Path(given["output"]) if "output" in given else None, Path(given["inputs"])
        timeout_s = given.get("timeout_s", TIMEOUT_S)
        if output is not None:
            check_output_paths([output], [inputs, *list_files(Path(name))])
        check_number("timeout_s", timeout_s)
        path = choose_file(Path(name), inputs)
        info = choose_runtime(path, given.get("runtime", ""))
        settings = split_options(given.get("option", ()), [info])[info.name]
        with call.open_workspace(call.select_device()) as workspace:
            call.progress(f"{path.name} in {info.name}: running")
            outputs, notes = run_once(
                path, inputs, workspace.device, runtime=info.name, options=settings, timeout_s=timeout_s
            )
        if output is not None:
            save_outputs(output, outputs)
        described = [
            {"name": key, "dtype": array.dtype.name, "shape": list(array.shape)} for key, array in outputs.items()
        ]
        where = str(output) if output else None
        report = {
            "schema": INVOCATION_SCHEMA,
            "runtime": info.name,
            "model": str(path),
            "path": where,
            "outputs": described,
        }
        return call.finish(InvokeResult(report, outputs, notes), None)
