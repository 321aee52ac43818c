"""The plan of a gate: given options, completed by those that the baseline keeps."""

from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from edgewright.bench.feeds import describe_batch, fix_batch
from edgewright.errors import UsageError
from edgewright.flows.candidates import choose_runtime, hash_npz, pair_candidates, read_source_signature
from edgewright.flows.gate.baseline import Baseline, GateOptions, is_reachable, relate_path, resolve_path
from edgewright.formats.files import hash_file, read_model
from edgewright.schema.model import Model
from edgewright.schema.plan import OPTION_FIELDS, BenchmarkPlan, EvaluatePlan, GatePlan
from edgewright.tasks.spec.file import read_task
from edgewright.tasks.spec.functions import is_function, make_code_rejection

DEFAULT_GOALS = "latency<=1.05x"
PATHS = ("inputs", "task", "data")


class GateRequest(NamedTuple):
    """What the user asks for.

    Attributes:
        options: as given; paths are relative to the current folder.
        goals: empty for those of the baseline.
        allow_code: whether code runs that the baseline or the task file names.
        write: whether the baseline is written.
    """

    model: str
    baseline: Path
    options: GateOptions = GateOptions()
    goals: str = ""
    undecided: Literal["pass", "fail"] = "pass"
    device: str = "local"
    allow_code: bool = False
    write: bool = False


class CompleteRequest(NamedTuple):
    """A plan with the options that a new baseline keeps, and notes on what was chosen."""

    plan: GatePlan
    kept: GateOptions
    notes: tuple[str, ...]


def complete_request(request: GateRequest, baseline: Baseline | None) -> CompleteRequest:
    """Return the plan of a request.

    Raises UsageError for options that exclude each other, ConfigError for what a baseline must not name, and the errors
    of the model, its runtime, its inputs and the task.
    """
    given = _drop_defaults(request.options)
    kept = _drop_defaults(baseline.options) if baseline else {}
    code, options = _resolve_paths(request, given, kept)
    model = read_model(Path(request.model))
    shapes = dict(options.get("shape", {}))
    fixed = fix_batch(read_source_signature(model), shapes) if "inputs" not in options else {}
    notes = tuple(map(describe_batch, fixed))
    timing = _make_timing(request, model, options, shapes | fixed)
    plan = GatePlan(
        timing=timing,
        evaluation=_make_evaluation(request, timing, options, code, given),
        baseline=str(request.baseline),
        baseline_sha256=hash_file(request.baseline) if baseline else "",
        goals=request.goals or (baseline.goals if baseline else "") or ("" if request.write else DEFAULT_GOALS),
        undecided=request.undecided,
    )
    keep, lost = _choose_kept(request.baseline, given, code)
    if request.write:
        notes += tuple(f"--{key} is outside of the folder of the baseline, so later calls must give it" for key in lost)
    return CompleteRequest(plan, GateOptions(**(kept | keep)), notes)


def _choose_kept(baseline: Path, given: dict[str, Any], code: tuple[str, ...]) -> tuple[dict[str, Any], list[str]]:
    """Return the given options that a baseline keeps, and those that it does not since they are outside of its folder.

    A function is kept as it is.
    """
    keep, lost = dict(given), []
    for key in PATHS:
        if key in given and given[key] not in code:
            keep[key] = relate_path(given[key], baseline)
            if not is_reachable(keep[key], baseline):
                lost.append(key)
                del keep[key]
    return keep, lost


def _drop_defaults(options: GateOptions) -> dict[str, Any]:
    return {name: value for name in options.__struct_fields__ if (value := getattr(options, name)) is not None}


def _resolve_paths(
    request: GateRequest, given: dict[str, Any], kept: dict[str, Any]
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the function that is named as data, if any, and all options with paths from the current folder."""
    data = given.get("data", kept.get("data", ""))
    code = (data,) if is_function(data) and not Path(data).exists() else ()
    if code and "data" not in given and not request.allow_code:
        raise make_code_rejection(data, f"{request.baseline}: data")
    found = {
        key: value if key not in PATHS or value in code else resolve_path(value, key, request.baseline)
        for key, value in kept.items()
        if key not in given
    }
    return code, found | given


def _make_timing(
    request: GateRequest, model: Model, options: dict[str, Any], shapes: dict[str, tuple[int, ...]]
) -> BenchmarkPlan:
    runtime = options.get("runtime") or choose_runtime(Path(request.model), "").name
    candidates = pair_candidates([model], [runtime], options.get("option", ()))
    inputs = str(Path(options["inputs"]).absolute()) if "inputs" in options else None
    names = ("fix", "seed", "threads", "runs", "seconds", "processes", "warmup_seconds", "timeout", "power_w")
    return BenchmarkPlan(
        candidates=candidates,
        device=request.device,
        shapes=shapes,
        inputs=inputs,
        inputs_sha256=hash_npz(inputs),
        layers=False,
        **{OPTION_FIELDS.get(name, name): options[name] for name in names if name in options},
    )


def _make_evaluation(
    request: GateRequest,
    timing: BenchmarkPlan,
    options: dict[str, Any],
    code: tuple[str, ...],
    given: dict[str, Any],
) -> EvaluatePlan | None:
    """Return the plan of the evaluation; None without task and data."""
    task_file, data = options.get("task"), options.get("data")
    if task_file is None and data is None:
        return None
    if task_file is None or data is None:
        present, absent = ("data", "task") if task_file is None else ("task", "data")
        why = "the accuracy is evaluated with the task's metric on labeled data"
        raise UsageError(f"--{present} is given without --{absent}", why, f"add --{absent}, or remove --{present}")
    task = read_task(Path(task_file), within=None if "task" in given else Path(task_file).resolve().parent)
    if ":" in task.metric:
        if not request.allow_code:
            raise make_code_rejection(task.metric, f"{task_file}: metric")
        code = (*code, task.metric)
    return EvaluatePlan(
        candidates=timing.candidates,
        device=timing.device,
        task=msgspec.to_builtins(task),
        code=code,
        data=data,
        samples=options.get("samples"),
        fixed=timing.fixed,
        seed=timing.seed,
        threads=timing.threads,
        timeout_s=timing.timeout_s,
    )
