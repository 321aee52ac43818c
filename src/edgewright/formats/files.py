"""Reading of a `Model` from a path, for all formats."""

from collections.abc import Sequence
from hashlib import file_digest, sha256
from pathlib import Path
from shlex import quote
from typing import NamedTuple

from edgewright.errors import ModelNotFound, ModelUnreadable
from edgewright.formats import artifacts
from edgewright.formats.torch_files import make_torch_error
from edgewright.schema.artifact import SET_SUFFIX, Artifact
from edgewright.schema.model import GraphNode, Model

HEAD_BYTES = 64


class FormatInfo(NamedTuple):
    """A format: the first bytes of its files, and the suffixes if bytes alone are ambiguous.

    `recorded` formats say too little about the model: the record beside the file has the rest.
    """

    name: str
    title: str
    magic: tuple[tuple[int, bytes], ...]
    suffixes: tuple[str, ...]
    recorded: bool = False


FORMATS = (
    FormatInfo("tflite", "LiteRT (TFLite)", ((4, b"TFL3"),), (".tflite",)),
    FormatInfo("ort", "ONNX Runtime's own format", ((4, b"ORTM"),), (".ort",)),
    FormatInfo("executorch", "ExecuTorch program", ((4, b"ET12"), (4, b"ET13")), (".pte",), recorded=True),
    FormatInfo("zip", "PyTorch archive or another zip", ((0, b"PK\x03\x04"),), (".pt", ".pt2", ".pth")),
    FormatInfo("hdf5", "Keras or HDF5", ((0, b"\x89HDF\r\n\x1a\n"),), (".h5", ".keras")),
    FormatInfo("ncnn", "ncnn parameters", ((0, b"7767517"),), (".param",), recorded=True),
    FormatInfo("openvino", "OpenVINO IR", ((0, b"<?xml"),), (".xml",), recorded=True),
    FormatInfo("mnn", "MNN", (), (".mnn",), recorded=True),
    FormatInfo("coreml", "Core ML", (), (".mlpackage",), recorded=True),
    FormatInfo("pretend", "a placeholder model for tests", ((0, b"pretend"),), (".pretend",)),
    # Protobuf has no magic number: a model begins with its first field, the version of the format.
    FormatInfo("onnx", "ONNX", ((0, b"\x08"),), (".onnx",)),
)
READABLE = ("onnx", "tflite", "pretend")
RECORDED = tuple(info.name for info in FORMATS if info.recorded)


def sniff(path: Path) -> str:
    """Return the format's name. Raises ModelNotFound, or ModelUnreadable for a file that is not a model."""
    if path.suffix == ".mlpackage" and (path / "Manifest.json").is_file():
        return "coreml"
    if path.suffix == ".py" or ".py:" in path.name:
        name = path.name if ":" in path.name else f"{path.name}:FACTORY"
        raise ModelUnreadable(
            f"{path} is Python code, not a model file",
            "a torch module has to be compiled first",
            f"edgewright compile {quote(name)} --shape NAME=SIZES, then give one of the artifacts",
        )
    head = read_head(path)
    if path.name.endswith(SET_SUFFIX):
        why = "it names one artifact for each size of the inputs"
        raise ModelUnreadable(f"{path} is a set of artifacts", why, "give one of the artifacts that it names")
    if not head:
        raise ModelUnreadable(
            f"{path} is empty", "it has 0 bytes", "export the model again; check that the disk is not full"
        )
    if found := detect_format(head):
        return found
    if error := make_torch_error(path):  # an old file of torch.save
        raise error
    if path.suffix.lower() in (".onnx", ".mnn"):  # neither has a magic number
        return path.suffix.lower().removeprefix(".")
    raise ModelUnreadable(
        f"{path} is not in a model format that Edgewright supports",
        f"it begins with the bytes {head[:8].hex(' ')}",
        f"give {' or '.join(READABLE[:2])}",
    )


def detect_format(head: bytes) -> str:
    """Return the format of a file with these first bytes; empty if they are ambiguous."""
    for info in FORMATS:
        if any(head[offset : offset + len(magic)] == magic for offset, magic in info.magic):
            return info.name
    return ""


def read_head(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise ModelNotFound(f"{path} is a folder", "a model is one file", "give the path of the model file in it")
        if path.exists() and not path.is_file():  # opening a pipe would block
            raise ModelNotFound(
                f"{path} is not a file", "it is a pipe, a socket or a device", "give the path of a regular file"
            )
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except FileNotFoundError:
        raise ModelNotFound(
            f"there is no file {path}", "a relative path starts in the current folder", "check the path"
        ) from None
    except OSError as error:
        raise ModelNotFound(f"{path} cannot be opened", error.strerror or str(error)) from None


def read_model(path: Path) -> Model:
    """Return everything about a model file that is known without running it.

    Raises:
        ModelNotFound: no such file.
        ModelUnreadable: empty, broken, or of a format that cannot be read.
        ExternalDataMissing: weights beside the model are absent.
    """
    kind = sniff(path)
    record = artifacts.find_record(path)
    if record is not None:
        check_files(path, record)
    match kind:
        case _ if kind in RECORDED:
            return _read_recorded(path, record, kind)
        case "onnx":
            return _read_onnx(path)
        case "tflite":
            return _read_tflite(path)
        case "pretend":
            return _read_pretend(path)
    if error := make_torch_error(path):
        raise error
    raise ModelUnreadable(
        f"{path} cannot be used here", f"it is {get_format_title(kind)}", f"use {' or '.join(READABLE[:2])}"
    )


def get_format_title(kind: str) -> str:
    return next(info.title for info in FORMATS if info.name == kind)


def check_files(path: Path, record: Artifact) -> None:
    """Raise ModelUnreadable if an artifact has changed since its record."""
    for name, expected in record.files.items():
        file = path.parent / name
        if not file.is_file():
            raise ModelUnreadable(f"{path} is incomplete", f"the file {name} is missing", "compile the model again")
        if hash_file(file) != expected:
            raise ModelUnreadable(
                f"{path} has changed since it was compiled",
                f"{name} does not match the record",
                "compile the model again",
            )
    size = sum((path.parent / name).stat().st_size for name in record.files)
    if size != record.bytes:  # limits of memory and time depend on it
        why = f"its files have {size} bytes, but its record says {record.bytes}"
        raise ModelUnreadable(f"{path} has changed since it was compiled", why, "compile the model again")


def _read_recorded(path: Path, record: Artifact | None, kind: str) -> Model:
    """Return a model in a format with too little information, from the record beside it."""
    if record is None:
        raise ModelUnreadable(
            f"{path} has no artifact record",
            f"it is {get_format_title(kind)}; {artifacts.record_path(path).name}, which "
            "describes its inputs and outputs, is missing",
            f"edgewright compile SOURCE --runtime {kind} writes both",
        )
    if record.format != kind:
        raise ModelUnreadable(
            f"{path} does not match its record",
            f"it is {get_format_title(kind)}, but the record's format is '{record.format[:60]}'",
            "compile the model again",
        )
    files = sorted(record.files, key=lambda name: name != record.main)
    return artifacts.read_artifact(path, record, hash_files([path.parent / name for name in files]))


def _read_onnx(path: Path) -> Model:
    from edgewright.formats.onnx.reader import OnnxFile

    file = OnnxFile(path)
    data = file.data_files()
    return Model(
        path=str(path),
        name=path.name,
        format="onnx",
        sha256=hash_files([path, *(path.parent / name for name in data)]),
        bytes=path.stat().st_size + sum((path.parent / name).stat().st_size for name in data),
        signature=file.signature(),
        precision=file.precision(),
        data_files=data,
    )


def _read_tflite(path: Path) -> Model:
    from edgewright.formats.tflite import reader

    return Model(
        path=str(path),
        name=path.name,
        format="tflite",
        sha256=hash_files([path]),
        bytes=path.stat().st_size,
        signature=reader.read_signature(path),
        precision=reader.read_precision(path),
    )


def _read_pretend(path: Path) -> Model:
    from edgewright.schema.model import Signature

    return Model(
        path=str(path),
        name=path.name,
        format="pretend",
        sha256=hash_files([path]),
        bytes=path.stat().st_size,
        signature=Signature(inputs=(), outputs=()),
        precision="fp32",
    )


def read_graph(path: Path, kind: str) -> Sequence[GraphNode]:
    """Return the operators of a model of this format, in file order; those of its source if the format does not
    have them.
    """
    if kind == "onnx":
        from edgewright.formats.onnx.reader import OnnxFile

        return OnnxFile(path).nodes()
    if kind == "tflite":
        from edgewright.formats.tflite import reader

        return reader.read_graph(path)
    record = artifacts.find_record(path) if kind in RECORDED else None
    return record.source.graph if record else ()


def hash_files(paths: Sequence[Path]) -> str:
    """Return the main file's hash; with weight files the hash of all hex digests in order."""
    return join_hashes([hash_file(path) for path in paths])


def join_hashes(digests: Sequence[str]) -> str:
    """Return the hash of a model from those of its files, the main one first."""
    return digests[0] if len(digests) == 1 else sha256("".join(digests).encode()).hexdigest()


def hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
