"""Replacement of sizes that pnnx computes from another blob in Reshapes by constant sizes."""

from collections.abc import Mapping, Sequence

from edgewright.runtimes.ncnn.param import ParamRow, make_input_params
from edgewright.schema.arrays import Array

EXPRESSION = "6"  # the parameter of Reshape with sizes as a text such as "0w,1h,1c"


def fix_reshapes(rows: Sequence[ParamRow], blobs: Mapping[str, Array]) -> list[ParamRow]:
    """Return the rows without Reshapes that read sizes from another blob, since the sizes of an artifact are static.

    ncnn's Reshape of two blobs took 27 ms, the one with sizes 0.13 ms (192 × 1600 floats into 192 × 40 × 40).
    """
    fixed = [_with_sizes(row, blobs) if _is_computed(row) else row for row in rows]
    read = {blob for row in fixed for blob in row.bottoms}
    ends = {top for row in rows for top in row.tops} - {blob for row in rows for blob in row.bottoms}
    return _without_idle_splits(fixed, read | ends)


def _is_computed(row: ParamRow) -> bool:
    return row.op == "Reshape" and EXPRESSION in row.params


def _with_sizes(row: ParamRow, blobs: Mapping[str, Array]) -> ParamRow:
    return row._replace(bottoms=row.bottoms[:1], params=make_input_params(blobs[row.tops[0]].shape))


def _without_idle_splits(rows: Sequence[ParamRow], read: set[str]) -> list[ParamRow]:
    """Drop unread outputs of Split, which would count as model outputs; a Split with one reader is dropped whole."""
    names: dict[str, str] = {}
    kept = []
    for row in rows:
        row = row._replace(bottoms=tuple(names.get(blob, blob) for blob in row.bottoms))
        if row.op == "Split":
            row = row._replace(tops=tuple(top for top in row.tops if top in read))
            if len(row.tops) == 1:
                names[row.tops[0]] = row.bottoms[0]
                continue
        kept.append(row)
    return kept
