"""Isolated environments: folders with a Python and the packages of one lock, for packages that conflict with others.

They are in `environments` in the user's data folder, are created only by `edgewright runtimes setup NAME`
(`flows/environments/flow.py`), and workers run in their interpreters.

A lock is the file `locks/NAME.txt`: all packages including dependencies as `name==version`, written by
`scripts/lock_environments.py`. Its hash is in the folder's name, so that an environment of an older lock is
not used.
"""

import sys
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
from msgspec import Struct

from edgewright.errors import RuntimeMissing, UsageError
from edgewright.schema.text import suggest

FOLDER = "environments"
LOCKS = Path(__file__).with_name("locks")
LAUNCHER = Path(__file__).with_name("launch.py")
RECORD = "edgewright-environment.json"
HASH_DIGITS = 12
# The builds without CUDA, which PyPI does not have; requested only if the user's own indexes lack them.
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
WORKER = "edgewright.runtimes.worker"
LANGUAGE_WORKER = "edgewright.llm.engines.worker"

State = Literal["ready", "outdated", "broken", "absent"]


class Environment(NamedTuple):
    """An isolated environment, as known before its setup.

    Attributes:
        runtime: the runtime whose worker it is for; empty for one that runs no models.
        purpose: its converter or runtime, in a few words.
        requirements: packages that its lock is resolved from.
        megabytes: its size on Linux x86-64, Python 3.11.
        newest_python: the newest Python that its packages have wheels for.
        modules: that are imported at the end of the setup, if there is no worker to start.
        worker: module of the worker that its setup starts.
    """

    name: str
    runtime: str
    purpose: str
    requirements: tuple[str, ...]
    megabytes: int
    newest_python: tuple[int, int] = (3, 13)
    modules: tuple[str, ...] = ()
    worker: str = WORKER


class EnvironmentRecord(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The record in a complete environment.

    Attributes:
        lock: sha256 of its lock.
        python: version of its interpreter.
        made_at: UTC, ISO 8601.
        bytes: size of all its files after setup.
        packages: versions by name, as pip reported them.
        wheels: sha256 of the file that each package came from, as far as pip reported it.
        conflicts: output of `pip check`; empty without conflicts.
    """

    schema: str = "edgewright.environment/1"
    name: str
    lock: str
    python: str
    made_at: str
    bytes: int
    packages: dict[str, str]
    wheels: dict[str, str] = {}
    conflicts: tuple[str, ...] = ()


ONNX = "onnx==1.23.2"
# Imports of every worker.
WORKER_REQUIREMENTS = ("msgspec==0.22.0", "numpy==2.4.6")
# Edgewright's own dependencies that compilers use to compare their results with ONNX Runtime.
BASE = ("onnxruntime==1.31.1", ONNX, *WORKER_REQUIREMENTS)
TORCH = "torch==2.13.0"

ENVIRONMENTS: dict[str, Environment] = {
    "onnxruntime": Environment(
        name="onnxruntime",
        runtime="onnxruntime",
        purpose="ONNX Runtime",
        requirements=BASE,
        megabytes=200,
    ),
    "litert": Environment(
        name="litert",
        runtime="litert",
        purpose="LiteRT and Edgewright's LiteRT writer",
        requirements=("ai-edge-litert==2.3.0", "flatbuffers==25.12.19", *BASE),
        megabytes=260,
    ),
    "ncnn": Environment(
        name="ncnn",
        runtime="ncnn",
        purpose="ncnn and its converter pnnx",
        requirements=("ncnn==1.0.20261020", "pnnx==20261020", TORCH, *BASE),
        megabytes=1170,
    ),
    "mnn": Environment(
        name="mnn",
        runtime="mnn",
        purpose="MNN and its converter",
        requirements=("mnn==3.6.1", *BASE),
        megabytes=250,
    ),
    "openvino": Environment(
        name="openvino",
        runtime="openvino",
        purpose="OpenVINO and its converter",
        requirements=("openvino==2026.4.1", *BASE),
        megabytes=380,
    ),
    "executorch": Environment(
        name="executorch",
        runtime="executorch",
        purpose="ExecuTorch and its compiler, with torch",
        requirements=("executorch==1.5.1", TORCH, "torchao==0.18.0", *BASE),
        megabytes=1570,
    ),
    "coreml": Environment(
        name="coreml",
        runtime="coreml",
        purpose="Core ML's converter, with torch",
        requirements=("coremltools==9.0", TORCH, *BASE),
        megabytes=1080,
    ),
    "litert-torch": Environment(
        name="litert-torch",
        runtime="litert",
        purpose="torch programs to LiteRT",
        requirements=("litert-torch==0.10.0", TORCH, ONNX, *WORKER_REQUIREMENTS),
        megabytes=2150,
    ),
    "onnx2tf": Environment(
        name="onnx2tf",
        runtime="litert",
        purpose="ONNX to LiteRT through TensorFlow, for models that Edgewright's writer rejects",
        requirements=("onnx2tf==1.29.24", "msgspec==0.22.0"),
        megabytes=2560,
        newest_python=(3, 11),
    ),
    "flower": Environment(
        name="flower",
        runtime="",
        purpose="federated learning: Flower with torch, and the accountant of its privacy",
        requirements=(
            "flwr==1.41.0",
            "dp-accounting==0.6.0",
            "safetensors==0.8.0",
            TORCH,
            ONNX,
            *WORKER_REQUIREMENTS,
        ),
        megabytes=1240,
        modules=("flwr.server", "dp_accounting", "torch"),
    ),
    "onnxruntime-genai": Environment(
        name="onnxruntime-genai",
        runtime="onnxruntime-genai",
        purpose="language models in ONNX Runtime GenAI",
        requirements=("onnxruntime-genai==0.18.0", *WORKER_REQUIREMENTS),
        megabytes=220,
        worker=LANGUAGE_WORKER,
    ),
    "llamacpp": Environment(
        name="llamacpp",
        runtime="llamacpp",
        purpose="language models in llama.cpp",
        requirements=(
            "xllamacpp==2026.10.11549",
            "llama-cpp-py-sync==0.11739",
            "cffi==2.1.1",
            *WORKER_REQUIREMENTS,
        ),
        megabytes=220,
        worker=LANGUAGE_WORKER,
    ),
    "litert-lm": Environment(
        name="litert-lm",
        runtime="litert-lm",
        purpose="language models in LiteRT-LM",
        requirements=("litert-lm-api==0.18.1", *WORKER_REQUIREMENTS),
        megabytes=230,
        worker=LANGUAGE_WORKER,
    ),
}


class EnvironmentStatus(NamedTuple):
    """State of an environment on this machine.

    Attributes:
        path: its folder, which need not exist.
        record: None unless it is ready or outdated.
        leftovers: folders of older locks.
    """

    environment: Environment
    state: State
    lock: str
    path: Path
    record: EnvironmentRecord | None = None
    leftovers: tuple[Path, ...] = ()


def find_environment(word: str) -> Environment:
    """Return the environment with the name `word`. Raises UsageError with the known ones."""
    name = word.strip().lower().replace("_", "-")
    if name in ENVIRONMENTS:
        return ENVIRONMENTS[name]
    raise UsageError(
        f"unknown environment '{word}'{suggest(name, ENVIRONMENTS)}",
        f"known: {', '.join(ENVIRONMENTS)}",
        "edgewright runtimes list shows what each is for",
    )


def get_lock_path(name: str) -> Path:
    return LOCKS / f"{name}.txt"


def lock_hash(name: str) -> str:
    """Return the sha256 of the lock file, 64 hex digits."""
    return sha256(get_lock_path(name).read_bytes()).hexdigest()


def read_lock(name: str) -> dict[str, str]:
    """Return versions by package name, normalized like pip."""
    lines = [line.partition("#")[0].strip() for line in get_lock_path(name).read_text(encoding="utf-8").splitlines()]
    pairs = [line.split("==") for line in lines if line]
    return {normalize_name(package): version for package, version in pairs}


def select_cpu_build(requirement: str) -> str:
    """Return requirements with torch's build without CUDA on Linux, which has its own version; other systems have no
    other.
    """
    return f"{requirement}+cpu" if requirement.startswith("torch==") and sys.platform == "linux" else requirement


def normalize_name(package: str) -> str:
    """Return the name normalized by PEP 503."""
    return package.lower().replace("_", "-").replace(".", "-")


def environment_path(folder: Path, name: str) -> Path:
    """Return the folder of the environment of this lock; `folder` is that of all environments."""
    return folder / f"{name}-{lock_hash(name)[:HASH_DIGITS]}"


def get_python_path(path: Path) -> Path:
    """Return the interpreter of an environment."""
    return path / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def examine_environment(folder: Path, name: str) -> EnvironmentStatus:
    """Return the state of an environment without starting any process."""
    info, path, lock = ENVIRONMENTS[name], environment_path(folder, name), lock_hash(name)
    leftovers = tuple(other for other in _siblings(folder, name) if other != path)
    if not path.is_dir():
        return EnvironmentStatus(info, "outdated" if leftovers else "absent", lock, path, None, leftovers)
    record = read_record(path)
    whole = record is not None and record.lock == lock and get_python_path(path).exists()
    return EnvironmentStatus(info, "ready" if whole else "broken", lock, path, record if whole else None, leftovers)


def _siblings(folder: Path, name: str) -> list[Path]:
    """Return the environments of this name with any lock."""
    found = folder.glob(f"{name}-{'[0-9a-f]' * HASH_DIGITS}")
    return sorted(path for path in found if path.is_dir())


def read_record(path: Path) -> EnvironmentRecord | None:
    """Return the record in an environment; None if it cannot be read."""
    try:
        return msgspec.json.decode((path / RECORD).read_bytes(), type=EnvironmentRecord)
    except (OSError, msgspec.MsgspecError):
        return None


def examine_environments(folder: Path) -> list[EnvironmentStatus]:
    """Return the states of all environments in the table's order."""
    return [examine_environment(folder, name) for name in ENVIRONMENTS]


def find_ready_locks(folder: Path | None) -> dict[str, str]:
    """Return the lock hashes of usable environments by name; empty without a folder."""
    if folder is None or not folder.is_dir():
        return {}
    standings = examine_environments(folder)
    return {one.environment.name: one.lock for one in standings if one.state == "ready"}


def choose_environment(locks: Mapping[str, str], runtime: str, wanted: str) -> str:
    """Return the environment that a worker of this runtime runs in; empty for our own interpreter.

    Args:
        locks: result of `find_ready_locks`.
        wanted: name of an environment; empty for the runtime's own if it is ready.

    Raises RuntimeMissing if the requested one is not ready.
    """
    if not wanted:
        return runtime if runtime in locks else ""
    name = find_environment(wanted).name
    if name not in locks:
        raise RuntimeMissing(
            f"the environment {name} is not set up",
            f"{ENVIRONMENTS[name].purpose} needs packages that conflict with those of other runtimes",
            f"edgewright runtimes setup {name} (about {ENVIRONMENTS[name].megabytes} MB)",
        )
    return name


def make_environment_command(folder: Path | None, runtime: str, wanted: str) -> list[str]:
    """Return the command that starts a worker in its environment; empty for our own interpreter.

    Raises the same as `choose_environment`.
    """
    name = choose_environment(find_ready_locks(folder), runtime, wanted)
    return make_launch_command(environment_path(folder, name), WORKER, runtime) if folder and name else []


def make_launch_command(path: Path, module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of ours in an environment. `-I` excludes PYTHONPATH, user packages and the
    folder."""
    return [str(get_python_path(path)), "-I", str(LAUNCHER), module, *arguments]
