"""`python -m edgewright.training.worker JOB.json`: train, inspect or ask, telling how far it is, a JSON line each.

A process of its own, as `compress/worker.py` is: torch lives here alone, and stdout belongs to the words of `job.py`.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from edgewright.compress.job import Finished, Trouble
from edgewright.errors import EdgewrightError, OutputError, RuntimeMissing, full_disk
from edgewright.system.parent import die_with_parent
from edgewright.training.job import AskJob, InspectJob, Job, TrainJob, Word


def main(path: str) -> None:
    die_with_parent()
    channel = os.dup(1)
    os.dup2(2, 1)  # what libraries print must not stand between the words

    def say(word: Word) -> None:
        os.write(channel, msgspec.json.encode(word) + b"\n")

    job: Job = msgspec.json.decode(Path(path).read_bytes(), type=Job)
    try:
        run(job, say)
    except EdgewrightError as error:
        say(trouble(full_disk(error) or error))
    except ImportError as error:
        say(
            trouble(
                RuntimeMissing(
                    f"training needs the package {error.name}", str(error), 'pip install "edgewright[train]"'
                )
            )
        )
    except OSError as error:
        say(trouble(full_disk(error) or OutputError("a file cannot be read or written", str(error))))
    except Exception as error:
        if (full := full_disk(error)) is None:
            raise
        say(trouble(full))
    else:
        say(Finished())


def trouble(error: EdgewrightError) -> Trouble:
    return Trouble(kind=type(error).__name__, what=error.what, why=error.why, try_this=error.try_this)


def run(job: Job, say: Callable[[Word], None]) -> None:
    match job:
        case TrainJob():
            from edgewright.training.train import run_train

            run_train(job, say)
        case AskJob():
            from edgewright.training.teach import run_ask

            run_ask(job, say)
        case InspectJob():
            from edgewright.training.inspect import run_inspect

            run_inspect(job, say)


if __name__ == "__main__":
    main(sys.argv[1])
