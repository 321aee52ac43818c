"""What prune and distil begin with: task, data and settings read and checked, and the training data laid out."""

from hashlib import sha256
from pathlib import Path
from shutil import rmtree
from typing import Any, NamedTuple

import msgspec

from edgewright import __version__
from edgewright.bench.session import Tell
from edgewright.devices.contract import Device
from edgewright.errors import ConfigError, UsageError
from edgewright.facts.plan import DistilPlan, PrunePlan
from edgewright.flows.contest import Court
from edgewright.flows.conversion import check_installed
from edgewright.flows.laying import lay_out_training
from edgewright.flows.resolve import check_number, check_runs_here
from edgewright.runtimes.table import runtime_info
from edgewright.store.store import Store
from edgewright.tasks.contract import Task
from edgewright.tasks.data import Data, open_data
from edgewright.training.job import Laid, Settings

Plan = PrunePlan | DistilPlan
MOST_SEEDS = 20


class Course(NamedTuple):
    """All that is known before anything is trained.

    Attributes:
        shapes: of the inputs, with the batch of 1.
        memory: folder of what is trained, kept until all is done.
        laid: None where nothing is trained.
        fingerprints: of the training data, and of what judges.
    """

    task: Task
    settings: Settings
    shapes: dict[str, tuple[int, ...]]
    memory: Path
    laid: Laid | None
    fingerprints: tuple[str, str]
    court: Court

    @property
    def task_json(self) -> str:
        return msgspec.json.encode(self.task).decode()


def begin_course(
    plan: Plan, content: str, verb: str, out: Path, device: Device, store: Store, tell: Tell, *, trains: bool
) -> Course:
    """Read and check everything.

    Args:
        content: hash of the model or models.
        verb: `prune` or `distil`.
        trains: whether the training data is wanted.

    Raises UsageError, ConfigError, DataError, and RuntimeMissing.
    """
    settings = read_settings(plan)
    check_host(plan.runtime, device)
    task = msgspec.convert(plan.task, Task)
    with open_data(plan.val, task) as val:
        if not val.labelled:
            raise ConfigError(
                f"{plan.val} has no labels", "the result is judged by the task's metric", "bring labelled data as --val"
            )
        shapes = dict(plan.shapes) or first_shapes(val)
        judged = val.fingerprint
    trained, laid = "", None
    if trains:
        with open_data(plan.data, task) as data:
            trained = data.fingerprint
            check_classes(data)
    key = key_of(plan, content, trained, settings)
    memory = out / f".edgewright-{verb}-{key}"
    if trains:
        laid = lay_out_training(plan.data, task, memory / "data", held_out=plan.held_out, seed=settings.seed, tell=tell)
    court = Court(plan.task, plan.val, plan.runtime, plan.threads, plan.timeout_s, device, store, tell)
    return Course(task, settings, shapes, memory, laid, (trained, judged), court)


def read_settings(plan: Plan) -> Settings:
    if not 1 <= plan.seeds <= MOST_SEEDS:
        raise UsageError(f"--seeds {plan.seeds} cannot be used", f"from 1 to {MOST_SEEDS}", "--seeds 3")
    if not 0 < plan.held_out < 1:
        raise UsageError(f"--held-out {plan.held_out:g} cannot be used", "it is a share of the data", "--held-out 0.1")
    check_number("timeout_s", plan.timeout_s)
    try:
        settings = msgspec.convert(plan.settings, Settings)
    except msgspec.ValidationError as error:
        raise UsageError("the training cannot be set so", str(error), "docs/training.md has every word") from None
    if not settings.epochs > 0 or settings.batch < 2 or not settings.lr > 0:
        raise UsageError(
            "the training cannot be set so",
            f"epochs {settings.epochs:g}, batch {settings.batch}, learning rate {settings.lr:g}",
            "--epochs 10 --batch 128 --lr 0.05",
        )
    return settings


def check_host(runtime: str, device: Device) -> None:
    info = runtime_info(runtime)
    check_runs_here(info)
    if info.name not in device.environment().get("locks", {}):
        check_installed(info)


def check_classes(data: Data) -> None:
    """ConfigError where there is nothing to tell apart: one class only."""
    if not data.labelled or data.labels_cost:
        return
    first = data.label(0)
    if isinstance(first, int) and all(data.label(place) == first for place in range(1, len(data))):
        raise ConfigError(
            f"all samples of {data.title} are of one class, {first}",
            "there is nothing to learn to tell apart",
            "bring samples of the other classes",
        )


def first_shapes(data: Data) -> dict[str, tuple[int, ...]]:
    sample = next(iter(data.read([0])))
    return {name: array.shape for name, array in sample.feeds.items()}


def key_of(plan: Plan, content: str, fingerprint: str, settings: Settings) -> str:
    """Hash of all that decides what is trained, without any path: a folder that was moved goes on elsewhere."""
    bare = msgspec.to_builtins(plan)
    for name in ("source", "weights", "teacher", "teacher_weights", "student_weights", "data", "val", "timeout_s"):
        bare.pop(name, None)
    if "student" in bare:
        bare["student"] = Path(bare["student"]).name
    said: list[Any] = [__version__, content, fingerprint, bare, msgspec.to_builtins(settings)]
    return sha256(msgspec.json.encode(said, order="sorted")).hexdigest()[:16]


def forget(memory: Path) -> None:
    if memory.is_dir():
        rmtree(memory)
