"""Setup of prune and distill: checked task, data and settings, and the cached training data."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from shutil import rmtree
from typing import Any, NamedTuple

import msgspec

from edgewright import __version__
from edgewright.devices.protocol import Device
from edgewright.errors import (
    Cancelled,
    ConfigError,
    DeviceUnreachable,
    EdgewrightError,
    RuntimeMissing,
    StoreError,
    UsageError,
    WorkerError,
)
from edgewright.flows.candidates import check_number, check_runs_here
from edgewright.flows.compile.conversion import check_installed
from edgewright.flows.compile.publication import raise_output_errors
from edgewright.flows.experiment.control import EvaluationContext
from edgewright.flows.experiment.dataset_cache import cache_dataset
from edgewright.flows.workspace import Workspace
from edgewright.formats.files import hash_file
from edgewright.runtimes.table import find_runtime
from edgewright.schema.model import Signature
from edgewright.schema.plan import DistillPlan, PrunePlan
from edgewright.store.secret import load_folder_key
from edgewright.system.locks import try_lock
from edgewright.tasks.data.dataset import Dataset, open_dataset
from edgewright.tasks.spec.check import check_labels, check_task
from edgewright.tasks.spec.task import Task
from edgewright.training.job import CachedDataset, Settings
from edgewright.training.loop.checkpoint import NAME as CHECKPOINT

TrainingPlan = PrunePlan | DistillPlan
MAX_SEEDS = 20
LOCK_FILE = "held"
TRAINING_PACKAGES = ("torch", "onnxscript", "lightning_fabric", "safetensors")
# Fields that do not affect the training: paths, whose content is hashed instead, and evaluation settings.
UNHASHED_FIELDS = (
    "source", "weights", "teacher", "teacher_weights", "student_weights", "data", "val", "val_fingerprint", "timeout_s",
    "threads", "control", "settings", "code",
)  # fmt: skip


class Experiment(NamedTuple):
    """Everything that is known before training.

    Attributes:
        shapes: of the inputs, with a batch of 1.
        memory: folder of trained networks, kept until all is done.
        dataset: the cached training data; None without training, and before it is cached.
        fingerprints: of the training data and of the test data.
    """

    task: Task
    settings: Settings
    shapes: dict[str, tuple[int, ...]]
    memory: Path
    dataset: CachedDataset | None
    fingerprints: tuple[str, str]
    context: EvaluationContext

    @property
    def task_json(self) -> str:
        return msgspec.json.encode(self.task).decode()


def prepare_experiment(
    plan: TrainingPlan,
    content: str,
    verb: str,
    out: Path,
    workspace: Workspace,
    *,
    trains: bool,
) -> Experiment:
    """Read and check everything that does not need training data.

    Args:
        content: hash of the model or models.
        verb: `prune` or `distil`.
        trains: whether training data is required.

    Raises UsageError, ConfigError, DataError, and RuntimeMissing.
    """
    settings = read_settings(plan)
    _check_host(plan.runtime, workspace.device)
    if trains:
        check_training_packages()
    task = msgspec.convert(plan.task, Task)
    with open_dataset(plan.val, task, plan.code) as val:
        if not val.labeled:
            raise ConfigError(
                f"{plan.val} has no labels", "the task's metric requires labels", "provide labeled data with --val"
            )
        shapes = dict(plan.shapes) or _read_input_shapes(val)
        val_fingerprint = _compute_fingerprint(plan.val, val)
    trained = ""
    if trains:
        with open_dataset(plan.data, task, plan.code) as data:
            trained = _compute_fingerprint(plan.data, data)
            check_classes(data)
        if trained == val_fingerprint:
            why = "training data cannot serve as the test set"
            raise UsageError("--data and --val are the same dataset", why, "split the dataset into two")
    key = compute_key(plan, content, trained, settings, load_folder_key(workspace.store.home))
    context = EvaluationContext(
        plan.task, plan.val, plan.runtime, plan.threads, plan.timeout_s, workspace.with_steps(), code=plan.code
    )
    return Experiment(
        task, settings, shapes, out / f".edgewright-{verb}-{key}", None, (trained, val_fingerprint), context
    )


def check_validation_data(experiment: Experiment, signature: Signature) -> None:
    """Raise ConfigError or DataError if the task or the test labels do not fit the model."""
    check_task(experiment.task, signature)
    with open_dataset(experiment.context.val, experiment.task, experiment.context.code) as val:
        check_labels(val, experiment.task, signature, range(len(val)))


@contextmanager
def open_experiment_folder(experiment: Experiment, plan: TrainingPlan) -> Iterator[Experiment]:
    """Yield the experiment with its cached training data, in a folder that is locked for other processes.

    After an interruption or an external failure the folder is kept for the next attempt; after other errors only if
    something was trained. Raises UsageError if the same command is running, Cancelled after Ctrl-C.
    """
    with raise_output_errors(experiment.memory):
        experiment.memory.mkdir(parents=True, exist_ok=True)
    with (experiment.memory / LOCK_FILE).open("ab") as lock_file:
        if not try_lock(lock_file):
            what, why = "the same command is already running", f"it holds the lock {lock_file.name}"
            raise UsageError(what, why, "wait until it ends, or choose another --output")
        try:
            dataset = cache_dataset(
                partial(open_dataset, plan.data, experiment.task, plan.code), experiment.memory / "data",
                held_out=plan.held_out, seed=experiment.settings.seed, progress=experiment.context.workspace.progress,
            )  # fmt: skip
            yield experiment._replace(dataset=dataset)
        except (KeyboardInterrupt, Cancelled) as error:
            what = error.what if isinstance(error, Cancelled) else "stopped by Ctrl-C"
            done = "trained" if _has_trained(experiment.memory) else "prepared (no training had reached a checkpoint)"
            why = f"what was {done} is kept in {experiment.memory}"
            raise Cancelled(what, why, "run the same command again to resume") from None
        except (WorkerError, StoreError, DeviceUnreachable):
            raise
        except EdgewrightError:
            if not _has_trained(experiment.memory):
                remove_folder(experiment.memory)
            raise


def _compute_fingerprint(spec: str, data: Dataset) -> str:
    """Return the fingerprint of the dataset; of a function, which has none, its name and file."""
    if data.fingerprint:
        return data.fingerprint
    file = Path(spec.rpartition(":")[0])
    return (
        f"{file.name if file.is_file() else ''}{spec.rpartition(':')[2]} {hash_file(file) if file.is_file() else spec}"
    )


def read_settings(plan: TrainingPlan) -> Settings:
    if not 1 <= plan.seeds <= MAX_SEEDS:
        raise UsageError(
            f"--seeds {plan.seeds} cannot be used", f"the number must be from 1 to {MAX_SEEDS}", "use --seeds 3"
        )
    if not 0 < plan.held_out < 1:
        raise UsageError(
            f"--held-out {plan.held_out:g} cannot be used", "the share must be between 0 and 1", "use --held-out 0.1"
        )
    check_number("timeout_s", plan.timeout_s)
    check_number("threads", plan.threads)
    return parse_settings(plan.settings)


def parse_settings(given: Mapping[str, Any]) -> Settings:
    """Return the training settings; UsageError if they are not valid."""
    if unknown := [word for word, value in given.items() if isinstance(value, float) and value != value]:
        raise UsageError("the training settings are not valid", f"{unknown[0]}: NaN is not allowed", "use the default")
    try:
        return msgspec.convert(given, Settings)
    except msgspec.ValidationError as error:
        what, _, word = str(error).partition(" - at `$.")
        why = f"{word.rstrip('`')}: {what}" if word else what
        raise UsageError(
            "the training settings are not valid", why, "docs/training.md describes every setting"
        ) from None


def _check_host(runtime: str, device: Device) -> None:
    info = find_runtime(runtime)
    check_runs_here(info)
    if info.name not in device.environment().get("locks", {}):
        check_installed(info)


def check_training_packages() -> None:
    """Raise RuntimeMissing if a package for training is not installed."""
    if missing := [name for name in TRAINING_PACKAGES if find_spec(name) is None]:
        raise RuntimeMissing(
            f"training needs {missing[0]}, which is not installed",
            "torch must be installed first, on its own and in this version, or pip installs gigabytes of CUDA packages",
            "run pip install torch==2.13.0, then pip install 'edgewright[train]'",
        )


def check_classes(data: Dataset) -> None:
    """Raise ConfigError if all labels are the same class."""
    if not data.labeled or data.labels_are_slow:
        return
    first = data.label(0)
    if isinstance(first, int) and all(data.label(index) == first for index in range(1, len(data))):
        raise ConfigError(
            f"all samples of {data.title} belong to one class, {first}",
            "training a classifier requires at least two classes",
            "add samples of the other classes",
        )


def _read_input_shapes(data: Dataset) -> dict[str, tuple[int, ...]]:
    sample = next(iter(data.read([0])))
    return {name: array.shape for name, array in sample.feeds.items()}


def compute_key(plan: TrainingPlan, content: str, fingerprint: str, settings: Settings, secret: str) -> str:
    """Return a hash of everything that determines the training, without paths, so that a folder may be moved.

    It includes a secret of the user's store, so that a folder from another user is never resumed.
    """
    bare = msgspec.to_builtins(plan)
    for name in UNHASHED_FIELDS:
        bare.pop(name, None)
    if (
        isinstance(plan, DistillPlan)
        or plan.method == "unstructured"
        or any((plan.target_speedup, plan.target_bytes, plan.target_macs))
    ):
        bare.pop("max_drop")
    if "student" in bare:
        bare["student"] = Path(bare["student"]).name
    if bare["task"]["output"].get("labels"):
        bare["task"]["output"]["labels"] = ""
    steps = msgspec.to_builtins(settings) | {"checkpoint_s": 0, "threads": 0}
    hashed: list[Any] = [__version__, secret, content, fingerprint, bare, steps]
    return sha256(msgspec.json.encode(hashed, order="sorted")).hexdigest()[:16]


def _has_trained(memory: Path) -> bool:
    """Return whether the folder has a checkpoint or the result of a finished training."""
    return any(path.name in (CHECKPOINT, "report.json") for path in memory.rglob("*"))


def remove_folder(memory: Path) -> None:
    if memory.is_dir():
        rmtree(memory)
