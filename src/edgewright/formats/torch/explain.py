"""Errors of torch in full: without escape codes and general advice, with the line of the user's code."""

import re
import traceback
from pathlib import Path
from sysconfig import get_paths

ESCAPE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
# Beginnings of lines that are advice about torch itself.
ADVICE = (
    "For more",
    "For extended logs",
    "For C++ stack trace",
    "If you suspect",
    "The error above occurred",
    "(Refer to the full stack trace",
    "Caused by: (_export/",
)
MAX_CHARS = 2000


def explain_error(error: BaseException) -> str:
    """Return class and text of the error that caused this one, and the innermost line of the user's own code."""
    cause = error
    while (earlier := cause.__cause__ or cause.__context__) is not None:
        cause = earlier
    kept = [line for line in ESCAPE.sub("", str(cause)).splitlines() if line.strip() and not line.startswith(ADVICE)]
    shown = "\n".join(kept)[:MAX_CHARS]
    what = f"{type(cause).__name__}: {shown}" if shown else type(cause).__name__
    line = _find_own_line(cause) or _find_own_line(error)
    return what if not line or line in what or "\n  File " in what else f"{what}\n{line}"


def _find_own_line(error: BaseException) -> str:
    """Return the innermost line outside of installed packages, of the standard library and of Edgewright."""
    installed = {Path(path).resolve() for path in get_paths().values()} | {Path(__file__).resolve().parents[2]}
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_file() and installed.isdisjoint(path.resolve().parents):
            return f'File "{path.name}", line {frame.lineno}, in {frame.name}: {ESCAPE.sub("", frame.line or "")}'
    return ""
