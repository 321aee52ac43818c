"""Complete plans from user input: candidates, hashes, checked options and inputs."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from platform import system
from shlex import quote

import msgspec

from edgewright.bench.feeds import make_feeds, make_fixed, read_feeds, read_shapes, resolve_shapes
from edgewright.errors import ConfigError, DeviceUnreachable, InputError, ModelNotFound, ModelUnreadable, UsageError
from edgewright.formats.artifact_sets import choose_artifact, is_set, list_artifacts, read_set_model
from edgewright.formats.artifacts import find_record, list_records
from edgewright.formats.files import hash_file, read_model
from edgewright.runtimes.table import TABLE, Option, RuntimeInfo, check_compile_options, check_options, find_runtime
from edgewright.schema.arrays import Array
from edgewright.schema.model import Model, Signature
from edgewright.schema.plan import BenchmarkPlan, Candidate
from edgewright.schema.text import suggest
from edgewright.tasks.data.ports import feed_artifact

# Values outside are typing errors; some would overflow a timer or never end.
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
    "sustain_seconds": (0, 86_400),
    "rate": (0.01, 100_000),
    "cool_below": (-50, 150),
}
# Options of `benchmark` that are not named as their field of the plan.
FLAGS = {"timeout_s": "timeout", "device": "on", "sustain_seconds": "sustain"}
MAX_PLAN_BYTES = 16 << 20


def pair_candidates(models: Sequence[Model], runtimes: Sequence[str], options: Sequence[str]) -> tuple[Candidate, ...]:
    """Pair every model with every named runtime that reads its format, or with the format's default runtime.

    Raises UsageError if a runtime reads none of the models, or no runtime reads a model.
    """
    infos = list(dict.fromkeys(map(find_runtime, runtimes)))  # aliases name the same runtime
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
    """Return the default runtime of the model's format: the first of the table that reads it."""
    found = next((info for info in TABLE.values() if model.format in info.reads), None)
    if found is None:
        known = ", ".join(sorted({name for info in TABLE.values() if info.name != "pretend" for name in info.reads}))
        raise ModelUnreadable(
            f"{model.name} is not supported by any runtime",
            f"its format is '{model.format[:60]}'; the runtimes read {known}",
            "compile the model again",
        )
    return found


def choose_runtime(path: Path, word: str) -> RuntimeInfo:
    """Return the runtime for a model: the named one, the artifact's own, or the default of its format."""
    if word:
        return find_runtime(word)
    record = find_record(path)
    return find_runtime(record.runtime) if record else find_native_runtime(read_model(path))


def check_reads(info: RuntimeInfo, model: Model) -> None:
    """Raise UsageError if the runtime does not read the model's format."""
    _check_all_used([model], [info], [(model, info)] if model.format in info.reads else [])


def check_runs_here(info: RuntimeInfo) -> None:
    """Raise DeviceUnreachable if the runtime does not exist on this system."""
    if info.systems and system() not in info.systems:
        where = " or ".join("macOS" if name == "Darwin" else name for name in info.systems)
        raise DeviceUnreachable(
            f"{info.title} cannot run on this machine",
            f"it is part of {where}; this machine runs {system()}",
            f"compile the model here, and run it on a machine with {where}",
        )


def _check_all_used(
    models: Sequence[Model], infos: Sequence[RuntimeInfo], found: Sequence[tuple[Model, RuntimeInfo]]
) -> None:
    for model in models:
        if not any(other is model for other, _ in found):
            readers = [info.name for info in TABLE.values() if model.format in info.reads and info.name != "pretend"]
            raise UsageError(
                f"{model.name} is not supported by {', '.join(info.name for info in infos)}",
                f"its format is {model.format}, which {', '.join(readers) or 'no runtime'} reads",
                f"choose --runtime {readers[0]}" if readers else "convert the model first",
            )
    for info in infos:
        if not any(other is info for _, other in found):
            raise UsageError(
                f"no model can run in {info.name}",
                f"it reads {' and '.join(info.reads)} files, and no model has this format",
                "remove the runtime, or add a model in that format",
            )


def split_options(options: Sequence[str], infos: Sequence[RuntimeInfo]) -> dict[str, dict[str, str]]:
    """Return the options by runtime.

    `key=value` applies to each runtime that has the key, `runtime.key=value` to that one.
    """
    result = _distribute_options(options, {info.name: info.options for info in infos})
    for info in infos:
        check_options(info, result[info.name])
    return result


def split_compile_options(options: Sequence[str], runtimes: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return the compile options by runtime, as `split_options` does."""
    infos = list(dict.fromkeys(map(find_runtime, runtimes)))
    result = _distribute_options(options, {info.name: info.compile_options for info in infos})
    for info in infos:
        check_compile_options(info, result[info.name])
    return result


def _distribute_options(options: Sequence[str], declared: Mapping[str, Sequence[Option]]) -> dict[str, dict[str, str]]:
    """Return the given options by runtime; `declared` are the options of the chosen runtimes."""
    result: dict[str, dict[str, str]] = {name: {} for name in declared}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or not key:
            raise UsageError(f"-p {option} is not of the form KEY=VALUE", "", "write it like -p optimization=basic")
        _assign_option(key.strip().lower().replace("_", "-"), value.strip(), declared, result)
    return result


def _assign_option(
    key: str, value: str, declared: Mapping[str, Sequence[Option]], result: dict[str, dict[str, str]]
) -> None:
    name, dot, rest = key.partition(".")
    if dot:
        owner = find_runtime(name).name
        if owner not in result:
            raise UsageError(
                f"-p {key}: runtime {owner} was not chosen", f"the chosen runtimes are {', '.join(result)}"
            )
        result[owner][rest] = value
        return
    knowing = [runtime for runtime, options in declared.items() if any(option.name == key for option in options)]
    for runtime in knowing or declared:  # an unknown key is reported later, with the known ones
        result[runtime][key] = value


def read_plan(path: Path) -> BenchmarkPlan:
    """Read a plan file as printed by --dry-run; ConfigError if it is not valid."""
    try:
        with path.open("rb") as file:  # a pipe is allowed
            plan = msgspec.json.decode(file.read(MAX_PLAN_BYTES), type=BenchmarkPlan)
    except FileNotFoundError:
        raise ConfigError(
            f"plan file not found: {path}", "", "write one with edgewright benchmark MODEL --dry-run > FILE"
        ) from None
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(
            f"{path} is not a plan", str(error), "print a valid one with edgewright benchmark MODEL --dry-run"
        ) from None
    return check_plan(plan)


def get_flag(name: str) -> str:
    """Return the option of `benchmark` that sets a field of its plan."""
    return f"--{FLAGS.get(name, name).replace('_', '-')}"


def check_number(name: str, value: float | None) -> None:
    """Raise UsageError if a number of a plan is outside of `BOUNDS` or NaN; None passes."""
    low, high = BOUNDS[name]
    flag = get_flag(name)
    if value is not None and not low <= value <= high:
        near = high if value > high else low
        raise UsageError(f"{flag} {value} cannot be used", f"it must be from {low} to {high}", f"{flag} {near}")


def check_plan(plan: BenchmarkPlan) -> BenchmarkPlan:
    """Return the plan after checking it; UsageError for a value that no benchmark can have."""
    for name in BOUNDS:
        check_number(name, getattr(plan, name))
    for name, sizes in plan.shapes.items():
        if any(size < 1 for size in sizes):
            raise InputError(f"--shape {name}={','.join(map(str, sizes))} cannot be used", "sizes must be at least 1")
    if any(number < 0 for number in plan.affinity):
        raise UsageError(f"--affinity {min(plan.affinity)} cannot be used", "processor numbers start at 0")
    if not plan.candidates:
        raise UsageError("the plan has no candidates", "", "edgewright benchmark MODEL")
    if plan.schema != BenchmarkPlan.__struct_defaults__[0]:
        raise ConfigError(
            f"the plan has schema {plan.schema}",
            "this version of Edgewright reads edgewright.plan/1",
            "install the Edgewright version that wrote it",
        )
    for candidate in plan.candidates:
        check_options(find_runtime(candidate.runtime), candidate.options)
    return plan


def fill_hashes(plan: BenchmarkPlan, models: Mapping[str, Model]) -> BenchmarkPlan:
    """Return the plan with the content hashes of its models and inputs; ConfigError if a recorded hash differs."""
    candidates = []
    for candidate in plan.candidates:
        actual = models[candidate.model].sha256
        if candidate.model_sha256 not in ("", actual):
            raise ConfigError(
                f"{candidate.model} is not the model in the plan",
                f"its hash is {actual[:12]}…, but the plan has {candidate.model_sha256[:12]}…",
                "use the model that the plan was made with, or remove model_sha256 from the plan",
            )
        candidates.append(msgspec.structs.replace(candidate, model_sha256=actual))
    inputs = _hash_inputs(plan)
    if plan.inputs_sha256 not in ("", inputs):
        raise ConfigError(
            f"{plan.inputs or 'no --inputs file'} differs from the inputs in the plan",
            f"its hash is {inputs[:12] or 'none'}…, but the plan has {plan.inputs_sha256[:12]}…",
            "use the inputs that the plan was made with, or remove inputs_sha256 from the plan",
        )
    return msgspec.structs.replace(plan, candidates=tuple(candidates), inputs_sha256=inputs)


def _hash_inputs(plan: BenchmarkPlan) -> str:
    return hash_npz(plan.inputs)


def hash_npz(inputs: str | None) -> str:
    """Return the hash of the user's inputs; empty without inputs."""
    if inputs is None:
        return ""
    path = Path(inputs)
    if not path.is_file():
        raise InputError(
            f"file not found: {path}",
            "a relative path is resolved from the current folder",
            "check the path given to --inputs",
        )
    try:
        return hash_file(path)
    except OSError as error:
        raise InputError(f"{path} cannot be opened", error.strerror or str(error)) from None


def read_models(paths: Sequence[str], *, sets: bool = False) -> dict[str, Model]:
    """Read each model once, by the given path; with `sets`, a set file is one model with dynamic sizes."""
    return {
        path: read_set_model(Path(path)) if sets and is_set(Path(path)) else read_model(Path(path))
        for path in dict.fromkeys(paths)
    }


def expand_sets(paths: Sequence[str], shapes: Mapping[str, tuple[int, ...]], inputs: str | None) -> list[str]:
    """Replace every set file by its artifacts that take these shapes, or the shapes of these inputs."""
    found: list[str] = []
    for path in paths:
        if not is_set(Path(path)):
            found.append(path)
        elif inputs is None:
            found += map(str, list_artifacts(Path(path), shapes))
        else:
            found.append(str(choose_artifact(Path(path), read_shapes(Path(inputs)))))
    return found


def check_shape_names(plan: BenchmarkPlan, models: Mapping[str, Model]) -> None:
    check_input_names("--shape", plan.shapes, models)
    check_input_names("--fix", plan.fixed, models)


def check_input_names(flag: str, given: Mapping[str, object], models: Mapping[str, Model]) -> None:
    """Raise InputError for a name that no model has as an input."""
    names = {spec.name for model in models.values() for spec in read_source_signature(model).inputs}
    if unexpected := given.keys() - names:
        raise InputError(
            f"{flag} {min(unexpected)}: no model has this input{suggest(min(unexpected), names)}",
            f"the inputs are {', '.join(sorted(names))}",
            "use one of these names",
        )


def read_source_signature(model: Model) -> Signature:
    """Return the signature of the source, since an artifact's inputs go by its source's names and layouts."""
    record = find_record(Path(model.path))
    return record.source.signature if record else model.signature


def make_model_feeds(model: Model, plan: BenchmarkPlan) -> dict[str, Array]:
    """Return the inputs of a model under this plan; all artifacts of one source get the same values."""
    record = find_record(Path(model.path))
    feeds = _make_source_feeds(record.source.signature if record else model.signature, plan)
    return feed_artifact(feeds, record.io_map) if record else feeds


def _make_source_feeds(signature: Signature, plan: BenchmarkPlan) -> dict[str, Array]:
    inputs = {spec.name: spec for spec in signature.inputs}
    shapes = {name: shape for name, shape in plan.shapes.items() if name in inputs}
    values = {name: numbers for name, numbers in plan.fixed.items() if name in inputs}
    fixed = make_fixed(signature, shapes, values)
    own = Signature(inputs=tuple(spec for name, spec in inputs.items() if name not in fixed), outputs=())
    if plan.inputs is not None:
        return {**read_feeds(Path(plan.inputs), own), **fixed}
    return {**make_feeds(own, resolve_shapes(own, shapes), plan.seed), **fixed}


def expand_folders(paths: Sequence[str], runtimes: Sequence[str]) -> list[str]:
    """Replace every folder by the artifacts in it that can run here in the named runtimes, or in any."""
    requested = {find_runtime(word).name for word in runtimes}
    found: list[str] = []
    for path in paths:
        if not Path(path).is_dir() or Path(path).suffix == ".mlpackage":
            found.append(path)
            continue
        records = [(main, record) for main, record in list_records(Path(path)) if main.exists()]
        fitting = [str(main) for main, record in records if can_run(record.runtime, requested)]
        if not fitting:
            held = ", ".join(main.name for main, _ in records)
            raise ModelNotFound(
                f"{path} contains no artifact that can run",
                f"it contains {held}" if held else "it contains no artifact record",
                f"create one with edgewright compile MODEL -o {quote(str(path))}",
            )
        found += fitting
    return found


def can_run(runtime: str, requested: Collection[str]) -> bool:
    systems = find_runtime(runtime).systems
    return (not requested or runtime in requested) and (not systems or system() in systems)


def get_free_shapes(model: Model, feeds: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
    """Return the given sizes for the dynamic dimensions of the file's inputs."""
    return {
        spec.name: feeds[spec.name].shape
        for spec in model.signature.inputs
        if any(isinstance(size, str) for size in spec.shape)
    }
