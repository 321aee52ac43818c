"""Isolated environments: the table and its locks, how one stands, which one a worker gets, and what it is lent."""

import os
import re
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

import edgewright
from edgewright.errors import RuntimeMissing, UsageError
from edgewright.llm.engines.table import ENGINES
from edgewright.runtimes import environments
from edgewright.runtimes.environments import (
    ENVIRONMENTS,
    LOCKS,
    RECORD,
    EnvironmentRecord,
    choose_environment,
    environment_path,
    examine_environment,
    examine_environments,
    find_environment,
    find_ready_locks,
    get_lock_path,
    get_python_path,
    lock_hash,
    make_environment_command,
    read_lock,
    read_record,
    select_cpu_build,
)
from edgewright.runtimes.launch import SITE_CODE, SITE_FILES, VARIABLE, lend_package
from edgewright.runtimes.table import TABLE

LINE = re.compile(r"[A-Za-z0-9][\w.-]*==[0-9][\w.]*")


# ---------------------------------------------------------------- the table and its locks


def test_every_runtime_with_a_library_and_every_converter_has_an_environment() -> None:
    own = {name for name, info in TABLE.items() if info.reads and info.writes and info.needs}
    converters = {one.environment for info in TABLE.values() for one in info.converters if one.environment}
    assert own | converters <= set(ENVIRONMENTS)
    assert {info.runtime for info in ENVIRONMENTS.values() if not info.modules} <= set(TABLE) | set(ENGINES)
    assert {one.environment for one in ENGINES.values() if one.environment} <= set(ENVIRONMENTS)
    assert all(name == info.name for name, info in ENVIRONMENTS.items())


def test_every_environment_has_a_lock_and_there_is_no_other() -> None:
    assert {path.stem for path in LOCKS.glob("*.txt")} == set(ENVIRONMENTS)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_lock_is_exact_and_holds_what_a_worker_imports(name: str) -> None:
    lines = [line for line in get_lock_path(name).read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert all(LINE.fullmatch(line) for line in lines)
    assert lines == sorted(lines, key=str.lower)
    lock = read_lock(name)
    assert len(lock) == len(lines)
    assert {"msgspec", "numpy"} <= lock.keys()
    assert name not in TABLE or {"onnx", "onnxruntime"} <= lock.keys()  # compilers hold what they make against it
    wanted = dict(want.lower().replace("_", "-").split("==") for want in ENVIRONMENTS[name].requirements)
    assert wanted.items() <= lock.items()


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_lock_brings_torch_without_cuda_or_not_at_all(name: str) -> None:
    lock = read_lock(name)
    assert lock.get("torch", "2.13.0") == "2.13.0"
    assert [package for package in lock if package.startswith(("nvidia", "cuda", "triton"))] == []


def test_torchs_build_without_cuda_is_a_version_of_its_own_on_linux_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for system, build in (("linux", "torch==2.13.0+cpu"), ("darwin", "torch==2.13.0"), ("win32", "torch==2.13.0")):
        monkeypatch.setattr(sys, "platform", system)
        assert select_cpu_build("torch==2.13.0") == build
        assert select_cpu_build("torchao==0.18.0") == "torchao==0.18.0"


def test_the_folders_name_holds_the_locks_hash(tmp_path: Path) -> None:
    digits = sha256(get_lock_path("mnn").read_bytes()).hexdigest()
    assert lock_hash("mnn") == digits
    assert environment_path(tmp_path, "mnn") == tmp_path / f"mnn-{digits[:12]}"


def test_names_are_found_in_any_writing_and_unknown_ones_list_the_known() -> None:
    assert find_environment(" LiteRT_Torch").name == "litert-torch"
    with pytest.raises(UsageError) as unknown:
        find_environment("tensorflow")
    assert "onnx2tf" in unknown.value.why


# ---------------------------------------------------------------- how one stands


def plant(folder: Path, name: str, *, lock: str = "", python: bool = True, record: bool = True) -> Path:
    """A folder that looks like an environment."""
    path = environment_path(folder, name)
    get_python_path(path).parent.mkdir(parents=True)
    if python:
        get_python_path(path).touch()
    reported = EnvironmentRecord(
        name=name, lock=lock or lock_hash(name), python="3.11.7", made_at="", bytes=7, packages={"MNN": "9"}
    )
    if record:
        (path / RECORD).write_bytes(msgspec.json.encode(reported))
    return path


def test_what_is_not_there_is_absent(tmp_path: Path) -> None:
    assert {one.state for one in examine_environments(tmp_path / "none")} == {"absent"}
    assert find_ready_locks(tmp_path / "none") == find_ready_locks(None) == {}


def test_a_whole_one_is_ready(tmp_path: Path) -> None:
    path = plant(tmp_path, "mnn")
    standing = examine_environment(tmp_path, "mnn")
    assert (standing.state, standing.path, standing.lock) == ("ready", path, lock_hash("mnn"))
    assert standing.record is not None and standing.record.bytes == 7
    assert find_ready_locks(tmp_path) == {"mnn": lock_hash("mnn")}


@pytest.mark.parametrize("flaw", [{"python": False}, {"record": False}, {"lock": "0" * 64}])
def test_one_that_lacks_anything_is_broken(tmp_path: Path, flaw: dict[str, str | bool]) -> None:
    plant(tmp_path, "mnn", **flaw)  # type: ignore[arg-type] # each key has its own type
    standing = examine_environment(tmp_path, "mnn")
    assert (standing.state, standing.record) == ("broken", None)
    assert find_ready_locks(tmp_path) == {}


def test_a_record_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    path = plant(tmp_path, "mnn")
    (path / RECORD).write_text("{")
    assert read_record(path) is None
    assert examine_environment(tmp_path, "mnn").state == "broken"


def test_one_of_another_lock_is_outdated(tmp_path: Path) -> None:
    old = plant(tmp_path, "mnn").rename(tmp_path / "mnn-0123456789ab")
    standing = examine_environment(tmp_path, "mnn")
    assert (standing.state, standing.leftovers) == ("outdated", (old,))
    assert find_ready_locks(tmp_path) == {}


def test_names_that_begin_alike_are_not_mixed_up(tmp_path: Path) -> None:
    plant(tmp_path, "litert-torch").rename(tmp_path / "litert-torch-0123456789ab")
    assert examine_environment(tmp_path, "litert").state == "absent"


# ---------------------------------------------------------------- which one a worker gets


def test_a_worker_gets_the_one_that_is_wanted_else_its_runtimes_own_else_none() -> None:
    locks = {"litert": "1", "onnx2tf": "2"}
    assert choose_environment(locks, "litert", "") == "litert"
    assert choose_environment(locks, "litert", "onnx2tf") == "onnx2tf"
    assert choose_environment(locks, "mnn", "") == ""
    assert choose_environment({}, "litert", "") == ""


def test_one_that_is_wanted_and_not_there_names_the_command_that_brings_it() -> None:
    with pytest.raises(RuntimeMissing) as missing:
        choose_environment({"litert": "1"}, "litert", "onnx2tf")
    assert "edgewright runtimes setup onnx2tf" in missing.value.try_this
    with pytest.raises(UsageError):
        choose_environment({}, "litert", "nonsense")


def test_the_command_starts_the_environments_own_python(tmp_path: Path) -> None:
    path = plant(tmp_path, "litert")
    assert make_environment_command(tmp_path, "mnn", "") == make_environment_command(None, "litert", "") == []
    command = make_environment_command(tmp_path, "litert", "")
    assert command[:2] == [str(get_python_path(path)), "-I"]
    assert command[-2:] == ["edgewright.runtimes.worker", "litert"]


# ---------------------------------------------------------------- what it is lent


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has nothing but our files."""
    path = tmp_path_factory.mktemp("bare") / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", path], check=True)
    packages = next(path.glob("lib/python3*/site-packages"), path / "Lib" / "site-packages")
    for name, text in SITE_FILES.items():
        (packages / name).write_text(text)
    return get_python_path(path)


def run_bare(bare: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if name != VARIABLE} | variables
    return subprocess.run([bare, *words], capture_output=True, text=True, env=environ, timeout=60)


def test_only_our_package_is_lent(bare: Path) -> None:
    launcher = str(environments.LAUNCHER)
    assert run_bare(bare, "-I", launcher, "edgewright.schema.vocabulary").returncode == 0
    worker = run_bare(bare, "-I", launcher, "edgewright.runtimes.worker", "pretend")
    assert "No module named 'msgspec'" in worker.stderr  # it lies beside our package, and is not lent


def test_environments_that_are_set_up_call_the_function_by_its_name() -> None:
    assert f'["{lend_package.__name__}"]' in SITE_CODE


def test_children_are_lent_it_too(bare: Path) -> None:
    package = str(Path(edgewright.__file__).parent)
    reported = run_bare(bare, "-P", "-c", "import edgewright; print(edgewright.__file__)", EDGEWRIGHT_PACKAGE=package)
    assert Path(reported.stdout.strip()).parent == Path(package)
    for variables in ({}, {VARIABLE: "/nonexistent"}):
        assert "No module named 'edgewright'" in run_bare(bare, "-c", "import edgewright", **variables).stderr
