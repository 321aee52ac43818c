"""Arrays by name in one file, for repeated transfers between two processes.

The file is a sequence of `.npy`s, first the names, then one array for each. Unlike an `.npz` it has no checksums, and
it is overwritten in place, so that its pages stay; that makes the transfer of a chunk of images three times as fast.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUFFIX = ".npys"


def write_tensor_file(path: Path, arrays: "Mapping[str, NDArray[Any]]") -> None:
    """Overwrite the file with the arrays."""
    import numpy as np

    with path.open("r+b" if path.exists() else "wb") as file:
        np.lib.format.write_array(file, np.array(list(arrays), dtype=np.str_), allow_pickle=False)
        for array in arrays.values():
            np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)
        file.truncate()


def read_tensor_file(path: Path) -> "dict[str, NDArray[Any]]":
    """Return the arrays in the order of writing. Raises ValueError for other files."""
    import numpy as np

    with path.open("rb") as file:
        names = np.lib.format.read_array(file, allow_pickle=False)
        return {str(name): np.lib.format.read_array(file, allow_pickle=False) for name in names}
