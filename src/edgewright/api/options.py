"""Keywords of the API's functions: those of the command's options, with `_` for `-`."""

import functools
import inspect
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Event
from types import UnionType
from typing import Any, ParamSpec, Required, TypedDict, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct

from edgewright.api.values import Pairs, Words, check_utf8, convert_value, to_shapes
from edgewright.api.wording import name_keywords, reject_long_path, rename_former
from edgewright.errors import Cancelled, EdgewrightError, UsageError
from edgewright.schema.plan import OPTION_FIELDS
from edgewright.schema.text import find_close

P = ParamSpec("P")
R = TypeVar("R")
PlanT = TypeVar("PlanT", bound=Struct)
AnyPath = str | Path
Numbers = str | Sequence[int] | None
MAX_SHOWN = 60  # characters of a wrong value
_MODULES = re.compile(r"\b(?:[a-z_]+\.)+(?=[A-Z])")  # of the classes in annotations


class CallOptions(TypedDict, total=False):
    """Keywords of every function that takes time.

    Attributes:
        progress: called with one line of text at each step; True shows the lines, False shows nothing. Default: shown
            in a terminal and in a notebook.
        cancel: an event that stops the call, which then raises Cancelled.
        on_run: called with each stored run and the paths of its artifacts.
    """

    progress: Callable[[str], None] | bool | None
    cancel: Event | None
    on_run: Callable[[Any, Sequence[Path]], None] | None


class BenchmarkOptions(CallOptions, total=False):
    """Keywords of `benchmark`; see docs/benchmark.md for their meaning."""

    runtime: Words
    precision: Words
    task: Any
    data: AnyPath | None
    allow_code: bool
    threads: Numbers | int
    affinity: Numbers
    cores: str
    sustain: float | str
    rate: float | None
    cool_below: float | None
    runs: int | None
    seconds: float
    processes: int
    interleave: str
    inputs: Any
    shape: Pairs
    fix: Pairs
    seed: int
    option: Pairs
    warmup_seconds: float
    timeout: float
    layers: bool
    layer_runs: int
    threshold: float
    power_w: float | None
    fail_on_fallback: float | None
    phases: bool
    on: str
    tag: Pairs
    plan: AnyPath | None


class CompileOptions(CallOptions, total=False):
    """Keywords of `compile`; see docs/compile.md for their meaning."""

    runtime: Words
    precision: Words
    output: AnyPath | None
    shape: Pairs
    fix: Pairs
    weights: AnyPath | None
    on: str
    option: Pairs
    check: bool
    samples: int
    inputs: Any
    task: Any
    seed: int
    bisect: bool
    custom_ops: AnyPath | None
    timeout: float


class EvaluateOptions(CallOptions, total=False):
    """Keywords of `evaluate`; see docs/evaluate.md for their meaning."""

    task: Required[Any]
    data: Required[AnyPath]
    runtime: Words
    samples: int | None
    leave_out: int | None
    indices: Numbers
    fix: Pairs
    seed: int
    threads: int
    option: Pairs
    timeout: float
    on: str
    tag: Pairs
    allow_code: bool
    inputs: Any


class TrainingOptions(CallOptions, total=False):
    """Keywords of every function that trains; see docs/training.md for their meaning."""

    task: Required[Any]
    output: AnyPath | None
    shape: Pairs
    timeout: float
    allow_code: bool
    epochs: float | None
    batch: int | None
    lr: float | None
    schedule: str | None
    warmup: float | None
    optimizer: str | None
    momentum: float | None
    weight_decay: float | None
    label_smoothing: float | None
    clip: float | None
    train_precision: str | None
    patience: int | None
    checkpoint_s: float | None
    train_threads: int | None
    held_out: float
    seed: int
    control: bool


class QuantizeOptions(TrainingOptions, total=False):
    """Keywords of `quantize`; see docs/quantize.md for their meaning."""

    data: Required[AnyPath]
    eval_data: AnyPath | None
    samples: int
    on: str
    precision: str
    runtime: Words
    max_drop: float | None
    recipe: AnyPath | None
    weights: AnyPath | None
    report: bool
    measure: bool
    force: bool
    integer_io: bool
    qat: bool
    fix: Pairs
    inputs: Any


class ExperimentOptions(TrainingOptions, total=False):
    """Keywords that `prune` and `distill` share."""

    val: Required[AnyPath]
    runtime: str
    threads: int
    max_drop: float
    temperature: float
    alpha: float
    views: int
    seeds: int


class PruneOptions(ExperimentOptions, total=False):
    """Keywords of `prune`; see docs/prune.md for their meaning."""

    data: AnyPath | None
    weights: AnyPath | None
    method: str
    importance: str | None
    target_speedup: float | None
    target_bytes: str | None
    target_macs: str | None
    sparsity: float
    scope: str
    pattern: str | None
    multiple: int
    rounds: int
    round_epochs: float
    distill: bool
    inputs: Any


class DistillOptions(ExperimentOptions, total=False):
    """Keywords of `distill`; see docs/distill.md for their meaning."""

    data: Required[AnyPath]
    teacher: Required[AnyPath]
    teacher_weights: AnyPath | None
    student: Required[AnyPath]
    student_weights: AnyPath | None
    transfer: str
    transfer_weight: float


class InvokeOptions(CallOptions, total=False):
    """Keywords of `invoke`."""

    inputs: Required[Any]
    output: AnyPath | None
    runtime: str | None
    on: str
    option: Pairs
    timeout: float


class AnalyzeOptions(CallOptions, total=False):
    """Keywords of `analyze`; see docs/analyze.md for their meaning."""

    runtime: Words
    shape: Pairs
    fix: Pairs
    inputs: Any


class CompareOptions(CallOptions, total=False):
    """Keywords of `compare`."""

    threshold: float | None
    inputs: Any


class NoOptions(TypedDict):
    """No keywords."""


def accept(kind: type, plan: type[Struct] | None = None, **defaults: Any) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator for a function with the keywords of a TypedDict: it checks the arguments, gives the function a
    signature that help and completion show, and names keywords instead of options in its errors.

    Args:
        plan: the plan whose defaults the keywords have.
        defaults: of keywords whose plan field has none, or another one.
    """
    known = get_type_hints(kind)
    values = _list_defaults(known, plan) | defaults

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        own = inspect.signature(function, eval_str=True)
        name = function.__name__

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            rename_former(kwargs, known)
            try:
                given = {key: value for key, value in kwargs.items() if key not in own.parameters}
                _check_names(name, list(given), known)
                for key, value in (_bind(own, name, args, kwargs) | given).items():
                    _check_type(name, key, value, known[key] if key in given else own.parameters[key].annotation)
                return _run_cancellable(functools.partial(function, *args, **kwargs), given.get("cancel"))
            except EdgewrightError as error:
                name_keywords(error, name, known)
                raise
            except OSError as error:
                reject_long_path(error)
                raise

        setattr(call, "__signature__", _make_signature(own, kind, values))  # noqa: B010 - not known to type checkers
        return call

    return decorate


def _list_defaults(known: Mapping[str, Any], plan: type[Struct] | None) -> dict[str, Any]:
    """Return the defaults of the plan; without one None, or False for a switch."""
    fields = {field.name: field.default for field in msgspec.structs.fields(plan)} if plan else {}
    return {
        name: _get_default(fields.get(OPTION_FIELDS.get(name, name)), False if hint is bool else None)
        for name, hint in known.items()
    }


def _get_default(value: Any, otherwise: Any) -> Any:
    return value if isinstance(value, bool | int | float | str) and value != "" else otherwise


def _make_signature(own: inspect.Signature, kind: type, values: Mapping[str, Any]) -> inspect.Signature:
    """Return the signature with the keywords: the required ones first, those of every function last."""
    known, required = get_type_hints(kind), getattr(kind, "__required_keys__", ())
    order = sorted(known, key=lambda name: (name in CallOptions.__annotations__, name not in required))
    positional = [one for one in own.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    keywords = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if name in required else values[name],
            annotation=known[name],
        )
        for name in order
    ]
    return inspect.Signature([*positional, *keywords], return_annotation=own.return_annotation)


def _bind(own: inspect.Signature, function: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that are no keywords of the TypedDict; UsageError if one is missing or too many."""
    try:
        bound = own.bind(*args, **kwargs).arguments
    except TypeError as error:
        why = f"its arguments are {', '.join(own.parameters)}".replace("options", "keywords")
        raise UsageError(f"{function}(): {error}", why, f"help(edgewright.{function}) shows them") from None
    simple = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return {name: value for name, value in bound.items() if own.parameters[name].kind is simple}


def _run_cancellable(function: Callable[[], R], cancel: Any) -> R:
    """Return the result; Cancelled if the call was interrupted and the event is set.

    It is raised only after the interrupt and its frames are gone, and with them the call's temporary folder, even if
    the interrupt came before or after the call's `with` block.
    """
    try:
        return function()
    except (KeyboardInterrupt, Cancelled):
        if cancel is None or not cancel.is_set():
            raise
    raise Cancelled("the call was cancelled", "the event that was given as `cancel` is set")


def _check_names(function: str, given: Sequence[str], known: Mapping[str, Any]) -> None:
    """Raise UsageError for a keyword that the function does not have."""
    for name in given:
        if name not in known:
            near = find_close(name, known)
            raise UsageError(
                f"{function}() has no keyword '{name}'",
                f"its keywords are {', '.join(sorted(known))}",
                f"use {near}=" if near else f"help(edgewright.{function}) shows all keywords",
            )


def _check_type(function: str, name: str, value: Any, hint: Any) -> None:
    """Raise UsageError for a value that is not of the keyword's type; None is the default of every keyword."""
    if value is None or _has_type(value, hint):
        return
    shown = textwrap.shorten(repr(value), MAX_SHOWN)
    why = f"its type is {_MODULES.sub('', inspect.formatannotation(hint))}"
    raise UsageError(f"{name}={shown} has the wrong type", why, f"help(edgewright.{function}) shows the types")


def _has_type(value: Any, hint: Any) -> bool:
    """Return whether a value has a type of the keywords; of the items only those of sequences are checked."""
    kind, items = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        return any(_has_type(value, one) for one in items)
    if kind is Sequence:  # the command line gives a list for each time that an option is repeated
        is_list = isinstance(value, Sequence) and not isinstance(value, str)
        return is_list and all(_has_type(one, items[0]) or _has_type(one, hint) for one in value)
    if kind in (int, float):
        return isinstance(value, int | kind) and not isinstance(value, bool)
    return kind is Any or not isinstance(kind, type) or isinstance(value, kind)


def read_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values by the names of the plan's fields, without keywords that are None. Raises UsageError."""
    return {
        OPTION_FIELDS.get(name, name): convert(name, value, functools.partial(convert_value, name))
        for name, value in options.items()
        if value is not None
    }


def convert(name: str, value: Any, function: Callable[[Any], R]) -> R:
    """Return the converted value of an option; UsageError if it is not valid."""
    flag = f"--{name.replace('_', '-')}"
    try:
        converted = function(value)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{flag}: {error}", "", "help() of the function shows the types") from None
    if isinstance(converted, str):
        check_utf8(flag, converted)
    return converted


def make_plan(kind: type[PlanT], given: Mapping[str, Any], **fields: Any) -> PlanT:
    """Return a plan with these fields; every other field has the value of the option of its name."""
    own = {name: given[name] for name in kind.__struct_fields__ if name in given and name not in fields}
    if "shapes" in own:
        own["shapes"] = convert("shape", own["shapes"], to_shapes)
    return kind(**(own | fields))
