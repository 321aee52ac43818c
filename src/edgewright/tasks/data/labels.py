"""Reading of `labels.csv` in its common variants."""

import csv
from collections.abc import Collection, Mapping, Sequence
from io import StringIO
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgewright.errors import DataError
from edgewright.tasks.spec.task import Boxes, Classification, Regression, Task, read_label_names

Label = int | str | NDArray[Any] | None  # text only for a metric of the user's own

LABELS_FILE = "labels.csv"
FILE_COLUMNS = ("file", "filename", "file_name", "image", "image_name", "path", "name", "id")
LABEL_COLUMNS = ("label", "class", "class_id", "category", "target", "y", "label_id", "class_name")
BOX_COLUMNS = (
    ("left", "top", "right", "bottom"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("x1", "y1", "x2", "y2"),
)
MAX_TABLE_BYTES = 1 << 28


class LabelRow(NamedTuple):
    line: int
    file: str
    cells: tuple[str, ...]


def read_labels(data: bytes, title: str, files: Collection[str], task: Task) -> tuple[list[str], list[Label]]:
    """Return the files in the order of the table, each once, and their labels. DataError names the wrong line.

    Args:
        title: name of the table in errors.
        files: existing files, with `/`; they determine whether the first line is a header.
    """
    header, rows = _split_rows(_decode_text(data, title), title, files)
    if not rows:
        raise DataError(f"{title} has no rows", "", "write file,label in each line")
    grouped: dict[str, list[LabelRow]] = {}
    for row in rows:
        grouped.setdefault(row.file, []).append(row)
    if isinstance(task.output, Boxes):
        return list(grouped), _read_boxes(list(grouped.values()), header, title, task)
    for same in grouped.values():
        if len({row.cells for row in same}) > 1:
            raise DataError(f"{title}, line {same[1].line}: {same[1].file} has two labels", "", "keep one of them")
    firsts = [same[0] for same in grouped.values()]
    column = _find_label_column(header)
    if isinstance(task.output, Regression):
        return list(grouped), [
            row.cells[column] if _is_text(row, column, task) else _read_numbers(row, title) for row in firsts
        ]
    words = [(row, row.cells[column] if column < len(row.cells) else "") for row in firsts]
    return list(grouped), list(_map_classes(words, title, task))


def _is_text(row: LabelRow, column: int, task: Task) -> bool:
    """Return whether the label is text, for a metric of the user's own, such as an edit distance."""
    if ":" not in task.metric or column >= len(row.cells):
        return False
    try:
        float(row.cells[column])
    except ValueError:
        return True
    return False


def _decode_text(data: bytes, title: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{title} is not UTF-8", str(error), "save the file as UTF-8") from None


def _split_rows(text: str, title: str, files: Collection[str]) -> tuple[list[str], list[LabelRow]]:
    """Return the header's cells except the file's (empty without a header), and the rows."""
    first_line = text.partition("\n")[0]
    delimiter = max((",", ";", "\t"), key=first_line.count)
    try:
        reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True)
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise DataError(f"{title} cannot be read", str(error), "write file,label in each line") from None
    lines = [(number, cells) for number, cells in lines if any(cells)]
    header: list[str] = []
    position = 0
    if lines and _is_header(lines[0][1], files):
        words = [cell.lower() for cell in lines[0][1]]
        position = next((words.index(word) for word in FILE_COLUMNS if word in words), 0)
        header = words[:position] + words[position + 1 :]
        lines = lines[1:]
    return header, [_make_row(number, cells, position, title) for number, cells in lines]


def _is_header(cells: Sequence[str], files: Collection[str]) -> bool:
    if any(_clean_name(cell) in files for cell in cells):
        return False
    words = {cell.lower() for cell in cells}
    return bool(words & {*FILE_COLUMNS, *LABEL_COLUMNS})


def _make_row(line: int, cells: Sequence[str], position: int, title: str) -> LabelRow:
    if position >= len(cells) or not cells[position]:
        raise DataError(f"{title}, line {line} has no file name", f"the line is {','.join(cells)[:100]}", "file,label")
    name = _clean_name(cells[position])
    if name.startswith("/") or ".." in name.split("/") or ":" in name.split("/")[0] or "\0" in name:
        raise DataError(
            f"{title}, line {line}: the path is outside the dataset",
            f"the file is {name[:100]}",
            "use paths inside the dataset",
        )
    return LabelRow(line, name, (*cells[:position], *cells[position + 1 :]))


def _clean_name(name: str) -> str:
    """Return a relative path with `/`."""
    return name.replace("\\", "/").removeprefix("./")


def _find_label_column(header: Sequence[str]) -> int:
    return next((header.index(word) for word in LABEL_COLUMNS if word in header), 0)


def _map_classes(words: Sequence[tuple[LabelRow, str]], title: str, task: Task) -> list[int]:
    """Return class numbers: the index in the task's labels file, the number itself, or the index in sorted names."""
    for row, word in words:
        if not word:
            raise DataError(
                f"{title}, line {row.line}: {row.file} has no label", "", "write the class after the file name"
            )
    names = {name: number for number, name in enumerate(read_label_names(task))}
    if not names and not all(is_integer_text(word) for _, word in words):
        names = {name: number for number, name in enumerate(sorted({word for _, word in words}))}
    return [_parse_class_number(row, word, names, title, task) for row, word in words]


def _parse_class_number(row: LabelRow, word: str, names: Mapping[str, int], title: str, task: Task) -> int:
    if word in names:
        return names[word]
    if not is_integer_text(word):
        raise DataError(
            f"{title}, line {row.line}: the class '{word[:60]}' does not exist",
            f"the labels file lists {', '.join(list(names)[:5])} …",
            "write the class as in the labels file, or as a number from 0",
        )
    number = int(word)
    class_count = 0
    if isinstance(task.output, Classification | Boxes):
        class_count = task.output.classes or len(names)
    if number < 0 or (class_count and number >= class_count):
        raise make_range_error(f"{title}, line {row.line}", number, class_count)
    return number


def make_range_error(where: str, number: int, class_count: int) -> DataError:
    return DataError(
        f"{where}: the label {number} is out of range",
        f"the {class_count} classes are numbered from 0 to {class_count - 1}"
        if class_count
        else "classes are numbered from 0",
        "number classes from 0; if the model's first score is a background class, set first_class = 1 in the task",
    )


def is_integer_text(word: str) -> bool:
    digits = word.removeprefix("-")
    return digits.isascii() and digits.isdigit() and len(digits) < 10


def _read_numbers(row: LabelRow, title: str) -> NDArray[Any]:
    """Return all cells after the file name, as float64 [k]."""
    try:
        values = np.array([float(cell) for cell in row.cells], np.float64)
    except ValueError as error:
        raise DataError(f"{title}, line {row.line}: the label is not a number", str(error), "file,value") from None
    if not len(values) or not np.isfinite(values).all():
        raise DataError(f"{title}, line {row.line}: {row.file} has no finite label", "", "file,value")
    return values


def _read_boxes(groups: Sequence[Sequence[LabelRow]], header: Sequence[str], title: str, task: Task) -> list[Label]:
    """Return [k, 5] for each file: class, left, top, right, bottom, in pixels. A row without a box has k = 0."""
    column = _find_label_column(header)
    words = next((words for words in BOX_COLUMNS if set(words) <= set(header)), None)
    places = [header.index(word) for word in words] if words else [1, 2, 3, 4]
    boxed = [[row for row in rows if any(row.cells)] for rows in groups]
    flat = [(row, row.cells[column] if column < len(row.cells) else "") for rows in boxed for row in rows]
    numbers = iter(_map_classes(flat, title, task))
    return [
        np.array([[next(numbers), *_read_box(row, places, title)] for row in rows], np.float64).reshape(-1, 5)
        for rows in boxed
    ]


def _read_box(row: LabelRow, places: Sequence[int], title: str) -> list[float]:
    try:
        left, top, right, bottom = (float(row.cells[place]) for place in places)
    except (ValueError, IndexError):
        raise DataError(
            f"{title}, line {row.line} has no box",
            f"the line is {','.join(row.cells)}",
            "file,label,left,top,right,bottom",
        ) from None
    if not (left < right and top < bottom):
        raise DataError(
            f"{title}, line {row.line}: the box is empty", f"{left:g},{top:g},{right:g},{bottom:g}", "left < right"
        )
    return [left, top, right, bottom]
