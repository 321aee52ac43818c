"""From what the user typed to a plan that says everything: candidates, hashes, checked options and inputs."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from platform import system

import msgspec

from edgewright.bench.feeds import Array, make_feeds, read_feeds, resolve_shapes
from edgewright.errors import ConfigError, DeviceUnreachable, InputError, ModelNotFound, ModelUnreadable, UsageError
from edgewright.formats.artifacts import find_record, list_records
from edgewright.formats.files import hash_file, read_model
from edgewright.runtimes.table import TABLE, Option, RuntimeInfo, check_compile_options, check_options, find_runtime
from edgewright.schema.model import Model, Signature
from edgewright.schema.plan import BenchmarkPlan, Candidate
from edgewright.tasks.data.ports import feed_artifact

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
MAX_PLAN_BYTES = 16 << 20


def pair_candidates(models: Sequence[Model], runtimes: Sequence[str], options: Sequence[str]) -> tuple[Candidate, ...]:
    """Every model in every named runtime that reads its format; without names, in the runtime made for the format.

    UsageError where a runtime reads none of the models, or a model is read by none of the runtimes.
    """
    infos = list(dict.fromkeys(map(find_runtime, runtimes)))  # `ort` and `onnxruntime` are one
    found = [
        (model, info)
        for model in models
        for info in infos or [find_native_runtime(model)]
        if model.format in info.reads
    ]
    _check_all_used(models, infos, found)
    options_by_runtime = split_options(options, list(dict.fromkeys(info for _, info in found)))
    return tuple(
        Candidate(model=model.path, model_sha256=model.sha256, runtime=info.name, options=options_by_runtime[info.name])
        for model, info in found
    )


def find_native_runtime(model: Model) -> RuntimeInfo:
    """The runtime that was made for the model's format: the first of the table that reads it."""
    found = next((info for info in TABLE.values() if model.format in info.reads), None)
    if found is None:
        known = ", ".join(sorted({name for info in TABLE.values() if info.name != "pretend" for name in info.reads}))
        raise ModelUnreadable(
            f"{model.name} cannot run in any runtime",
            f"its format is '{model.format[:60]}', and runtimes read {known}",
            "compile the model again",
        )
    return found


def choose_runtime(path: Path, word: str) -> RuntimeInfo:
    """The runtime that a model shall run in: the one named, the artifact's own, or the one made for its format."""
    if word:
        return find_runtime(word)
    record = find_record(path)
    return find_runtime(record.runtime) if record else find_native_runtime(read_model(path))


def check_reads(info: RuntimeInfo, model: Model) -> None:
    """UsageError for a runtime that does not read the model's format, as a plan or a record may name one."""
    _check_all_used([model], [info], [(model, info)] if model.format in info.reads else [])


def check_runs_here(info: RuntimeInfo) -> None:
    """DeviceUnreachable for a runtime that this system does not have."""
    if info.systems and system() not in info.systems:
        where = " or ".join("macOS" if name == "Darwin" else name for name in info.systems)
        raise DeviceUnreachable(
            f"{info.title} cannot run on this machine",
            f"it is part of {where}, and this is {system()}",
            f"compile it here, and run it on a machine with {where}",
        )


def _check_all_used(
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
    result = _distribute_options(options, {info.name: info.options for info in infos})
    for info in infos:
        check_options(info, result[info.name])
    return result


def split_compile_options(options: Sequence[str], runtimes: Sequence[str]) -> dict[str, dict[str, str]]:
    """The same for the options of compilers."""
    infos = list(dict.fromkeys(map(find_runtime, runtimes)))
    result = _distribute_options(options, {info.name: info.compile_options for info in infos})
    for info in infos:
        check_compile_options(info, result[info.name])
    return result


def _distribute_options(options: Sequence[str], declared: Mapping[str, Sequence[Option]]) -> dict[str, dict[str, str]]:
    """What was given, by runtime; `declared` are the options of the chosen ones."""
    result: dict[str, dict[str, str]] = {name: {} for name in declared}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or not key:
            raise UsageError(f"-p {option} is not key=value", "", "-p optimization=basic")
        _assign_option(key.strip().lower().replace("_", "-"), value.strip(), declared, result)
    return result


def _assign_option(
    key: str, value: str, declared: Mapping[str, Sequence[Option]], result: dict[str, dict[str, str]]
) -> None:
    name, dot, rest = key.partition(".")
    if dot:
        owner = find_runtime(name).name
        if owner not in result:
            raise UsageError(f"-p {key}: {owner} is not among the chosen runtimes", f"chosen: {', '.join(result)}")
        result[owner][rest] = value
        return
    knowing = [runtime for runtime, options in declared.items() if any(option.name == key for option in options)]
    for runtime in knowing or declared:  # where nobody knows it, the check names what is known
        result[runtime][key] = value


def read_plan(path: Path) -> BenchmarkPlan:
    """A plan file, as --dry-run prints it; ConfigError says what is wrong with it."""
    try:
        with path.open("rb") as file:  # a pipe will do
            plan = msgspec.json.decode(file.read(MAX_PLAN_BYTES), type=BenchmarkPlan)
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
        check_options(find_runtime(candidate.runtime), candidate.options)
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
    inputs = _hash_inputs(plan)
    if plan.inputs_sha256 not in ("", inputs):
        raise ConfigError(
            f"{plan.inputs or 'no --inputs file'} is not the inputs of the plan",
            f"its hash is {inputs[:12] or 'none'}…, the plan says {plan.inputs_sha256[:12]}…",
            "use the inputs that the plan was made with, or remove inputs_sha256 from the plan",
        )
    return msgspec.structs.replace(plan, candidates=tuple(candidates), inputs_sha256=inputs)


def _hash_inputs(plan: BenchmarkPlan) -> str:
    return hash_npz(plan.inputs)


def hash_npz(inputs: str | None) -> str:
    """The hash of the user's inputs; empty where there are none."""
    if inputs is None:
        return ""
    path = Path(inputs)
    if not path.is_file():
        raise InputError(
            f"there is no file {path}",
            "a relative path starts in the current folder",
            "check the path given to --inputs",
        )
    try:
        return hash_file(path)
    except OSError as error:
        raise InputError(f"{path} cannot be opened", error.strerror or str(error)) from None


def read_models(paths: Sequence[str]) -> dict[str, Model]:
    """Each model once, by the path it was named with."""
    return {path: read_model(Path(path)) for path in dict.fromkeys(paths)}


def check_shape_names(plan: BenchmarkPlan, models: Mapping[str, Model]) -> None:
    names = {spec.name for model in models.values() for spec in read_source_signature(model).inputs}
    if unexpected := plan.shapes.keys() - names:
        raise InputError(
            f"--shape {min(unexpected)}: no model has such an input",
            f"inputs are {', '.join(sorted(names))}",
            "use one of these names",
        )


def read_source_signature(model: Model) -> Signature:
    """The signature that the user knows: an artifact is fed by the names and layouts of its source."""
    record = find_record(Path(model.path))
    return record.source.signature if record else model.signature


def make_model_feeds(model: Model, plan: BenchmarkPlan) -> dict[str, Array]:
    """What this model is fed with under this plan; all artifacts of one source with the same values."""
    record = find_record(Path(model.path))
    feeds = _make_source_feeds(record.source.signature if record else model.signature, plan)
    return feed_artifact(feeds, record.io_map) if record else feeds


def _make_source_feeds(signature: Signature, plan: BenchmarkPlan) -> dict[str, Array]:
    if plan.inputs is not None:
        return read_feeds(Path(plan.inputs), signature)
    names = {spec.name for spec in signature.inputs}
    shapes = resolve_shapes(signature, {name: shape for name, shape in plan.shapes.items() if name in names})
    return make_feeds(signature, shapes, plan.seed)


def expand_folders(paths: Sequence[str], runtimes: Sequence[str]) -> list[str]:
    """Every folder replaced by the artifacts in it that can run here and, where runtimes are named, in those."""
    wanted = {find_runtime(word).name for word in runtimes}
    found: list[str] = []
    for path in paths:
        if not Path(path).is_dir() or Path(path).suffix == ".mlpackage":
            found.append(path)
            continue
        records = [(main, record) for main, record in list_records(Path(path)) if main.exists()]
        fitting = [str(main) for main, record in records if can_run(record.runtime, wanted)]
        if not fitting:
            held = ", ".join(main.name for main, _ in records)
            raise ModelNotFound(
                f"{path} holds no artifact that can be run",
                f"it holds {held}" if held else "no record of an artifact lies in it",
                f"edgewright compile MODEL -o {path}",
            )
        found += fitting
    return found


def can_run(runtime: str, wanted: Collection[str]) -> bool:
    systems = find_runtime(runtime).systems
    return (not wanted or runtime in wanted) and (not systems or system() in systems)


def get_free_shapes(model: Model, feeds: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
    """Sizes for the inputs that the file leaves free."""
    return {
        spec.name: feeds[spec.name].shape
        for spec in model.signature.inputs
        if any(isinstance(size, str) for size in spec.shape)
    }
