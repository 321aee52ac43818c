"""`gate`: the check of a model against a baseline file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Required, Unpack

from edgewright.api.calls import ApiCall
from edgewright.api.options import AnyPath, CallOptions, accept, convert
from edgewright.api.results.base import Result, Table
from edgewright.api.values import Pairs, to_shapes
from edgewright.errors import ConfigError, UsageError
from edgewright.flows.evaluate.invoke import check_output_paths
from edgewright.flows.gate.baseline import Baseline, GateOptions, read_baseline
from edgewright.flows.gate.flow import check_gate, record_baseline
from edgewright.flows.gate.plan import PATHS, CompleteRequest, GateRequest, complete_request
from edgewright.flows.gate.report import (
    GateCheck,
    GateReport,
    describe_check,
    show_interval,
    show_value,
    write_junit,
    write_summary,
)
from edgewright.formats.artifact_sets import list_files
from edgewright.formats.artifacts import is_file_name
from edgewright.schema.plan import OPTION_FIELDS
from edgewright.web.jobs.choices import check_links

# Names of options by the fields of plans.
OPTIONS = {field: option for option, field in OPTION_FIELDS.items()}


class GateKeywords(CallOptions, total=False):
    """Keywords of `gate`; see docs/gate.md for their meaning."""

    baseline: Required[AnyPath]
    write: bool
    goal: str | None
    undecided: str
    runtime: str | None
    option: Pairs
    shape: Pairs
    fix: Pairs
    inputs: Any
    seed: int | None
    threads: int | None
    runs: int | None
    seconds: float | None
    processes: int | None
    warmup_seconds: float | None
    timeout: float | None
    power_w: float | None
    task: AnyPath | None
    data: AnyPath | None
    samples: int | None
    on: str
    junit: AnyPath | None
    summary: AnyPath | None
    allow_code: bool


class GateResult(Result):
    """The goals of one model with their states, or the figures of a written baseline."""

    report: GateReport

    @property
    def rows(self) -> tuple[GateCheck, ...]:
        return self.report.checks

    @property
    def run_ids(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.report.run_id, *self.report.runs)))

    @property
    def verdicts(self) -> tuple[str, ...]:
        """Return `passed`, `failed` or `written`."""
        return ("written" if self.report.written else "passed" if self.report.passed else "failed",)

    @property
    def answer(self) -> str:
        name = f"{self.report.model} in {self.report.runtime}"
        if self.report.written:
            return f"{self.report.baseline} has the figures of {name}."
        checks = "; ".join(f"{one.goal} is {describe_check(one)}" for one in self.rows)
        return f"{name} {'passes' if self.report.passed else 'fails'}: {checks}."

    def table(self) -> Table:
        if self.report.written:
            figures = self.report.figures.items()
            rows = [(name, f"{one.value:g}", _show_bounds(one.low, one.high), one.unit) for name, one in figures]
            return Table(("figure", "value", "interval", "unit"), rows)
        checks = [(one.goal, one.state, show_value(one, one.value), show_interval(one)) for one in self.rows]
        headers = ("goal", "state", "value", "interval", "method", "reason")
        rest = [(one.method, one.reason) for one in self.rows]
        return Table(headers, [(*a, *b) for a, b in zip(checks, rest, strict=True)], ("method",))


def _show_bounds(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:g}–{high:g}"


@accept(GateKeywords, undecided="pass", on="local")
def gate(model: Any, **options: Unpack[GateKeywords]) -> GateResult:
    """Check a model's speed, size and accuracy against a baseline file, or write the file.

    Args:
        model: a path, an `onnx.ModelProto`, or a `torch.nn.Module` with `inputs=` example inputs.
        **options: as on the command line, see docs/gate.md; `baseline` is required. `write=True` measures the model
            and writes the file.

    Returns:
        The goals with value, interval and state: `met`, `missed` or `not shown`.

    Raises:
        UsageError, ConfigError: the goals or the baseline are not valid.
        GateFailed: a goal was missed; `error.result` has all goals.
        EdgewrightError: the model could not be measured.
        Cancelled: by Ctrl-C or the event.

    Example:
        >>> import edgewright
        >>> quick = {"processes": 1, "seconds": 0.01, "warmup_seconds": 0.01}
        >>> edgewright.gate("digits.onnx", baseline="b.json", write=True, **quick).verdict
        'written'
        >>> edgewright.gate("digits.onnx", baseline="b.json", goal="bytes<=1.01x").answer
        'digits.onnx in onnxruntime passes: bytes<=1.01x is met: 1.000×.'
    """
    with ApiCall(options) as call:
        (path,) = call.write_models(model)
        given = call.given
        if "baseline" not in given:
            raise UsageError("no baseline is given", "a model is compared with a baseline file", "--baseline FILE.json")
        request = _make_request(path, given)
        baseline = _find_baseline(request)
        complete = complete_request(request, baseline)
        _check_files(request, given, complete, baseline)
        with call.open_workspace(request.device) as workspace:
            if request.write:
                report, error = record_baseline(complete, workspace), None
            else:
                report, error = check_gate(complete.plan, workspace, complete.notes)
        for name, write in (("junit", write_junit), ("summary", write_summary)):
            if name in given:
                write(report, Path(given[name]))
        return call.finish(GateResult(report), error)


def _find_baseline(request: GateRequest) -> Baseline | None:
    """Return the baseline; None if it is to be written and there is no file."""
    if not request.write:
        return read_baseline(request.baseline)
    try:
        return read_baseline(request.baseline) if request.baseline.exists() else None
    except ConfigError as error:
        hint = f"remove {request.baseline}, or choose another file"
        raise ConfigError(error.what, error.why, hint) from None


def _check_files(
    request: GateRequest, given: Mapping[str, Any], complete: CompleteRequest, baseline: Baseline | None
) -> None:
    """Check that the results can be written over no input, and the links in a dataset that the baseline names."""
    inputs = list_files(Path(request.model))
    outputs = [Path(given[name]) for name in ("junit", "summary") if name in given]
    for key in PATHS:
        text, kept = getattr(request.options, key), getattr(complete.kept, key)
        if text or kept:
            path = Path(text) if text else request.baseline.parent / kept
            inputs += [path, Path(str(path).rpartition(":")[0] or path)]  # the file of FILE.py:function
    if request.write:
        outputs.insert(0, request.baseline)
    else:
        inputs.append(request.baseline)
        if baseline and is_file_name(baseline.model):
            inputs.append(request.baseline.parent / baseline.model)
    check_output_paths(outputs, inputs)
    plan = complete.plan
    if plan.evaluation is not None and "data" not in given and Path(plan.evaluation.data).is_dir():
        check_links(Path(plan.evaluation.data), [Path.cwd(), request.baseline.absolute().parent])


def _make_request(model: str, given: Mapping[str, Any]) -> GateRequest:
    own = {OPTIONS.get(name, name): value for name, value in given.items() if value != ()}
    options = {name: own[name] for name in GateOptions.__struct_fields__ if name in own}
    if "shape" in options:
        options["shape"] = convert("shape", options["shape"], to_shapes)
    undecided = given.get("undecided", "pass")
    if undecided not in ("pass", "fail"):
        raise UsageError(f"--undecided {undecided} is unknown", "it is pass or fail", "--undecided fail")
    return GateRequest(
        model=model,
        baseline=Path(given["baseline"]),
        options=GateOptions(**options),
        goals=given.get("goal", ""),
        undecided=undecided,
        device=given.get("device", "local"),
        allow_code=given.get("allow_code", False),
        write=given.get("write", False),
    )
