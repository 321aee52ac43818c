"""`package`: a project that runs an artifact in an app, with golden vectors that it must reproduce."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from platform import system
from shlex import quote
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Struct

from edgewright.bench.feeds import make_feeds, resolve_shapes
from edgewright.devices.local import LocalDevice
from edgewright.errors import DataError, ModelError, ModelNotConvertible, UsageError
from edgewright.flows.candidates import check_number, check_runs_here, choose_runtime, split_options
from edgewright.flows.evaluate.inference import infer
from edgewright.formats.artifacts import artifact_signature, find_record, make_same_port, record_path
from edgewright.formats.files import hash_file, read_model
from edgewright.kernels.custom.place import find_operators_path
from edgewright.packaging.contract import (
    CONTRACT_FILE,
    AppContract,
    AppEngine,
    AppModel,
    AppNames,
    check_expressible,
    list_required_shapes,
    make_contract,
)
from edgewright.packaging.golden import (
    GOLDEN_FILE,
    GOLDEN_FOLDER,
    GoldenArrays,
    GoldenVectors,
    write_golden,
)
from edgewright.packaging.pictures import GoldenPicture, decode_picture, make_pictures, prepare_picture
from edgewright.packaging.project import check_folder, write_project
from edgewright.packaging.targets import TARGETS, load_target
from edgewright.runtimes.environments import FOLDER
from edgewright.runtimes.table import RuntimeInfo
from edgewright.schema.arrays import Array
from edgewright.schema.artifact import Artifact, Port
from edgewright.schema.model import Model, Signature
from edgewright.store.location import find_home
from edgewright.tasks.data.dataset import Dataset, Sample, open_dataset, split
from edgewright.tasks.data.images import UnreadableSample
from edgewright.tasks.data.ports import feed_artifact, to_artifact
from edgewright.tasks.spec.check import check_task
from edgewright.tasks.spec.file import read_task
from edgewright.tasks.spec.task import ImageInput, Task

SEED = 0  # of the choice of samples, and of inputs that are not pictures
MODEL_FOLDER = "model"


class PackageRequest(Struct, frozen=True, kw_only=True):
    """A project to generate.

    Attributes:
        artifacts: path of the artifact; one.
        data: dataset that the golden vectors are taken from; empty for generated pictures. A function is called.
        samples: number of golden vectors.
        threads: per inference; None for those of the newest measured run of the artifact, else 1.
        options: of the runtime, KEY=VALUE; empty for those of that run.
        name, app_id: of the app; empty for the default.
    """

    target: str
    artifacts: tuple[str, ...]
    task: str
    output: str
    data: str = ""
    samples: int = 8
    threads: int | None = None
    options: tuple[str, ...] = ()
    name: str = ""
    app_id: str = ""


class PackageReport(Struct, frozen=True, kw_only=True):
    """A generated project (edgewright.package/1).

    Attributes:
        artifact: path of the artifact.
        sha256: its hash.
        golden: path of the manifest of golden vectors.
        samples: number of golden vectors.
        written: number of files that were written; files that have their content already are not.
        kept: generated files that the user changed, which stay as they are.
    """

    schema: str = "edgewright.package/1"
    target: str
    folder: str
    artifact: str
    sha256: str
    golden: str
    samples: int
    written: int
    kept: tuple[str, ...]
    notes: tuple[str, ...]
    answer: str


class StoredModels(NamedTuple):
    """What is known of models in the store.

    Attributes:
        find_measured: returns the settings of the newest measured run of the artifact with this hash.
        list_paths: returns where the model with this hash was when it was used, the newest first.
    """

    find_measured: Callable[[str], AppEngine | None]
    list_paths: Callable[[str], Sequence[str]]


def generate_project(request: PackageRequest, progress: Callable[[str], None], stored: StoredModels) -> PackageReport:
    """Generate a project into a folder.

    Args:
        progress: called with one line of text at each step.

    Raises:
        OutputError: the folder has other files, or cannot be written.
        ConfigError: the task does not fit the model, or cannot be expressed by the target.
        ModelError: the artifact cannot be read, or the target does not take its format.
        EdgewrightError: the artifact does not run here, or the data cannot be read.
    """
    if request.threads is not None:
        check_number("threads", request.threads)
    if not 1 <= request.samples <= 1000:
        raise UsageError(f"--samples {request.samples} is not possible", "it is a number from 1 to 1000", "--samples 8")
    folder, path = Path(request.output), _get_artifact(request)
    former = check_folder(folder, request.target)
    task = read_task(Path(request.task))
    check_expressible(task)
    model, record = read_model(path), find_record(path)
    info = _choose_engine(request, path, model)
    check_task(task, record.source.signature if record else model.signature)
    progress(f"{path.name}: golden vectors")
    engine = _choose_settings(request, info, stored.find_measured(model.sha256))
    contract, golden = _compute_golden(request, task, model, engine, stored)
    target = load_target(request.target)
    target.check(contract)
    project = target.generate(contract, golden)
    common = {CONTRACT_FILE: msgspec.json.format(msgspec.json.encode(contract), indent=1) + b"\n"}
    vectors = {f"{GOLDEN_FOLDER}/{name}": data for name, data in golden.files.items()}
    copied = {f"{MODEL_FOLDER}/{name}": path.parent / name for name in contract.model.files}
    if record is not None:
        copied[f"{MODEL_FOLDER}/{record_path(path).name}"] = record_path(path)
    files = {**common, **vectors, **copied, **project.files, **project.local}
    kept, written = write_project(folder, request.target, files, former)
    notes = [*project.notes]
    if kept:
        notes.append(f"kept, because they were changed: {', '.join(kept)}")
    return PackageReport(
        target=request.target,
        folder=request.output,
        artifact=str(path),
        sha256=model.sha256,
        golden=str(folder / GOLDEN_FOLDER / GOLDEN_FILE),
        samples=len(golden.manifest.samples),
        written=written,
        kept=kept,
        notes=tuple(notes),
        answer=f"{request.output} is {TARGETS[request.target].title} for {path.name}.",
    )


def _get_artifact(request: PackageRequest) -> Path:
    if len(request.artifacts) != 1:
        what = f"{len(request.artifacts)} artifacts were given"
        raise UsageError(what, "a project has one model", "give one of them; edgewright bundle packs variants")
    return Path(request.artifacts[0])


def _choose_engine(request: PackageRequest, path: Path, model: Model) -> RuntimeInfo:
    """Return the runtime that computes the golden outputs. Raises ModelNotConvertible for a format of others."""
    target = TARGETS[request.target]
    info = choose_runtime(path, "")
    if model.format not in target.formats or info.name not in target.runtimes:
        source = find_record(path)
        name = source.source.name if source else str(path)
        raise ModelNotConvertible(
            f"{request.target} does not run {path.name}",
            f"it is {model.format} for {info.name}; {request.target} runs {', '.join(target.runtimes)}",
            f"edgewright compile {quote(name)} --runtime {target.runtimes[0]}, then package its artifact",
        )
    if find_operators_path(path) is not None:
        why = "they are a library that was compiled on this machine"
        hint = "compile the model without --custom-ops, for a runtime that has its operators"
        raise ModelNotConvertible(f"{path.name} has custom operators, which a project does not have", why, hint)
    return info


def _choose_settings(request: PackageRequest, info: RuntimeInfo, measured: AppEngine | None) -> AppEngine:
    """Return the settings of the runtime: those that were given, else those of the measured run."""
    known = measured or AppEngine()
    given = split_options(request.options, [info])[info.name]
    threads = known.threads if request.threads is None else request.threads
    changed = msgspec.structs.replace(known, threads=threads, options=dict(given) or known.options)
    return changed if changed == known else msgspec.structs.replace(changed, measured="")


def _compute_golden(
    request: PackageRequest, task: Task, model: Model, engine: AppEngine, stored: StoredModels
) -> tuple[AppContract, GoldenVectors]:
    """Run the artifact on the samples, and return the contract and the golden vectors."""
    record, info = find_record(Path(model.path)), choose_runtime(Path(model.path), "")
    source = record.source.signature if record else model.signature
    pictures, feeds = _make_samples(request, task, source)
    stack = {spec.name: np.stack([one[spec.name] for one in feeds]) for spec in source.inputs}
    own = feed_artifact(stack, record.io_map, stacked=True) if record else stack
    if record is not None and info.systems and system() not in info.systems:
        source_model = _find_source(request, record, info, stored.list_paths)
        golden_runtime, outputs = _run_source(source_model, record, stack)
    else:
        check_runs_here(info)
        golden_runtime, outputs = info.name, _run(model, info.name, own, engine)
    ports = _list_ports(model, record, own, outputs)
    app_model = AppModel(
        main=model.name,
        files=_hash_files(model, record),
        sha256=model.sha256,
        bytes=model.bytes,
        runtime=info.name,
        format=model.format,
        precision=model.precision,
    )
    contract = make_contract(task, app_model, ports, engine, AppNames(name=request.name, app_id=request.app_id))
    about = {
        "artifact": model.name,
        "sha256": model.sha256,
        "runtime": golden_runtime,
        "source": Path(request.data).name if request.data else "generated",
        "precision": model.precision,
    }
    tensors = ([one.tensor for one in contract.inputs], contract.outputs)
    arrays = GoldenArrays(pictures=tuple(pictures), inputs=own, outputs=outputs)
    return contract, write_golden(arrays, tensors, about)


def _run(model: Model, runtime: str, feeds: Mapping[str, Array], engine: AppEngine) -> Mapping[str, Array]:
    device = LocalDevice(environments=find_home() / FOLDER)
    try:
        return infer(model, None, runtime, feeds, device, options=engine.options, threads=engine.threads)[0]
    finally:
        device.close()


def _run_source(source: Model, record: Artifact, feeds: Mapping[str, Array]) -> tuple[str, Mapping[str, Array]]:
    """Run the source model of an artifact that does not run here: its runtime, and outputs as the artifact's."""
    runtime = choose_runtime(Path(source.path), "").name
    outputs = _run(source, runtime, feeds, AppEngine())
    ports = record.io_map.outputs
    return runtime, {port.name: to_artifact(outputs[port.source], port, lead=1) for port in ports}


def _find_source(
    request: PackageRequest, record: Artifact, info: RuntimeInfo, paths: Callable[[str], Sequence[str]]
) -> Model:
    """Return the source model of an artifact: where it was compiled, or beside the artifact, the task or here.

    Raises DataError.
    """
    name, artifact = record.source.name, Path(request.artifacts[0]).absolute()
    folders = (artifact.parent, artifact.parent.parent, Path(request.task).absolute().parent, Path.cwd())
    for path in (*map(Path, paths(record.source.sha256)), *(folder / name for folder in folders)):
        if record.source.format in ("onnx", "tflite") and path.is_file():
            with suppress(ModelError):
                if (found := read_model(path)).sha256 == record.source.sha256:
                    return found
    why = f"{info.title} does not run here, and the source model {name} with the hash of the record was not found"
    raise DataError("there are no golden vectors", why, f"put {name} (ONNX or TFLite) beside the artifact")


def _hash_files(model: Model, record: Artifact | None) -> dict[str, str]:
    """Return the hash of each file of a model by its name."""
    if record is not None:
        return dict(record.files)
    folder = Path(model.path).parent
    return {name: hash_file(folder / name) for name in (Path(model.path).name, *model.data_files)}


def _list_ports(
    model: Model, record: Artifact | None, own: Mapping[str, Array], outputs: Mapping[str, Array]
) -> tuple[list[Port], list[Port]]:
    """Return the inputs and outputs with the sizes that the arrays of the samples have."""
    signature = artifact_signature(record) if record else model.signature
    known: dict[str, Port] = {}
    if record is not None:
        known = {port.name: port for port in (*record.io_map.inputs, *record.io_map.outputs)}
    sides = []
    for specs, arrays in ((signature.inputs, own), (signature.outputs, outputs)):
        side = []
        for spec in specs:
            shape = tuple(arrays[spec.name].shape[1:])
            port = known.get(spec.name) or make_same_port(msgspec.structs.replace(spec, shape=shape))
            sizes = shape if -1 in port.source_shape else port.source_shape
            side.append(msgspec.structs.replace(port, shape=shape, source_shape=sizes))
        sides.append(side)
    return sides[0], sides[1]


def _make_samples(
    request: PackageRequest, task: Task, source: Signature
) -> tuple[Sequence[GoldenPicture | None], Sequence[Mapping[str, Array]]]:
    """Return the picture of each sample, and its inputs by the source's names, with a batch of 1."""
    try:
        if request.data:
            with open_dataset(request.data, task, (request.data,)) as data:
                chosen = split(len(data), min(request.samples, len(data)), SEED)[0]
                samples = list(data.read(chosen))
                return [_read_picture(data, one, task) for one in samples], [one.feeds for one in samples]
        return _generate_samples(request.samples, task, source)
    except UnreadableSample as error:
        what = "a sample cannot be read" if request.data else "no generated picture fits the task"
        raise DataError(f"there are no golden vectors: {what}", str(error), "give other samples with --data") from None


def _read_picture(data: Dataset, sample: Sample, task: Task) -> GoldenPicture | None:
    """Return the picture of a sample; None if the data has the model's input instead."""
    spec = _find_image(task)
    if spec is None:
        return None
    raw: Any = data.fetch(sample.index)
    value = raw[spec.name] if isinstance(raw, dict) else raw
    if isinstance(value, Path | str):
        value = Path(value).read_bytes()
    if isinstance(value, bytes):
        return decode_picture(value, spec)
    pixels = np.asarray(value)
    if pixels.dtype != np.uint8:
        return None
    return GoldenPicture(pixels[:, :, np.newaxis] if pixels.ndim == 2 else pixels)


def _find_image(task: Task) -> ImageInput | None:
    return next((one for one in task.inputs if isinstance(one, ImageInput)), None)


def _generate_samples(
    count: int, task: Task, source: Signature
) -> tuple[Sequence[GoldenPicture | None], Sequence[Mapping[str, Array]]]:
    spec = _find_image(task)
    pictures = make_pictures(spec, count) if spec else [None] * count
    shapes = resolve_shapes(source, list_required_shapes(task))
    feeds = []
    for number, picture in enumerate(pictures):
        drawn = {spec.name: prepare_picture(picture, spec)} if spec and picture else {}
        others = Signature(inputs=tuple(one for one in source.inputs if one.name not in drawn), outputs=())
        own = make_feeds(others, {one.name: shapes[one.name] for one in others.inputs}, SEED + number)
        feeds.append({**own, **drawn})
    return pictures, feeds
