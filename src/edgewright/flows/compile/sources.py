"""Source models: the file as given, and the files that converters read."""

from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from edgewright.bench.feeds import (
    describe_batch,
    fix_batch,
    has_other_sizes,
    make_fixed,
    resolve_shapes,
)
from edgewright.devices.protocol import Device
from edgewright.errors import (
    InputError,
    ModelNotConvertible,
    ModelNotFound,
    UsageError,
)
from edgewright.formats.files import hash_file, read_graph, read_model
from edgewright.formats.memory_estimate import check_file_memory
from edgewright.formats.onnx.normalize.source import prepare_onnx, resize_inputs
from edgewright.formats.onnx.prepare import remove_file_exporter_metadata
from edgewright.formats.onnx.typed import measure_file
from edgewright.formats.tflite.to_onnx.read import convert_tflite, explain_rejected
from edgewright.formats.torch_files import find_torch_kind, make_torch_error
from edgewright.kernels.custom.place import VARIABLE as OPERATORS_VARIABLE
from edgewright.limits import read_budget
from edgewright.runtimes.table import find_runtime
from edgewright.runtimes.wire import Compile, Compiled, CompileRequest
from edgewright.schema.arrays import Array
from edgewright.schema.artifact import SourceModel
from edgewright.schema.model import Model, Signature
from edgewright.schema.plan import CompileCell, CompilePlan
from edgewright.system.memory_limit import supports_limit

TORCH_SUFFIXES = (".pt2", ".pt", ".pth")  # of files that are rejected as torch's if they are damaged
REFERENCE_RUNTIMES = {"onnx": "onnxruntime", "tflite": "litert"}
MAX_NOTE = 200  # characters
QDQ_PRECISIONS = ("w8a8", "w8a16", "w4a8")
# With optimizations, ONNX Runtime 1.31 also rounds float weights between rounded activations, with one
# scale per tensor (WeightBiasQuantization).
WITHOUT_OPTIMIZATION = {"optimization": "disable"}


class PreparedSource(NamedTuple):
    """A source ready for conversion.

    Attributes:
        model: for the converters, with all shapes fixed and without the inputs that have a fixed value.
        shapes: of every input of `model`.
        files: path by format: `onnx` unless it cannot be converted to it, and `torch` or `tflite` if the user gave one.
        sha256: of the file that the user gave.
        name: of that file.
        format: of that file.
        fixed: values of inputs of `reference` that `model` does not have.
        overridden: the sizes that differ from those that the file fixes, as text; empty if there are none.
        notes: about the preparation.
        reference: the model that gives the reference outputs if it is not `model`: the file that the user gave, or
            with other sizes than those that it fixes, the file with these sizes.
        unread: why a TFLite file has no ONNX form.
        operators: the file with its custom operators, for workers.
        operators_sha256: of the library of these.
    """

    model: Model
    shapes: dict[str, tuple[int, ...]]
    files: dict[str, str]
    sha256: str
    name: str
    format: str
    fixed: Mapping[str, Array] = MappingProxyType({})
    overridden: str = ""
    notes: tuple[str, ...] = ()
    reference: Model | None = None
    unread: ModelNotConvertible | None = None
    operators: Path | None = None
    operators_sha256: str = ""

    @property
    def variables(self) -> dict[str, str]:
        """Return the environment variables of workers that read the source."""
        return {OPERATORS_VARIABLE: str(self.operators)} if self.operators else {}

    @property
    def given(self) -> Model:
        """Return the model that runs for the reference outputs."""
        return self.reference or self.model

    def as_given(self, path: str) -> Model:
        """Return the model with the name and hash of the source that the user gave, and this path."""
        return rename_model(self.given, self.name, self.sha256, path)


def rename_model(model: Model, name: str, sha256: str, path: str) -> Model:
    """Return the model with the name and hash of the source that the user gave."""
    return msgspec.structs.replace(model, name=name, sha256=sha256, path=path, data_files=())


def is_torch(source: str) -> bool:
    """Return whether a source is a torch program: a file of torch by its content, or `FILE.py:FACTORY`."""
    return ".py:" in source or Path(source).suffix in TORCH_SUFFIXES or bool(find_torch_kind(Path(source)))


def hash_source(plan: CompilePlan) -> str:
    """Return the hash of the source; of a torch factory its file, the factory's name and the weights."""
    if plan.source.endswith(".py"):
        why = "a torch source consists of a file and the function in it that builds the module"
        raise UsageError(f"{plan.source} names no factory", why, f"{plan.source}:build")
    if not is_torch(plan.source):
        return read_model(Path(plan.source)).sha256
    file, _, factory = plan.source.partition(".py:")
    path = Path(f"{file}.py" if factory else plan.source)
    paths = [path, *([Path(plan.weights)] if plan.weights else [])]
    if missing := next((one for one in paths if not one.is_file()), None):
        raise ModelNotFound(
            f"file not found: {missing}", "a relative path is resolved from the current folder", "check the path"
        )
    if not factory and find_torch_kind(path) in ("weights", "module") and (error := make_torch_error(path)):
        raise error
    return sha256(" ".join([*map(hash_file, paths), factory]).encode()).hexdigest()


def prepare_source(plan: CompilePlan, folder: Path, device: Device, *, bare: bool = False) -> PreparedSource:
    """Read the source, export a torch program, and fix the shapes; files go into `folder`.

    `bare` leaves out the exporter's notes on each node (lines of code), which help in compiler errors but add bytes.

    Raises the errors of `read_model`, InputError for shapes that do not fit, LimitReached if running it needs too much
    memory, and the errors of the torch worker.
    """
    if is_torch(plan.source):
        exported, notes = _export_torch(plan, folder, device)
        if bare:
            remove_file_exporter_metadata(exported)
        prepared = prepare_file(exported, plan.shapes, folder, plan.fixed)
        files = {**prepared.files, "torch": plan.source}
        name = Path(plan.source.partition(":")[0]).name
        prepared = prepared._replace(files=files, sha256=hash_source(plan), name=name, format="torch")
        prepared = prepared._replace(notes=(*notes, *prepared.notes))
    else:
        prepared = prepare_file(Path(plan.source), plan.shapes, folder, plan.fixed)
    given = prepared.given
    if given.format == "tflite" or not supports_limit():  # otherwise the system's limit applies
        check_file_memory(Path(given.path), prepared.shapes, read_budget().for_files(given.bytes))
    if given.format == "tflite" and not (plan.cells and all(map(_is_copied, plan.cells))):
        prepared = _convert_tflite(prepared, folder)
    return prepared


def _is_copied(cell: CompileCell) -> bool:
    """Return whether a cell uses a TFLite file as it is."""
    return cell.precision != "fp16" and "tflite" in find_runtime(cell.runtime).compiles


def _convert_tflite(prepared: PreparedSource, folder: Path) -> PreparedSource:
    """Return the source with its ONNX form, which the converters of other runtimes and the quantizer read."""
    path, to = Path(prepared.model.path), folder / "converted.onnx"
    rejected = convert_tflite(path, prepared.shapes, to).rejected
    if rejected:
        return prepared._replace(unread=explain_rejected(prepared.name, rejected))
    ready = prepare_file(to, prepared.shapes, folder)
    return prepared._replace(model=ready.model, files={**ready.files, **prepared.files}, reference=prepared.model)


def prepare_file(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    folder: Path,
    fixed: Mapping[str, Sequence[int | float]] = MappingProxyType({}),
) -> PreparedSource:
    """Fix the shapes and values of inputs; a dynamic batch without a given size is 1, which is noted."""
    model = read_model(path)
    _check_names(model, shapes)
    single = fix_batch(model.signature, shapes)
    shapes, notes = {**shapes, **single}, tuple(map(describe_batch, single))
    if model.format != "onnx":
        return _take_as_given(model, path, resolve_shapes(model.signature, shapes), fixed)._replace(notes=notes)
    sizes = resolve_shapes(model.signature, shapes, may_override=True)
    arrays = make_fixed(model.signature, sizes, fixed)
    other = [spec for spec in model.signature.inputs if has_other_sizes(spec, sizes[spec.name])]
    overridden = ", ".join(f"{spec.name} is {list(sizes[spec.name])} instead of {list(spec.shape)}" for spec in other)
    reference = read_model(resize_inputs(path, sizes, folder / "reference.onnx")) if other else model
    ready = prepare_onnx(path, sizes, folder / "source.onnx", arrays)
    return PreparedSource(
        model=read_model(ready) if ready != path else model,
        shapes={name: shape for name, shape in sizes.items() if name not in arrays},
        files={"onnx": str(ready.absolute())},
        sha256=model.sha256,
        name=path.name,
        format=model.format,
        reference=reference,
        fixed=arrays,
        overridden=overridden,
        notes=(*notes, *_describe_preparation(arrays, overridden)),
    )


def resize_signature(signature: Signature, shapes: Mapping[str, tuple[int, ...]], fixed: Collection[str]) -> Signature:
    """Return the signature with these sizes and without the fixed inputs."""
    inputs = [spec for spec in signature.inputs if spec.name not in fixed]
    resized = tuple(msgspec.structs.replace(spec, shape=shapes.get(spec.name, spec.shape)) for spec in inputs)
    return msgspec.structs.replace(signature, inputs=resized)


def _describe_preparation(fixed: Mapping[str, Array], overridden: str) -> tuple[str, ...]:
    """Return notes for the artifacts' records."""
    notes = [f"input '{name}' is the constant {array.tolist()}"[:MAX_NOTE] for name, array in fixed.items()]
    if overridden:
        notes.append(f"{overridden}: the reference is the source file with these sizes")
    return tuple(notes)


def _take_as_given(
    model: Model, path: Path, shapes: dict[str, tuple[int, ...]], fixed: Mapping[str, Sequence[int | float]]
) -> PreparedSource:
    """Return a source whose inputs cannot be replaced by constants."""
    if fixed:
        why = f"the model's format is {model.format}; only inputs of ONNX and torch models can be fixed"
        raise UsageError("--fix cannot be used with this model", why, "remove it")
    files = {model.format: str(path.absolute())}
    return PreparedSource(
        model=model,
        shapes=shapes,
        files=files,
        sha256=model.sha256,
        name=path.name,
        format=model.format,
    )


def _check_names(model: Model, shapes: Mapping[str, tuple[int, ...]]) -> None:
    names = {spec.name for spec in model.signature.inputs}
    if unexpected := shapes.keys() - names:
        raise InputError(
            f"--shape {min(unexpected)}: the model has no such input",
            f"the inputs are {', '.join(sorted(names)) or 'none'}",
            "use one of these names",
        )


def _export_torch(plan: CompilePlan, folder: Path, device: Device) -> tuple[Path, tuple[str, ...]]:
    """Export a torch program to ONNX in a worker, the only process that runs the user's code."""
    if not plan.shapes:
        raise InputError(
            f"{plan.source} does not define the shapes of its inputs",
            "a torch module accepts any shape",
            "set them by the names of forward's parameters, like --shape x=1,3,224,224",
        )
    target = folder / "exported"
    target.mkdir()
    request = CompileRequest(
        source=make_absolute(plan.source),
        format="torch",
        precision="fp32",
        shapes=plan.shapes,
        folder=str(target),
        stem="exported",
        options={"weights": str(Path(plan.weights).absolute())} if plan.weights else {},
        model_bytes=sum(measure_file(Path(one)) for one in (plan.source, plan.weights) if one),
    )
    with device.start_worker("torch", (), plan.timeout_s, folder / "export.log") as worker:
        try:
            compiled = worker.ask(Compile(request=request), Compiled)
        except ModelNotConvertible as error:
            what = f"{Path(plan.source).name} cannot be exported to ONNX"
            raise ModelNotConvertible(what, error.why, error.try_this) from error
        worker.leave()
    return target / compiled.main, compiled.notes


def get_stem(source: str) -> str:
    """Return the stem of a file, or of a factory's file, for the names of results."""
    return Path(source.partition(":")[0]).stem


def make_absolute(source: str) -> str:
    """Return the source with an absolute path, and the factory's name unchanged."""
    file, colon, factory = source.rpartition(":") if ".py:" in source else (source, "", "")
    return f"{Path(file).absolute()}{colon}{factory}"


def check_onnx(model: Model, done: str) -> None:
    """Raise ModelNotConvertible for a model that has no ONNX form; `done` as in `check_float_onnx`."""
    if model.format not in REFERENCE_RUNTIMES:
        why = f"its format is {model.format}; only ONNX, TFLite and torch models are supported"
        raise ModelNotConvertible(f"{model.name} cannot be {done}", why, "use the model that it was converted from")


def check_float_onnx(prepared: PreparedSource, done: str) -> None:
    """Raise ModelNotConvertible for a model that is not a float ONNX graph.

    `done` is the participle for the error's text (`quantized`, `pruned`).
    """
    check_onnx(prepared.given, done)
    if prepared.unread is not None:
        raise prepared.unread
    if prepared.model.precision != "fp32":
        raise ModelNotConvertible(
            f"{prepared.name} is already quantized"
            if prepared.model.precision != "fp16"
            else f"{prepared.name} is fp16",
            f"its precision is {prepared.model.precision}",
            "use the fp32 model that it was converted from",
        )


def describe_source(prepared: PreparedSource, shapes: Mapping[str, tuple[int, ...]]) -> SourceModel:
    """Return the source for an artifact's record, with the observed shapes of outputs."""
    signature = prepared.given.signature
    inputs = tuple(
        msgspec.structs.replace(spec, shape=prepared.shapes[spec.name])
        for spec in signature.inputs
        if spec.name not in prepared.fixed
    )
    outputs = tuple(
        msgspec.structs.replace(spec, shape=shapes[spec.name]) if spec.name in shapes else spec
        for spec in signature.outputs
    )
    return SourceModel(
        name=prepared.name,
        sha256=prepared.sha256,
        format=prepared.format,
        signature=Signature(inputs=inputs, outputs=outputs),
        graph=tuple(read_graph(Path(prepared.model.path), prepared.model.format)),
    )
