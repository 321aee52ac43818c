"""Every failure a user can meet.

    EdgewrightError                    exit
    ├── UsageError                        2   the command line, a plan or a config file is wrong
    │   ├── InputError                    2   --inputs or --shape do not fit the model
    │   ├── ConfigError                   2   edgewright.toml, a plan or a task file cannot be used
    │   └── DataError                     2   a data set cannot be used
    ├── ModelError                        6   the model cannot be read or is not supported
    │   ├── ModelNotFound                 2   no such file, or not a file
    │   ├── ModelUnreadable               6   empty, truncated, or not a model at all
    │   ├── ExternalDataMissing           6   weights that live beside the model are not there
    │   ├── ModelNotConvertible           6   a converter cannot express the model
    │   ├── ModelRejected                 6   the runtime refuses the model
    │   └── LimitReached                  6   the model needs more memory or time than is allowed
    ├── RuntimeMissing                    5   the runtime is not installed
    ├── OutputError                       1   what was made cannot be written where it shall go
    ├── DeviceUnreachable                 4   the device cannot be reached
    ├── WorkerError                       1   the process that runs the model failed
    │   ├── WorkerCrashed                 1   it died by a signal or left early
    │   └── WorkerTimeout               124   it gave no answer within the time limit
    ├── TrainingDiverged                  1   the loss of a training is no finite number any more
    ├── GateFailed                        3   a gate (fallback, accuracy, budget) was not met
    ├── StoreError                        1   the record of runs cannot be read or written
    │   ├── StoreLocked                   1   another process holds it
    │   ├── StoreCorrupt                  1   it is damaged
    │   ├── StoreNewer                    1   a newer Edgewright wrote it
    │   ├── StoreFull                     1   no space is left
    │   ├── ImportRejected                2   an exported run is not what it claims to be
    │   └── RunNotFound                   2   no run has this id
    └── Cancelled                       130   the user stopped it

An error is three lines: `what` happened, `why`, and what to `try_this`. Code that raises one fills in
all three; nothing below the command line prints.
"""

import errno
import re


class EdgewrightError(Exception):
    """A failure told to the user in three lines.

    Args:
        what: one line that says what failed, naming the thing.
        why: the cause as far as it is known, one or more lines.
        try_this: the next step that is likely to help.
    """

    exit_code = 1
    default_hint = "run again with --debug for the traceback"

    def __init__(self, what: str, why: str = "", try_this: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.try_this = try_this or self.default_hint

    def __str__(self) -> str:
        return f"{self.what}: {self.why}" if self.why else self.what


class UsageError(EdgewrightError):
    """The command line, a plan or a config file is wrong."""

    exit_code = 2
    default_hint = "edgewright COMMAND --help lists what a command takes"


class InputError(UsageError):
    """`--inputs` or `--shape` do not fit the model's signature."""


class ConfigError(UsageError):
    """A config, plan or task file cannot be used as it is."""


class DataError(UsageError):
    """A data set cannot be used: its files, its labels, or too many samples that cannot be read."""

    default_hint = "docs/evaluate.md tells how a data set is laid out"


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
    """The model keeps weights in a file of their own, and that file is not there."""

    default_hint = "put the data file beside the model, under the name that the model gives"


class ModelNotConvertible(ModelError):
    """A converter cannot express the model; `why` names every operator that stands in the way."""

    default_hint = "export the model without the operators named above"


class ModelRejected(ModelError):
    """The runtime refused to load or to run the model."""

    default_hint = "edgewright analyze MODEL names the operators that a runtime does not take"


class LimitReached(ModelError):
    """The model needs more memory or time than the limits allow; `limits.Budget` makes it."""

    default_hint = "raise the limits with EDGEWRIGHT_MEMORY_LIMIT=8GB and EDGEWRIGHT_TIME_LIMIT=600"


class RuntimeMissing(EdgewrightError):
    """The runtime, or a package it needs, is not installed."""

    exit_code = 5
    default_hint = "edgewright doctor lists the runtimes and the command that brings each"


class OutputError(EdgewrightError):
    """Files that were made cannot be written where they shall go; nothing half-written is left there."""

    default_hint = "check that the folder can be written to and that the disk is not full"


FULL_DISK_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FULL_DISK_PATTERN = re.compile(
    r"No space left on device|Disk quota exceeded|File too large|database or disk is full"
    r"|\(os error (?:28|122|27)\)|[0-9]+ requested and [0-9]+ written"
)


def find_full_disk_error(error: BaseException) -> OutputError | None:
    """Return the error that reports a full disk, if that has caused the given one; None otherwise.

    What it was raised from counts too, and the words of libraries that raise classes of their own: numpy's for an
    array that was written in part, Rust's and C's for the system's errors.
    """
    seen: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in seen:
        seen.append(one)
        if _is_full_disk(one):
            where = f" for {one.filename}" if isinstance(one, OSError) and one.filename else ""
            return OutputError(
                "the disk is full", f"there is no room{where}", "free some space, and run the same again"
            )
        one = one.__cause__ or one.__context__
    return None


def _is_full_disk(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in FULL_DISK_ERRNOS
    text = error.why if isinstance(error, EdgewrightError) else str(error)  # what failed may name a user's file
    return isinstance(error, Exception) and FULL_DISK_PATTERN.search(text[:10_000]) is not None


class DeviceUnreachable(EdgewrightError):
    """The device cannot be reached, or cannot do what was asked."""

    exit_code = 4
    default_hint = "check that the device is on and connected"


class WorkerError(EdgewrightError):
    """The process that runs the model failed."""


class WorkerCrashed(WorkerError):
    """The worker died by a signal or left before it answered."""

    default_hint = "the last lines of its own output are above; try another runtime, or fewer threads"


class WorkerTimeout(WorkerError):
    """The worker gave no answer within the time limit and was ended."""

    exit_code = 124
    default_hint = "give it more time with --timeout SECONDS"


class TrainingDiverged(EdgewrightError):
    """The loss of a training, or its gradient, is no finite number any more; `why` names the samples of the step."""

    default_hint = "lower the learning rate"


class GateFailed(EdgewrightError):
    """A gate that the user set was not met; the result itself is kept."""

    exit_code = 3
    default_hint = "the run is kept: edgewright runs show ID"


class StoreError(EdgewrightError):
    """The record of runs cannot be read or written."""

    default_hint = "check EDGEWRIGHT_HOME and the database address"


class StoreLocked(StoreError):
    """Another process holds the database longer than the waiting time."""

    default_hint = "end the other edgewright process, or wait for it"


class StoreCorrupt(StoreError):
    """The database is damaged or is not a database."""

    default_hint = "move the file aside and import the runs again from their exports"


class StoreNewer(StoreError):
    """A newer Edgewright wrote the database."""

    default_hint = "install the newer Edgewright, or point EDGEWRIGHT_HOME elsewhere"


class StoreFull(StoreError):
    """No space is left for the record."""

    default_hint = "free some space, or point EDGEWRIGHT_HOME at another disk"


class ImportRejected(StoreError):
    """An exported run is damaged, or is not what it claims to be; nothing of it was taken in."""

    exit_code = 2
    default_hint = "export the run again where it was made"


class RunNotFound(StoreError):
    """No run has this id."""

    exit_code = 2
    default_hint = "edgewright runs list shows the ids"


class Cancelled(EdgewrightError):
    """The user stopped it (Ctrl-C); what was measured until then is kept."""

    exit_code = 130
    default_hint = "what was measured until then is kept: edgewright runs list --state cancelled"
