"""Samples of the field models: files of this system, rendered text, pictures; labels are the float model's results."""

import io
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import edgewright  # noqa: F401 - switches off what ONNX Runtime sends, before it is imported
from benchmarks import field_metrics
from benchmarks.measuring import MOBILENET

Array = np.ndarray[Any, Any]
PICTURES = MOBILENET.parents[1] / "imagenet" / "imagenet_dev500.zip"
WORDS = Path(__file__).parents[1] / "README.md"
FILES = (
    Path("/usr/bin"),
    Path("/usr/lib/x86_64-linux-gnu"),
    Path("/usr/lib/python3"),
    Path("/usr/include"),
    Path("/usr/share"),
)
PART, PADDING = 1024, 256  # bytes at each end of a file that magika reads, and its padding
NOTHING = ("", "[]")
TINY = 8  # bytes below which magika does not ask its network


@dataclass(frozen=True, kw_only=True)
class Samples:
    """How one kind of samples is made (arrays with a batch of 1), labeled and evaluated, and what it is."""

    make: Callable[[], Iterator[Array]]
    label: Callable[[Array], Any]
    metric: str
    about: str
    classes: bool = False


def list_files() -> Iterator[Array]:
    """Yield the ends of files of this system, one of each folder in turn, as magika reads them."""
    rng = np.random.default_rng(0)
    paths = [
        [path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size >= TINY]
        for folder in FILES
    ]
    for row in zip(*(rng.permutation(np.array(found, object)) for found in paths if found), strict=False):
        yield from (read_ends(path.read_bytes()) for path in row if path.stat().st_size >= TINY)


def read_ends(data: bytes) -> Array:
    head, tail = data[:4096].lstrip()[:PART], data[-4096:].rstrip()[-PART:]
    padding = [PADDING]
    row = [*head, *padding * (PART - len(head)), *padding * (PART - len(tail)), *tail]
    return np.array([row], np.int32)


def render(size: tuple[int, int], lines: int) -> Iterator[Array]:
    """Yield pictures of `size` (width, height) without end: words of this project's README, from −1 to 1."""
    words = re.findall(r"[A-Za-z0-9][\w.,-]*", WORDS.read_text())
    rng = np.random.default_rng(1)
    while True:
        paper, ink = int(rng.integers(190, 256)), int(rng.integers(0, 90))
        picture = Image.new("RGB", size, (paper,) * 3)
        draw, step = ImageDraw.Draw(picture), size[1] // lines
        for line in range(lines):
            start = int(rng.integers(len(words) - 20))
            font = ImageFont.load_default(size=int(rng.integers(step // 2, step * 3 // 4)))
            text = words[start]
            for word in words[start + 1 : start + 20]:
                if draw.textlength(f"{text} {word}", font=font) < size[0] - 16:
                    text = f"{text} {word}"
            draw.text((6, line * step + 4), text, font=font, fill=(ink,) * 3)
        noisy = np.asarray(picture, np.float32) + rng.normal(0, 4, (size[1], size[0], 3))
        yield to_planes(np.clip(noisy, 0, 255) / 127.5 - 1)


def list_pictures() -> Iterator[Array]:
    """Yield pictures of ImageNet, from 0 to 1. Raises LookupError where they are absent."""
    if not PICTURES.is_file():
        raise LookupError(f"{PICTURES.name} is not here")
    with zipfile.ZipFile(PICTURES) as archive:
        names = [name for name in archive.namelist() if name.lower().endswith((".jpeg", ".jpg"))]
        for i in np.random.default_rng(0).permutation(len(names)):
            picture = Image.open(io.BytesIO(archive.read(names[i]))).convert("RGB").resize((320, 320))
            yield to_planes(np.asarray(picture, np.float32) / 255)


def to_planes(picture: Array) -> Array:
    return np.ascontiguousarray(picture.transpose(2, 0, 1)[None], np.float32)


KINDS = {
    "files": Samples(
        make=list_files,
        label=lambda output: int(output[0].argmax()),
        metric="top1",
        about="files of this system",
        classes=True,
    ),
    "lines": Samples(
        make=lambda: render((320, 48), 1),
        label=lambda output: field_metrics.read_line(output[0]),
        metric="characters",
        about="rendered lines of Latin text",
    ),
    "pages": Samples(
        make=lambda: render((320, 320), 8),
        label=lambda output: field_metrics.find_text(output[0]),
        metric="text_areas",
        about="rendered pages of Latin text",
    ),
    "pictures": Samples(
        make=list_pictures,
        label=lambda output: field_metrics.find_boxes(output[0]),
        metric="detections",
        about="ImageNet pictures",
    ),
}


def write_samples(kind: str, model: Path, count: int, folder: Path) -> tuple[Path, Path]:
    """Write a task and `count` samples, labeled by the float model in ONNX Runtime; return both paths.

    Samples in which the float model finds nothing are left out. Raises LookupError where the data is absent.
    """
    from onnxruntime import InferenceSession, SessionOptions  # after edgewright, which switches its telemetry off

    samples, options = KINDS[kind], SessionOptions()
    options.intra_op_num_threads = 1
    session = InferenceSession(model, options, providers=["CPUExecutionProvider"])
    port = session.get_inputs()[0].name
    labeled = ((array, samples.label(session.run(None, {port: array})[0])) for array in samples.make())
    arrays, labels = zip(*islice((pair for pair in labeled if pair[1] not in NOTHING), count), strict=True)
    folder.mkdir(parents=True, exist_ok=True)
    task, data = folder / "task.toml", folder / "data.npz"
    np.savez(data, allow_pickle=False, **{port: np.concatenate(arrays), "labels": np.array(labels)})
    metric = samples.metric if samples.classes else f"{Path(field_metrics.__file__)}:{samples.metric}"
    output = 'kind = "classification"\nsoftmax = false' if samples.classes else 'kind = "regression"'
    shape, kind = list(arrays[0].shape), arrays[0].dtype.name
    task.write_text(
        f'schema = "edgewright.task/1"\nname = "{samples.about}"\nmetric = "{metric}"\n\n'
        f'[[inputs]]\nkind = "tensor"\nname = "{port}"\nshape = {shape}\ndtype = "{kind}"\n\n[output]\n{output}\n'
    )
    return task, data
