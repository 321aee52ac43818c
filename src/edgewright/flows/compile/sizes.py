"""Several sizes of a model's inputs: one artifact for each, and the set file that names them."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from edgewright.errors import UsageError
from edgewright.formats.artifact_sets import write_set
from edgewright.formats.artifacts import find_record
from edgewright.schema.artifact import MAX_SIZES, SET_SUFFIX
from edgewright.schema.vocabulary import Precision

Shapes = dict[str, tuple[int, ...]]


class SetReport(Struct, frozen=True, kw_only=True):
    """A set file that was written: its path, the number of its artifacts, and the bytes of all their files."""

    runtime: str
    precision: Precision
    path: str
    artifacts: int
    bytes: int = 0


def expand_sizes(given: Iterable[tuple[str, tuple[tuple[int, ...], ...]]]) -> tuple[Shapes, ...]:
    """Return the shapes of each artifact; one without alternatives.

    Args:
        given: the inputs with the alternatives of each axis. The first alternatives of all axes and inputs form the
            first shapes, the second ones the second, and so on; an axis with one size has it in all.

    Raises UsageError if axes have different numbers of alternatives, or for too many or equal ones.
    """
    axes = dict(given)
    counts = sorted({len(sizes) for shape in axes.values() for sizes in shape} - {1}) or [1]
    if len(counts) > 1:
        raise UsageError(
            f"--shape has an axis with {counts[0]} sizes and another one with {counts[1]}",
            "the first sizes of all axes form one shape, the second ones another, and so on",
            "repeat sizes until the numbers are equal, like 'x=1,3,48|48|64,160|320|320'",
        )
    if counts[0] > MAX_SIZES:
        raise UsageError(f"--shape has {counts[0]} sizes", f"a set has at most {MAX_SIZES}", "give fewer sizes")
    shapes = [
        {name: tuple(sizes[i % len(sizes)] for sizes in shape) for name, shape in axes.items()}
        for i in range(counts[0])
    ]
    if twice := next((one for i, one in enumerate(shapes) if one in shapes[:i]), None):
        raise UsageError("--shape has the same sizes twice", f"{twice}", "remove one of them")
    return tuple(shapes)


def name_sizes(sizes: Sequence[Mapping[str, Sequence[int]]]) -> list[str]:
    """Return a short name for each of several shapes: the sizes that differ between them, like `160` or `48x160`."""
    columns = [tuple(one[name][axis] for one in sizes) for name in sizes[0] for axis in range(len(sizes[0][name]))]
    varied = [column for column in dict.fromkeys(columns) if len(set(column)) > 1]
    return ["x".join(str(column[i]) for column in varied) for i in range(len(sizes))]


def write_set_file(stem: str, paths: Sequence[Path]) -> SetReport:
    """Write the set of these artifacts beside them, and return its report. Raises OutputError."""
    records = [record for record in map(find_record, paths) if record is not None]
    path = paths[0].with_name(f"{stem}{SET_SUFFIX}")
    write_set(path, records)
    first = records[0]
    size = sum(record.bytes for record in records)
    return SetReport(
        runtime=first.runtime, precision=first.precision, path=str(path), artifacts=len(records), bytes=size
    )
