"""coremltools, kept quiet: it warns of torch versions, and of native parts that only macOS has, on its import."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from typing import Any


@contextmanager
def silence_library() -> Iterator[None]:
    """No log lines, warnings or progress bars."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def load_library() -> Any:
    with silence_library():
        import coremltools
    return coremltools
