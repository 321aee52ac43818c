"""From what the user typed to a plan that says everything: candidates, hashes, checked options and inputs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from edgewright.bench.feeds import Array, fix_shapes, make_feeds, read_feeds
from edgewright.errors import ConfigError, InputError, UsageError
from edgewright.facts.model import Model
from edgewright.facts.plan import BenchmarkPlan, Candidate
from edgewright.formats.files import hash_file, read_model
from edgewright.runtimes.table import TABLE, RuntimeInfo, check_options, runtime_info

# What lies outside is a slip of the finger; some of it would break a clock, or never end.
BOUNDS: dict[str, tuple[float, float]] = {
    "threads": (1, 1024),
    "runs": (1, 1_000_000),
    "seconds": (0.001, 86_400),
    "processes": (1, 10_000),
    "seed": (0, 2**63 - 1),
    "warmup_seconds": (0.001, 86_400),
    "timeout_s": (0.001, 1_000_000),
    "layer_runs": (1, 1_000_000),
    "threshold": (0, 10),
    "power_w": (0.001, 1_000_000),
}
FLAGS = {"timeout_s": "timeout"}


def pair_candidates(models: Sequence[Model], runtimes: Sequence[str], options: Sequence[str]) -> tuple[Candidate, ...]:
    """Every model in every named runtime that reads its format; without names, in the runtime made for the format.

    UsageError where a runtime reads none of the models, or a model is read by none of the runtimes.
    """
    infos = list(dict.fromkeys(map(runtime_info, runtimes)))  # `ort` and `onnxruntime` are one
    found = [
        (model, info) for model in models for info in infos or [native_runtime(model)] if model.format in info.reads
    ]
    check_all_used(models, infos, found)
    wishes = split_options(options, list(dict.fromkeys(info for _, info in found)))
    return tuple(
        Candidate(model=model.path, model_sha256=model.sha256, runtime=info.name, options=wishes[info.name])
        for model, info in found
    )


def native_runtime(model: Model) -> RuntimeInfo:
    return next(info for info in TABLE.values() if model.format in info.reads)


def check_all_used(
    models: Sequence[Model], infos: Sequence[RuntimeInfo], found: Sequence[tuple[Model, RuntimeInfo]]
) -> None:
    for model in models:
        if not any(other is model for other, _ in found):
            readers = [info.name for info in TABLE.values() if model.format in info.reads and info.name != "pretend"]
            raise UsageError(
                f"{model.name} cannot run in {', '.join(info.name for info in infos)}",
                f"it is {model.format}, which {', '.join(readers) or 'no runtime'} reads",
                f"--runtime {readers[0]}" if readers else "convert it first",
            )
    for info in infos:
        if not any(other is info for _, other in found):
            raise UsageError(
                f"nothing to run in {info.name}",
                f"it reads {' and '.join(info.reads)} files, and none of the models is one",
                "leave it out, or add a model in that format",
            )


def split_options(options: Sequence[str], infos: Sequence[RuntimeInfo]) -> dict[str, dict[str, str]]:
    """`key=value` goes to each chosen runtime that knows the key, `runtime.key=value` to that one alone."""
    result: dict[str, dict[str, str]] = {info.name: {} for info in infos}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or not key:
            raise UsageError(f"-p {option} is not key=value", "", "-p optimization=basic")
        put_option(key.strip().lower().replace("_", "-"), value.strip(), infos, result)
    for info in infos:
        check_options(info, result[info.name])
    return result


def put_option(key: str, value: str, infos: Sequence[RuntimeInfo], result: dict[str, dict[str, str]]) -> None:
    name, dot, rest = key.partition(".")
    if dot:
        owner = runtime_info(name).name
        if owner not in result:
            raise UsageError(f"-p {key}: {owner} is not among the chosen runtimes", f"chosen: {', '.join(result)}")
        result[owner][rest] = value
        return
    knowing = [info for info in infos if any(option.name == key for option in info.options)]
    for info in knowing or infos:  # where nobody knows it, the check names what is known
        result[info.name][key] = value


def read_plan(path: Path) -> BenchmarkPlan:
    """A plan file, as --dry-run prints it; ConfigError says what is wrong with it."""
    try:
        plan = msgspec.json.decode(path.read_bytes(), type=BenchmarkPlan)
    except FileNotFoundError:
        raise ConfigError(
            f"there is no plan file {path}", "", "edgewright benchmark MODEL --dry-run > FILE writes one"
        ) from None
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(
            f"{path} is not a plan", str(error), "edgewright benchmark MODEL --dry-run shows one"
        ) from None
    return check_plan(plan)


def check_number(name: str, value: float | None) -> None:
    """UsageError for a number of a plan that lies outside of `BOUNDS`, or is not a number; None passes."""
    low, high = BOUNDS[name]
    flag = f"--{FLAGS.get(name, name).replace('_', '-')}"
    if value is not None and not low <= value <= high:
        near = high if value > high else low
        raise UsageError(f"{flag} {value} cannot be used", f"it must be from {low} to {high}", f"{flag} {near}")


def check_plan(plan: BenchmarkPlan) -> BenchmarkPlan:
    """The plan itself; UsageError for a value that no benchmark can have."""
    for name in BOUNDS:
        check_number(name, getattr(plan, name))
    for name, sizes in plan.shapes.items():
        if any(size < 1 for size in sizes):
            raise InputError(f"--shape {name}={','.join(map(str, sizes))} cannot be used", "sizes begin at 1")
    if any(number < 0 for number in plan.affinity):
        raise UsageError(f"--affinity {min(plan.affinity)} cannot be used", "processors are counted from 0")
    if not plan.candidates:
        raise UsageError("the plan has no candidates", "", "edgewright benchmark MODEL")
    if plan.schema != BenchmarkPlan.__struct_defaults__[0]:
        raise ConfigError(
            f"the plan has schema {plan.schema}",
            "this Edgewright knows edgewright.plan/1",
            "install the version that wrote it",
        )
    for candidate in plan.candidates:
        check_options(runtime_info(candidate.runtime), candidate.options)
    return plan


def fill_hashes(plan: BenchmarkPlan, models: Mapping[str, Model]) -> BenchmarkPlan:
    """The plan with the content hashes of its models and inputs; ConfigError where a recorded hash differs."""
    candidates = []
    for candidate in plan.candidates:
        actual = models[candidate.model].sha256
        if candidate.model_sha256 not in ("", actual):
            raise ConfigError(
                f"{candidate.model} is not the model of the plan",
                f"its hash is {actual[:12]}…, the plan says {candidate.model_sha256[:12]}…",
                "use the model that the plan was made with, or remove model_sha256 from the plan",
            )
        candidates.append(msgspec.structs.replace(candidate, model_sha256=actual))
    inputs = hash_inputs(plan)
    if plan.inputs_sha256 not in ("", inputs):
        raise ConfigError(
            f"{plan.inputs or 'no --inputs file'} is not the inputs of the plan",
            f"its hash is {inputs[:12] or 'none'}…, the plan says {plan.inputs_sha256[:12]}…",
            "use the inputs that the plan was made with, or remove inputs_sha256 from the plan",
        )
    return msgspec.structs.replace(plan, candidates=tuple(candidates), inputs_sha256=inputs)


def hash_inputs(plan: BenchmarkPlan) -> str:
    if plan.inputs is None:
        return ""
    path = Path(plan.inputs)
    if not path.is_file():
        raise InputError(f"there is no file {path}", "", "check the path given to --inputs")
    try:
        return hash_file(path)
    except OSError as error:
        raise InputError(f"{path} cannot be opened", error.strerror or str(error)) from None


def read_models(paths: Sequence[str]) -> dict[str, Model]:
    """Each model once, by the path it was named with."""
    return {path: read_model(Path(path)) for path in dict.fromkeys(paths)}


def check_shape_names(plan: BenchmarkPlan, models: Mapping[str, Model]) -> None:
    names = {spec.name for model in models.values() for spec in model.signature.inputs}
    if strangers := plan.shapes.keys() - names:
        raise InputError(
            f"--shape {min(strangers)}: no model has such an input",
            f"inputs are {', '.join(sorted(names))}",
            "use one of these names",
        )


def model_feeds(model: Model, plan: BenchmarkPlan) -> dict[str, Array]:
    """What this model is fed with under this plan."""
    if plan.inputs is not None:
        return read_feeds(Path(plan.inputs), model.signature)
    names = {spec.name for spec in model.signature.inputs}
    shapes = fix_shapes(model.signature, {name: shape for name, shape in plan.shapes.items() if name in names})
    return make_feeds(model.signature, shapes, plan.seed)


def free_shapes(model: Model, feeds: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
    """Sizes for the inputs that the file leaves free."""
    return {
        spec.name: feeds[spec.name].shape
        for spec in model.signature.inputs
        if any(isinstance(size, str) for size in spec.shape)
    }
