"""Reading and writing of `.param`, ncnn's text files of layers, and the shapes in them.

The format is https://github.com/Tencent/ncnn/wiki/param-and-model-file-structure: a magic number, the counts of
layers and blobs, and a line for each layer: type, name, counts of inputs and outputs, their blobs, and parameters.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from edgewright.runtimes.contract import Rejected

MAGIC = "7767517"
SIZES = ("0", "1", "2")  # parameters of Input: w, h, c, and d between h and c
DEPTH = "11"
SHAPE_HINT = "-23330"  # four numbers for each output of a layer: rank, w, h, c
HINT_RANK = 3
HEAD = 4
COPIES = ("Input", "Split")  # layers that compute nothing


class ParamRow(NamedTuple):
    """One layer; `params` are texts by parameter number."""

    op: str
    name: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    params: Mapping[str, str]


def read_param(path: Path) -> list[ParamRow]:
    """Return the layers of a file. Raises Rejected if it is not a .param file."""
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        if not lines or lines[0] != [MAGIC]:
            raise Rejected(
                f"{path.name} does not begin with ncnn's magic number {MAGIC}; binary .param files are not supported"
            )
        rows = [read_row(words) for words in lines[2:]]
        count = int(lines[1][0])
    except (OSError, ValueError, IndexError) as error:
        raise Rejected(f"{path.name} is not an ncnn .param file: {error}") from error
    if len(rows) != count:
        raise Rejected(f"{path.name} declares {count} layers but has {len(rows)}")
    return rows


def read_row(words: Sequence[str]) -> ParamRow:
    first, last = HEAD + int(words[2]), HEAD + int(words[2]) + int(words[3])
    if len(words) < last:
        raise ValueError(f"the line of layer '{words[1]}' is incomplete")
    params = dict(word.split("=", 1) for word in words[last:])
    return ParamRow(words[0], words[1], tuple(words[HEAD:first]), tuple(words[first:last]), params)


def write_param(rows: Sequence[ParamRow], path: Path) -> None:
    blobs = len({top for row in rows for top in row.tops})
    path.write_text("\n".join([MAGIC, f"{len(rows)} {blobs}", *map(_write_row, rows)]) + "\n", encoding="utf-8")


def _write_row(row: ParamRow) -> str:
    params = [f"{key}={text}" for key, text in row.params.items()]
    counts = [str(len(row.bottoms)), str(len(row.tops))]
    return " ".join([f"{row.op:<24}", f"{row.name:<24}", *counts, *row.bottoms, *row.tops, *params])


def make_input_params(shape: Sequence[int]) -> dict[str, str]:
    """Return the parameters of an Input of this shape, outermost axis first; at most four axes."""
    sizes = list(reversed(shape))
    named = dict(zip(SIZES, [*sizes[:2], *sizes[-1:]] if len(sizes) > HINT_RANK else sizes, strict=False))
    if len(sizes) > HINT_RANK:
        named[DEPTH] = sizes[2]
    return {key: str(size) for key, size in named.items()}


def read_input_shape(row: ParamRow) -> tuple[int, ...] | None:
    """Return the shape of an Input, outermost axis first; None if it has none."""
    w, h, c = (int(row.params.get(key, "0")) for key in SIZES)
    d = int(row.params.get(DEPTH, "0"))
    sizes = tuple(size for size in (c, d, h, w) if size)
    return sizes or None


def make_shape_hint(shapes: Sequence[Sequence[int]]) -> dict[str, str]:
    """Return the hint of a layer's output shapes; none if a shape has more axes than ncnn's hints."""
    if any(len(shape) > HINT_RANK for shape in shapes):
        return {}
    numbers = [number for shape in shapes for number in (len(shape), *reversed(shape), *[1] * (HINT_RANK - len(shape)))]
    return {SHAPE_HINT: ",".join(map(str, [len(numbers), *numbers]))}


def read_hinted_shape(row: ParamRow, blob: str) -> tuple[int, ...] | None:
    """Return the hinted shape of one of the row's outputs, outermost axis first; else None."""
    if SHAPE_HINT not in row.params:
        return None
    numbers = [int(word) for word in row.params[SHAPE_HINT].split(",")][1:]
    begin = row.tops.index(blob) * (HINT_RANK + 1)
    rank, *sizes = numbers[begin : begin + HINT_RANK + 1]
    return tuple(reversed(sizes[:rank]))


def find_index_inputs(rows: Sequence[ParamRow]) -> set[str]:
    """Return the inputs with row numbers for an Embed, which reads int32; all others are float32."""
    indices = {row.bottoms[0] for row in rows if row.op == "Embed"}
    for row in reversed(rows):
        if row.op in ("Split", "Reshape", "Squeeze", "ExpandDims", "Permute", "Flatten", "Noop"):
            indices.update(row.bottoms if indices.intersection(row.tops) else ())
    return indices.intersection(top for row in rows if row.op == "Input" for top in row.tops)


def find_output_blobs(rows: Sequence[ParamRow]) -> list[str]:
    """Return the blobs that no layer reads, in the order of the layers, without unused inputs."""
    read = {blob for row in rows for blob in row.bottoms}
    return [top for row in rows if row.op != "Input" for top in row.tops if top not in read]
