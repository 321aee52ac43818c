"""Plans from the options of a call."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from edgewright.api.options import convert, make_plan
from edgewright.api.values import TRAINING_SETTINGS, parse_threads, to_shape_choices, to_shapes, to_words
from edgewright.bench.feeds import fix_batch
from edgewright.errors import UsageError
from edgewright.federated.job import RoundSettings
from edgewright.flows.candidates import (
    check_number,
    expand_folders,
    expand_sets,
    hash_npz,
    pair_candidates,
    read_models,
    read_plan,
    read_source_signature,
    split_compile_options,
)
from edgewright.flows.compile.cells import plan_cells, read_source_precision
from edgewright.flows.compile.sizes import expand_sizes
from edgewright.flows.doctor.flow import TEST_RUNTIME, examine_runtime
from edgewright.flows.federate.plan import FederatePlan
from edgewright.flows.personalize.plan import PersonalizePlan
from edgewright.flows.quantize.finetuning import QAT_DEFAULTS
from edgewright.flows.tasks.flow import make_model_metadata
from edgewright.formats.files import read_model
from edgewright.quantization.recipe import read_recipe, write_recipe
from edgewright.runtimes.table import TABLE, find_runtime
from edgewright.schema.plan import (
    BenchmarkPlan,
    Candidate,
    CompilePlan,
    DistillPlan,
    EvaluatePlan,
    PrunePlan,
    QuantizePlan,
)
from edgewright.schema.text import suggest
from edgewright.schema.vocabulary import GRADIENT_CRITERIA, PRECISION_ALIASES, QUANTIZED_PRECISIONS, normalize_word
from edgewright.tasks.spec.file import read_task
from edgewright.tasks.spec.functions import is_function, make_code_rejection
from edgewright.tasks.spec.task import Task

Given = Mapping[str, Any]
PlanT = TypeVar("PlanT", bound=Struct)
SETTING_NAMES = {"train_precision": "precision", "train_threads": "threads"}
UNSTRUCTURED_OPTIONS = ("sparsity", "scope", "pattern")
STRUCTURED_OPTIONS = ("importance", "multiple", "rounds", "round_epochs")
DISTILLATION_OPTIONS = ("temperature", "alpha", "views")
PRUNE_TRAINING_OPTIONS = (
    *TRAINING_SETTINGS, "control", "distill", *DISTILLATION_OPTIONS, "rounds", "round_epochs", "seeds", "held_out",
)  # fmt: skip
QAT_OPTIONS = (*(name for name in TRAINING_SETTINGS if name != "seed"), "held_out", "control")


def plan_benchmark(models: Sequence[str], given: Given) -> BenchmarkPlan:
    """Return the plan of the options, or that of the plan file."""
    if "plan" in given:
        return read_plan(Path(given["plan"]))
    if not models:
        raise UsageError("no model is given", "a benchmark needs at least one model", "edgewright benchmark MODEL")
    chosen = expand_sets(models, convert("shape", given.get("shapes"), to_shapes), given.get("inputs"))
    candidates, threads = _list_candidates(chosen, given), _read_threads(given.get("threads", 1))
    if len(threads) > 1:
        candidates = tuple(msgspec.structs.replace(one, threads=number) for one in candidates for number in threads)
    inputs, shapes = _find_inputs(given), convert("shape", given.get("shapes"), to_shapes) or {}
    if inputs is None:
        shapes = _fix_batches(candidates, shapes)
    fields = {"candidates": candidates, "threads": threads[0], "inputs": inputs, "shapes": shapes}
    return make_plan(BenchmarkPlan, given, **fields, **(_plan_phases(given) if given.get("phases") else {}))


def _plan_phases(given: Given) -> dict[str, Any]:
    why = "the phases are timed on real samples"
    _check_present(given, {"task": "--task", "data": "--data"}, why, "--phases --task task.toml --data DATA")
    return {"phase_task": msgspec.to_builtins(_load_task(given)), "phase_data": given["data"]}


def _fix_batches(candidates: Sequence[Candidate], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Return the shapes, and batch 1 for the inputs of any model whose batch alone is free."""
    found = dict(shapes)
    for path in dict.fromkeys(one.model for one in candidates):
        found |= fix_batch(read_source_signature(read_model(Path(path))), found)
    return found


def _read_threads(given: Any) -> tuple[int, ...]:
    """Return the numbers of threads, each of which is measured. Raises UsageError."""
    numbers = convert("threads", given, lambda value: parse_threads(value) if isinstance(value, str) else value)
    found = (numbers,) if isinstance(numbers, int) else tuple(numbers)
    for number in found:
        check_number("threads", number)
    return found


def _list_candidates(models: Sequence[str], given: Given, *, sets: bool = False) -> tuple[Candidate, ...]:
    runtimes = to_words(given.get("runtime"))
    paths = expand_folders(models, runtimes)
    read = read_models(paths, sets=sets)
    return pair_candidates([read[path] for path in paths], runtimes, given.get("option", ()))


def _find_inputs(given: Given) -> str | None:
    return str(Path(given["inputs"]).absolute()) if given.get("inputs") else None


def plan_compile(model: str, given: Given) -> CompilePlan:
    names, inputs = _choose_compilers(to_words(given.get("runtime"))), _find_inputs(given)
    options = split_compile_options(given.get("option", ()), names)
    sizes = expand_sizes(convert("shape", given.get("shapes"), to_shape_choices))
    return make_plan(
        CompilePlan,
        given,
        shapes=sizes[0] if len(sizes) == 1 else {},
        sizes=sizes if len(sizes) > 1 else (),
        source=model,
        cells=plan_cells(names, to_words(given.get("precision")), options, read_source_precision(model)),
        inputs=inputs,
        inputs_sha256=hash_npz(inputs),
        metadata=make_model_metadata(_load_task(given), model) if given.get("task") else None,
    )


def _choose_compilers(words: list[str]) -> list[str]:
    """Return the named runtimes; all with a compiler for `all`; without a name, the installed ones of these."""
    compiling = [info for info in TABLE.values() if info.writes and info.reads and info.name != TEST_RUNTIME]
    if words and "all" not in words:
        return words
    return [info.name for info in compiling if words or examine_runtime(info).usable]


def plan_evaluation(models: Sequence[str], given: Given) -> EvaluatePlan:
    example = "edgewright evaluate MODEL --task task.toml --data DATA"
    if not models:
        raise UsageError("no model is given", "an evaluation needs at least one model or artifact", example)
    if "task" not in given:
        raise UsageError(
            "no task is given",
            "the task describes the model's inputs and outputs",
            "edgewright task init MODEL -o task.toml, then --task task.toml",
        )
    if "data" not in given:
        raise UsageError("no data is given", "an evaluation needs labeled samples", example)
    return make_plan(EvaluatePlan, given, **_read_task(given), candidates=_list_candidates(models, given, sets=True))


def _read_task(given: Given) -> dict[str, Any]:
    """Return the task, and the functions that may run: those named as data, and the task's metric.

    Raises ConfigError if the task is not valid, or its metric is code that the user did not allow.
    """
    task = _load_task(given)
    values = [str(given[name]) for name in ("data", "eval_data", "val", "public", "replay") if given.get(name)]
    code = [value for value in values if is_function(value) and not Path(value).exists()]
    if ":" in task.metric:
        if not given.get("allow_code"):
            where = "the task" if isinstance(given["task"], Task) else given["task"]
            raise make_code_rejection(task.metric, f"{where}: metric")
        code.append(task.metric)
    return {"task": msgspec.to_builtins(task), "code": tuple(dict.fromkeys(code))}


def _load_task(given: Given) -> Task:
    task = given["task"]
    if not isinstance(task, Task | str):
        raise UsageError(f"task= is a {type(task).__name__}", "it is a path, or an edgewright.Task", "--task task.toml")
    return task if isinstance(task, Task) else read_task(Path(task))


def plan_quantization(model: str, given: Given) -> QuantizePlan:
    if not given.get("qat"):
        _reject_unused(given, QAT_OPTIONS, "without --qat, nothing is trained", "add --qat, or omit the option")
    why = "calibration and evaluation require it"
    _check_present(given, {"task": "--task"}, why, "edgewright task init MODEL -o task.toml, then --task task.toml")
    _check_present(given, {"data": "--data"}, why, "--data DATA: a folder, .zip or .npz, see docs/evaluate.md")
    words = to_words(given.get("runtime")) or ["onnxruntime", "litert"]
    return make_plan(
        QuantizePlan,
        given,
        source=model,
        runtimes=tuple(dict.fromkeys(find_runtime(word).name for word in words)),
        precision=_read_precision(given.get("precision", "w8a8")),
        **_read_task(given),
        recipe=write_recipe(read_recipe(Path(given["recipe"]))) if "recipe" in given else "",
        qat=QAT_DEFAULTS | _list_settings(given) if given.get("qat") else None,
    )


def _read_precision(given: str) -> str:
    word = normalize_word(given)
    word = PRECISION_ALIASES.get(word, word)
    if word == "bf16":
        why = "Edgewright has no compiler to bf16, and no supported CPU backend runs a whole network in bf16"
        raise UsageError(
            "--precision bf16 is not supported", why, "--precision fp16, which has the same size and is more exact"
        )
    if word not in QUANTIZED_PRECISIONS:
        raise UsageError(
            f"unknown precision: {given}{suggest(word, QUANTIZED_PRECISIONS)}",
            f"supported precisions: {', '.join(QUANTIZED_PRECISIONS)}",
            "--precision w8a8",
        )
    return word


def plan_pruning(model: str, given: Given) -> PrunePlan:
    _check_pruning(model, given)
    needed = {"task": "--task", "val": "--val"}
    for name, flag in needed.items():
        _check_present(given, {name: flag}, "the evaluation of the result requires it", f"{flag} …, see docs/prune.md")
    importance = given.get("importance") or ("taylor" if _can_train(model, given) else "l2")
    return make_plan(PrunePlan, given, source=model, importance=importance, **_read_experiment(given))


def _check_pruning(model: str, given: Given) -> None:
    """Raise UsageError for options of another method or source."""
    if given.get("method", "structured") == "structured":
        why = "the option is for --method unstructured"
        _reject_unused(given, UNSTRUCTURED_OPTIONS, why, "add --method unstructured, or use --target-speedup 1.5")
    else:
        why = "the option is for --method structured"
        _reject_unused(given, STRUCTURED_OPTIONS, why, "omit it, or use --method structured")
    if ".py:" not in model:
        why = "only a torch source (FILE.py:FACTORY with --weights) can be fine-tuned"
        _reject_unused(given, ("data", *PRUNE_TRAINING_OPTIONS), why, "omit it to prune without fine-tuning")
    elif not given.get("data"):
        _reject_unused(given, PRUNE_TRAINING_OPTIONS, "without --data, nothing is trained", "--data train.zip")
    if (importance := given.get("importance")) in GRADIENT_CRITERIA and not _can_train(model, given):
        why = f"{importance} importance requires gradients, and without training there are none"
        _reject_unused(given, ("importance",), why, "use --importance l2, or a torch source with --data")
    if not given.get("distill", True):
        why = "--no-distill disables distillation from the source model"
        _reject_unused(given, DISTILLATION_OPTIONS, why, "omit --no-distill")


def _can_train(model: str, given: Given) -> bool:
    """Return whether a pruned network can be fine-tuned."""
    return ".py:" in model and bool(given.get("data"))


def plan_distillation(given: Given) -> DistillPlan:
    needed = {"teacher": "--teacher", "student": "--student", "task": "--task", "data": "--data", "val": "--val"}
    _check_present(given, needed, "distillation requires it", "see docs/distill.md")
    return make_plan(DistillPlan, given, **_read_experiment(given))


def plan_personalization(given: Given) -> PersonalizePlan:
    needed = {"task": "--task", "data": "--data", "val": "--val", "public": "--public"}
    given = {**given, "task": given.get("task", given.get("task_file"))}
    _check_present(given, needed, "the training for a user requires it", "see docs/personalize.md")
    named = {name: given[name] for name in PersonalizePlan.__struct_fields__ if given.get(name) is not None}
    return _check_bounds(make_plan(PersonalizePlan, {}, **(named | _read_task(given))))


def plan_federation(given: Given) -> FederatePlan:
    given = {**given, "task": given.get("task", given.get("task_file"))}
    settings = {name: given[name] for name in RoundSettings.__struct_fields__ if name in given}
    named = {name: given[name] for name in FederatePlan.__struct_fields__ if given.get(name) is not None}
    plan = make_plan(FederatePlan, {}, **(named | _read_task(given)))
    return _check_bounds(msgspec.structs.replace(plan, settings=RoundSettings(**settings)))


def _check_bounds(plan: PlanT) -> PlanT:
    """Return the plan. Raises UsageError for a number that is too small or too large."""
    try:
        return msgspec.convert(msgspec.to_builtins(plan), type(plan))
    except msgspec.ValidationError as error:
        what, _, name = str(error).partition(" - at `$.")
        flag = name.rstrip("`").replace("_", "-")
        raise UsageError(f"--{flag} cannot be used", what, "edgewright help shows the default") from None


def _read_experiment(given: Given) -> dict[str, Any]:
    """Return the fields that plans of pruning and distillation share."""
    runtime = find_runtime(given.get("runtime", "onnxruntime")).name
    return {"runtime": runtime, "settings": _read_settings(given), **_read_task(given)}


def _check_present(given: Given, needed: Mapping[str, str], why: str, hint: str) -> None:
    for name, flag in needed.items():
        if not given.get(name):
            raise UsageError(f"{flag} is missing", why, hint)


def _reject_unused(given: Given, names: Sequence[str], why: str, hint: str) -> None:
    """Raise UsageError if one of these options was given but has no effect."""
    for name in given:
        if name in names:
            raise UsageError(f"--{name.replace('_', '-')} has no effect here", why, hint)


def _list_settings(given: Given) -> dict[str, Any]:
    named = {"seed": 0, **given}
    return {SETTING_NAMES.get(name, name): named[name] for name in TRAINING_SETTINGS if name in named}


def _read_settings(given: Given) -> dict[str, Any]:
    """Return the training settings that were given; the others keep the defaults of `training.job.Settings`."""
    settings = _list_settings(given)
    if settings.get("optimizer") == "adamw":
        settings.setdefault("lr", 0.001)
    return settings
