"""Every error that a user can meet, with its exit code.

    EdgewrightError                    exit
    ├── UsageError                        2   the command line, a plan or a config file is wrong
    │   ├── InputError                    2   --inputs or --shape do not fit the model
    │   ├── ConfigError                   2   edgewright.toml, a plan or a task file cannot be used
    │   ├── FieldError                    2   a value of a form on the pages cannot be used
    │   └── DataError                     2   a dataset cannot be used
    ├── ModelError                        6   the model cannot be read or is not supported
    │   ├── ModelNotFound                 2   no such file, or not a file
    │   ├── ModelUnreadable               6   empty, truncated, or not a model at all
    │   ├── ExternalDataMissing           6   weights in a separate file are missing
    │   ├── ModelNotConvertible           6   a converter cannot express the model
    │   ├── ModelRejected                 6   the runtime failed to load or run the model
    │   └── LimitReached                  6   the model needs more memory or time than allowed
    ├── RuntimeMissing                    5   the runtime is not installed
    ├── OutputError                       1   the results cannot be written to their destination
    ├── DeviceUnreachable                 4   the device cannot be reached
    │   ├── DeviceUnauthorized            4   it answers, but does not let us in, or it is not the one that was added
    │   └── DeviceBusy                    4   another command measures on it
    ├── WorkerError                       1   the process that runs the model failed
    │   ├── WorkerCrashed                 1   it was killed by a signal or exited early
    │   └── WorkerTimeout               124   it gave no answer within the time limit
    ├── TrainingDiverged                  1   the loss of a training is not finite
    ├── KernelsDiffer                     1   a kernel does not compute what numpy computes
    ├── GateFailed                        3   a gate (fallback, accuracy, budget) was not met
    ├── StoreError                        1   the store cannot be read or written
    │   ├── StoreLocked                   1   another process holds it
    │   ├── StoreCorrupt                  1   it is damaged
    │   ├── StoreNewer                    1   a newer Edgewright wrote it
    │   ├── StoreFull                     1   no space is left
    │   ├── ImportRejected                2   an exported run is damaged or inconsistent
    │   └── RunNotFound                   2   no run has this id
    └── Cancelled                       130   the user stopped it

An error has three lines: `what` failed, `why`, and what to do (`try_this`). Code that raises an error sets all
three; no code below the command line prints.
"""

import errno
import re
import shlex
import sys
from pathlib import Path
from typing import Any


class EdgewrightError(Exception):
    """A failure that is reported to the user in three lines.

    Args:
        what: one line that says what failed, with the object's name.
        why: the cause as far as it is known, one or more lines.
        try_this: the next step that is likely to help.

    Attributes:
        result: of a function of the API that finished and then failed, such as at a gate; otherwise None.
    """

    exit_code = 1
    default_hint = "run again with --debug for the traceback"

    def __init__(self, what: str, why: str = "", try_this: str = "") -> None:
        super().__init__(what)
        self.result: Any = None
        self.what = what
        self.why = why
        self.try_this = try_this or self.default_hint

    def __str__(self) -> str:
        return f"{self.what}: {self.why}" if self.why else self.what


class UsageError(EdgewrightError):
    """The command line, a plan or a config file is wrong."""

    exit_code = 2
    default_hint = "edgewright COMMAND --help lists a command's options"


class InputError(UsageError):
    """`--inputs` or `--shape` do not fit the model's signature."""


class ConfigError(UsageError):
    """A config, plan or task file cannot be used as it is."""


class FieldError(UsageError):
    """A value of a form on the pages cannot be used; `field` is the name of its field."""

    def __init__(self, what: str, why: str = "", try_this: str = "", *, field: str = "") -> None:
        super().__init__(what, why, try_this)
        self.field = field


class DataError(UsageError):
    """A dataset cannot be used: its files, its labels, or too many unreadable samples."""

    default_hint = "docs/evaluate.md describes the layout of a dataset"


class ModelError(EdgewrightError):
    """The model cannot be read, or is not supported."""

    exit_code = 6
    default_hint = "open the model with the tool that wrote it, and export it again"


class ModelNotFound(ModelError):
    """There is no such file, or the path is not a file."""

    exit_code = 2
    default_hint = "check the path"


class ModelUnreadable(ModelError):
    """The file is empty, truncated, or not a model."""


class ExternalDataMissing(ModelError):
    """The model stores weights in a separate file, and that file is missing."""

    default_hint = "put the data file next to the model, under the name that the model refers to"


class ModelNotConvertible(ModelError):
    """A converter cannot express the model; `why` lists every unsupported operator."""

    default_hint = "export the model without the operators named above"


class ModelRejected(ModelError):
    """The runtime failed to load or to run the model."""

    default_hint = "edgewright analyze MODEL lists the operators that a runtime does not support"


class LimitReached(ModelError):
    """The model needs more memory or time than the limits allow; `limits.ResourceBudget` creates it."""

    default_hint = "raise the limits with EDGEWRIGHT_MEMORY_LIMIT=8GB and EDGEWRIGHT_TIME_LIMIT=600"


class RuntimeMissing(EdgewrightError):
    """The runtime, or a package it requires, is not installed."""

    exit_code = 5
    default_hint = "edgewright doctor lists the runtimes and the command that installs each"

    def __init__(self, what: str, why: str = "", try_this: str = "") -> None:
        super().__init__(what, why, name_installer(try_this))


def name_installer(advice: str) -> str:
    """Return the advice with the installer of this environment: `pip install` reaches none that pipx or uv made."""
    if (Path(sys.prefix) / "pipx_metadata.json").is_file():
        return advice.replace("pip install", "pipx runpip edgewright install")
    if (Path(sys.prefix) / "uv-receipt.toml").is_file():
        return advice.replace("pip install", f"uv pip install --python {shlex.quote(sys.prefix)}")
    return advice


class OutputError(EdgewrightError):
    """The results cannot be written to their destination; no partial file is left there."""

    default_hint = "check that the folder is writable and that the disk is not full"


FULL_DISK_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FULL_DISK_PATTERN = re.compile(
    r"No space left on device|Disk quota exceeded|File too large|database or disk is full"
    r"|\(os error (?:28|122|27)\)|[0-9]+ requested and [0-9]+ written"
)


def find_full_disk_error(error: BaseException) -> OutputError | None:
    """Return the error for a full disk if that caused the given error, otherwise None.

    Causes are followed, and messages of libraries with error classes of their own are recognized: numpy's for an array
    that was written in part, Rust's and C's for system errors.
    """
    seen: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in seen:
        seen.append(one)
        if _is_full_disk(one):
            where = f" for {one.filename}" if isinstance(one, OSError) and one.filename else ""
            return OutputError(
                "the disk is full", f"there is no space left{where}", "free some space, and run the command again"
            )
        one = one.__cause__ or one.__context__
    return None


def _is_full_disk(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in FULL_DISK_ERRNOS
    text = error.why if isinstance(error, EdgewrightError) else str(error)  # `what` may contain a user's file name
    return isinstance(error, Exception) and FULL_DISK_PATTERN.search(text[:10_000]) is not None


class DeviceUnreachable(EdgewrightError):
    """The device cannot be reached, or does not support the request."""

    exit_code = 4
    default_hint = "check that the device is on and connected"


class DeviceUnauthorized(DeviceUnreachable):
    """The device answers, but does not accept the key, or its own key is not the known one."""

    default_hint = "edgewright devices check NAME shows what is missing"


class DeviceBusy(DeviceUnreachable):
    """Another command of Edgewright uses the device, which would distort both measurements."""

    default_hint = "wait until the other command has ended"


class WorkerError(EdgewrightError):
    """The process that runs the model failed."""


class WorkerCrashed(WorkerError):
    """The worker was killed by a signal or exited before it answered."""

    default_hint = "read the last lines of the worker's output above; try another runtime, or fewer threads"


class WorkerTimeout(WorkerError):
    """The worker gave no answer within the time limit and was ended."""

    exit_code = 124
    default_hint = "raise the limit with --timeout SECONDS"


class TrainingDiverged(EdgewrightError):
    """The loss or gradient of a training is not finite; `why` lists the samples of the step."""

    default_hint = "lower the learning rate"


class KernelsDiffer(EdgewrightError):
    """A kernel does not compute what numpy computes."""

    default_hint = "set EDGEWRIGHT_KERNELS=numpy, and report the output of edgewright kernels check --json"


class GateFailed(EdgewrightError):
    """A gate that the user set was not met; the result itself is stored."""

    exit_code = 3
    default_hint = "the run is stored: edgewright runs show ID prints it"


class StoreError(EdgewrightError):
    """The store cannot be read or written."""

    default_hint = "check EDGEWRIGHT_HOME and the database address"


class StoreLocked(StoreError):
    """Another process holds the database for longer than the waiting time."""

    default_hint = "end the other edgewright process, or wait until it ends"


class StoreCorrupt(StoreError):
    """The database is damaged or is not a database."""

    default_hint = "move the file away, and import the runs again from their exports"


class StoreNewer(StoreError):
    """A newer Edgewright wrote the database."""

    default_hint = "install the newer Edgewright, or set EDGEWRIGHT_HOME to another folder"


class StoreFull(StoreError):
    """No space is left for the store."""

    default_hint = "free some space, or set EDGEWRIGHT_HOME to a folder on another disk"


class ImportRejected(StoreError):
    """An exported run is damaged or inconsistent; nothing of it was imported."""

    exit_code = 2
    default_hint = "export the run again on the machine that recorded it"


class RunNotFound(StoreError):
    """No run has this id."""

    exit_code = 2
    default_hint = "edgewright runs list shows the ids"


class Cancelled(EdgewrightError):
    """The user stopped the command (Ctrl-C); measurements so far are stored."""

    exit_code = 130
    default_hint = "the measurements so far are stored: edgewright runs list --state cancelled lists them"
