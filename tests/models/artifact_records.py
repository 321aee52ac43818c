"""Records of artifacts, made up for tests."""

from pathlib import Path

from edgewright.formats.artifacts import write_record
from edgewright.formats.files import hash_file
from edgewright.schema.artifact import Artifact, IoMap, Port, SourceModel
from edgewright.schema.model import Quantization, Signature, TensorSpec


def make_port(
    shape: tuple[int, ...] = (1, 3, 4, 5),
    axes: tuple[int, ...] = (0, 2, 3, 1),
    own: tuple[int, ...] | None = None,
    dtype: str = "float32",
    quantization: Quantization | None = None,
) -> Port:
    """The source's `x` as the artifact's `in0`."""
    return Port(
        source="x",
        name="in0",
        source_shape=shape,
        source_dtype="float32",
        axes=axes,
        shape=own or tuple(shape[axis] for axis in axes),
        dtype=dtype,
        quantization=quantization,
    )


def put_artifact(
    folder: Path, name: str = "m-ncnn-fp32.param", data: bytes = b"7767517\n", port: Port | None = None
) -> Path:
    """A main file with one weight file and a record beside it; the path of the main file."""
    folder.mkdir(parents=True, exist_ok=True)
    main, weights = folder / name, folder / f"{Path(name).stem}.bin"
    main.write_bytes(data)
    weights.write_bytes(b"weights")
    port = port or make_port()
    spec = TensorSpec(name=port.source, dtype=port.source_dtype, shape=port.source_shape)
    record = Artifact(
        runtime="ncnn",
        format="ncnn",
        precision="fp32",
        main=name,
        files={path.name: hash_file(path) for path in (main, weights)},
        bytes=main.stat().st_size + 7,
        key="k",
        source=SourceModel(
            name="m.onnx", sha256="0" * 64, format="onnx", signature=Signature(inputs=(spec,), outputs=())
        ),
        io_map=IoMap(inputs=(port,), outputs=()),
    )
    write_record(record, folder)
    return main
