"""Golden vectors: pictures, the model inputs that follow from them, and the outputs that the artifact computes."""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from msgspec import Struct

from edgewright.packaging.contract import AppTensor
from edgewright.packaging.pictures import GoldenPicture
from edgewright.schema.arrays import Array

GOLDEN_FOLDER = "golden"
GOLDEN_FILE = "manifest.json"
# Largest difference to the golden output, as a share of that output's largest absolute value. Runtimes order sums by
# the processor, so results differ in their last bits; half precision and rounded layers amplify it.
TOLERANCES = {"fp32": 1e-4, "fp16": 1e-2}
INTEGER_TOLERANCE = 0.05  # of a model with quantized layers: one step of an inner layer may move several of the output
LEAST = 1e-6


class GoldenSample(Struct, frozen=True, kw_only=True):
    """One sample; all names of files are relative to the folder of the manifest.

    Attributes:
        picture: file of the decoded pixels, uint8 [height, width, channels]; None if the model takes no picture, or
            the data has it only as a model input.
        width, height, channels: of the stored pixels; 0 without a picture.
        orientation: EXIF's tag, 1 to 8; an app applies it before all else.
        inputs: file of each model input by its name in the artifact, as the runtime takes it.
        outputs: file of each output, as the runtime returns it.
    """

    picture: str | None
    width: int = 0
    height: int = 0
    channels: int = 0
    orientation: int = 1
    inputs: dict[str, str]
    outputs: dict[str, str]


class GoldenTensor(Struct, frozen=True, kw_only=True):
    """Shape and type of an input's or output's files: raw, little-endian, the last axis first."""

    shape: tuple[int, ...]
    dtype: str


class GoldenManifest(Struct, frozen=True, kw_only=True):
    """The golden vectors of an artifact (edgewright.golden/1).

    Attributes:
        artifact: name of the artifact's main file.
        sha256: its hash, as in the contract: with another artifact the outputs are not valid.
        runtime: that computed the outputs.
        source: of the samples: `generated`, or the name of the data.
        tolerance: largest absolute difference of each output, in its own unit.
    """

    schema: str = "edgewright.golden/1"
    artifact: str
    sha256: str
    runtime: str
    source: str
    inputs: dict[str, GoldenTensor]
    outputs: dict[str, GoldenTensor]
    tolerance: dict[str, float]
    samples: tuple[GoldenSample, ...]


class GoldenVectors(Struct, frozen=True, kw_only=True):
    """The manifest, and the bytes of its files by their names relative to `golden/`."""

    manifest: GoldenManifest
    files: dict[str, bytes]


class GoldenArrays(Struct, frozen=True, kw_only=True):
    """The samples as arrays.

    Attributes:
        pictures: one for each sample.
        inputs, outputs: by the artifact's name, in its layouts and types, with one more leading axis for the samples.
    """

    pictures: tuple[GoldenPicture | None, ...]
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]


def write_golden(
    arrays: GoldenArrays, tensors: tuple[Sequence[AppTensor], Sequence[AppTensor]], about: Mapping[str, str]
) -> GoldenVectors:
    """Return the manifest and the files of golden vectors.

    Args:
        tensors: the artifact's inputs and outputs.
        about: the fields artifact, sha256, runtime and source of the manifest, and `precision`.
    """
    files: dict[str, bytes] = {}
    samples = []
    for number, picture in enumerate(arrays.pictures):
        stem = f"{number:03}"
        named = [
            _add_files(files, f"{stem}-{kind}", side, values, number)
            for kind, side, values in zip(("in", "out"), tensors, (arrays.inputs, arrays.outputs), strict=True)
        ]
        sample = GoldenSample(picture=None, inputs=named[0], outputs=named[1])
        samples.append(sample if picture is None else _add_picture(files, stem, picture, sample))
    kinds = [{one.name: GoldenTensor(shape=one.shape, dtype=one.dtype) for one in side} for side in tensors]
    known = {name: about[name] for name in ("artifact", "sha256", "runtime", "source")}
    precision = about["precision"]
    tolerance = {one.name: _choose_tolerance(arrays.outputs[one.name], one, precision) for one in tensors[1]}
    manifest = GoldenManifest(**known, inputs=kinds[0], outputs=kinds[1], tolerance=tolerance, samples=tuple(samples))
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
    return GoldenVectors(manifest=manifest, files={GOLDEN_FILE: text, **files})


def _add_files(
    files: dict[str, bytes], stem: str, side: Sequence[AppTensor], values: Mapping[str, Array], number: int
) -> dict[str, str]:
    """Add the files of one sample's inputs or outputs, and return their names."""
    named = {one.name: f"{stem}{place}.bin" for place, one in enumerate(side)}
    for name, file in named.items():
        array = values[name][number]
        files[file] = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    return named


def _add_picture(files: dict[str, bytes], stem: str, picture: GoldenPicture, sample: GoldenSample) -> GoldenSample:
    """Add the file of a picture, and return the sample with it."""
    height, width, channels = picture.pixels.shape
    name = f"{stem}.pixels"
    files[name] = np.ascontiguousarray(picture.pixels).tobytes()
    return msgspec.structs.replace(
        sample, picture=name, width=width, height=height, channels=channels, orientation=picture.orientation
    )


def _choose_tolerance(values: Array, tensor: AppTensor, precision: str) -> float:
    """Return the largest absolute difference that is no error."""
    if values.dtype.kind not in "fiu":
        return 0.0
    peak = float(np.abs(values.astype(np.float64)).max(initial=0.0, where=np.isfinite(values)))
    if values.dtype.kind != "f":
        return float(max(2, round(INTEGER_TOLERANCE * peak))) if tensor.quantization else 0.0
    return max(LEAST, TOLERANCES.get(precision, INTEGER_TOLERANCE) * peak)
