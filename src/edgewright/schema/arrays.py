"""The type of an array of any number type and shape; the docstrings name shapes and types."""

from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
