"""Where the file with a model's custom operators is. A worker imports this module for every model."""

import os
from pathlib import Path

VARIABLE = "EDGEWRIGHT_CUSTOM_OPS"  # path of the file for the workers of one `compile`
SUFFIX = ".operators.json"
HINT = "run edgewright compile with --custom-ops FOLDER again, on this machine"


def find_operators_path(model: Path) -> Path | None:
    """Return the file for the running `compile`, or beside the model; None if there is none."""
    if path := os.environ.get(VARIABLE):
        return Path(path)
    beside = model.with_suffix(SUFFIX) if model.name else model
    return beside if model.name and beside.is_file() else None
