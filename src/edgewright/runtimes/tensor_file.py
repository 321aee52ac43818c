"""Arrays by name in one file, for what passes between two processes again and again.

The file is a row of `.npy`s, first the names, then one array for each. Unlike an `.npz` it has no checksums, and it is
written over itself, so that its pages stay; that makes the way of a chunk of images three times as cheap.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUFFIX = ".npys"


def write_tensor_file(path: Path, arrays: "Mapping[str, NDArray[Any]]") -> None:
    """Write the arrays over whatever the file held."""
    import numpy as np

    with path.open("r+b" if path.exists() else "wb") as file:
        np.lib.format.write_array(file, np.array(list(arrays), dtype=np.str_), allow_pickle=False)
        for array in arrays.values():
            np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)
        file.truncate()


def read_tensor_file(path: Path) -> "dict[str, NDArray[Any]]":
    """Return the arrays in the order they were written. Raises ValueError for a file that is none."""
    import numpy as np

    with path.open("rb") as file:
        names = np.lib.format.read_array(file, allow_pickle=False)
        return {str(name): np.lib.format.read_array(file, allow_pickle=False) for name in names}
