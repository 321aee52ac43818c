"""coremltools without its warnings about torch versions and about native parts that only macOS has."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from typing import Any


@contextmanager
def silence_library() -> Iterator[None]:
    """Suppress log lines, warnings and progress bars."""
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
