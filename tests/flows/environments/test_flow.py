"""Setup of isolated environments: a small real one, and failures with a fake Python."""

import os
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from time import sleep

import pytest

from edgewright.devices.local import LocalDevice
from edgewright.devices.pretend import PretendDevice
from edgewright.errors import Cancelled, EdgewrightError, OutputError, RuntimeMissing, UsageError
from edgewright.flows.environments import flow as flow
from edgewright.flows.environments import pip
from edgewright.flows.environments.flow import (
    clear_unfinished,
    hold_lock,
    plan_setup,
    remove_environment,
    rewrite_paths,
    set_up_environment,
)
from edgewright.flows.environments.pip import (
    EnvironmentSetup,
    find_site_packages,
    install_packages,
    make_venv,
    run_logged,
)
from edgewright.runtimes.environments import (
    ENVIRONMENTS,
    environment_path,
    examine_environment,
    get_python_path,
    lock_hash,
)
from tests.flows.environments.tiny_environment import PACKAGES, declare_tiny
from tests.runtimes.workers import ends_soon

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")


def nothing(text: str) -> None:
    """Progress callback that does nothing."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the environments; the table has one environment."""
    declare_tiny(monkeypatch, tmp_path / "locks")
    return tmp_path / "environments"


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


# ---------------------------------------------------------------- a real one


@pytest.fixture(scope="module")
def reachable(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip if pip cannot download packages."""
    words = [f"{name}=={version(name)}" for name in PACKAGES]
    target = tmp_path_factory.mktemp("wheels")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--retries", "0", "--timeout", "10"]
    done = subprocess.run([*command, "-d", target, *words], capture_output=True, timeout=120)
    if done.returncode:
        pytest.skip("pip reaches no package index here")


@pytest.fixture(scope="module")
def made(reachable: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[str]]]:
    """Set up a real environment; return the folder of the environments and the progress messages."""
    place = tmp_path_factory.mktemp("größe and space")
    messages: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        declare_tiny(patch, place / "locks")
        set_up_environment(place / "environments", "Tiny", messages.append)
        yield place / "environments", messages


def test_it_is_ready_and_has_a_record(made: tuple[Path, list[str]]) -> None:
    folder, messages = made
    status = examine_environment(folder, "tiny")
    record = status.record
    assert status.state == "ready" and record is not None
    assert {name: record.packages[name] for name in PACKAGES} == {name: version(name) for name in PACKAGES}
    assert (record.lock, record.python, record.conflicts) == (lock_hash("tiny"), sys.version.split()[0], ())
    assert record.bytes > 10_000_000
    assert all(len(record.wheels[name]) == 64 for name in record.wheels)
    assert visible(folder) == [status.path.name, "tiny.log"]
    assert messages[0] == "tiny: creating the environment" and messages[-1] == "tiny: measuring its size"


def test_its_scripts_name_its_own_python(made: tuple[Path, list[str]]) -> None:
    path = environment_path(made[0], "tiny")
    done = subprocess.run([path / "bin" / "pip", "--version"], capture_output=True, text=True, timeout=60)
    assert str(path) in done.stdout
    assert ".part" not in (path / "pyvenv.cfg").read_text()


def test_setting_it_up_again_changes_nothing(made: tuple[Path, list[str]]) -> None:
    before = examine_environment(made[0], "tiny").record
    messages: list[str] = []
    assert set_up_environment(made[0], "tiny", messages.append).record == before
    assert messages == []


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="reads /proc")
@pytest.mark.parametrize("kind", [LocalDevice, PretendDevice])
def test_a_worker_runs_in_it_when_it_is_asked_for(
    made: tuple[Path, list[str]], tmp_path: Path, kind: type[LocalDevice | PretendDevice]
) -> None:
    device = kind(environments=made[0])
    pythons = []
    for name in ("tiny", ""):
        with device.start_worker("pretend", (), 60, tmp_path / "log", name) as worker:
            pythons.append(Path(f"/proc/{worker.hello.pid}/cmdline").read_bytes().split(b"\0")[0].decode())
            worker.leave()
    assert pythons == [str(get_python_path(environment_path(made[0], "tiny"))), sys.executable]
    assert device.environment()["locks"] == {"tiny": lock_hash("tiny")}
    device.close()


@pytest.mark.parametrize("kind", [LocalDevice, PretendDevice])
def test_an_environment_that_is_not_set_up_is_an_error(
    folder: Path, tmp_path: Path, kind: type[LocalDevice | PretendDevice]
) -> None:
    device = kind(environments=folder)
    with pytest.raises(RuntimeMissing, match="tiny is not set up"):
        device.start_worker("pretend", (), 60, tmp_path / "log", "tiny")
    assert "locks" not in device.environment()
    device.close()


# ---------------------------------------------------------------- failures

# Behavior of the fake Python when it installs packages.
STAND_IN = """#!/bin/sh
case "$*" in
*"pip install"*) {install} ;;
*"pip --disable-pip-version-check list"*) echo '{listed}' ;;
*"pip --disable-pip-version-check check"*) {check} ;;
*launch.py*) {launch} ;;
esac
"""
GOOD = {
    "install": "echo 'Collecting msgspec'",
    "listed": "[" + ",".join(f'{{"name":"{name}","version":"{version(name)}"}}' for name in PACKAGES) + "]",
    "check": "exit 0",
    "launch": """echo '{"type":"hello","protocol":2,"runtime":"pretend","version":"1","pid":1,"python":"3",'"""
    """'"import_us":1.0,"memory":{"rss":null,"peak":null}}'""",
}


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return the script of the fake Python, which succeeds by default."""
    behavior = dict(GOOD)

    def make(setup: EnvironmentSetup) -> None:
        python = get_python_path(setup.part)
        python.parent.mkdir(parents=True)
        text = STAND_IN
        for name, value in behavior.items():
            text = text.replace("{" + name + "}", value)
        python.write_text(text)
        python.chmod(0o755)
        (setup.part / "pyvenv.cfg").write_text(f"home = {setup.part}\n")

    monkeypatch.setattr(flow, "make_venv", make)
    return behavior


@POSIX
def test_the_stand_in_succeeds(folder: Path, stand_in: dict[str, str]) -> None:
    assert set_up_environment(folder, "tiny", nothing).state == "ready"


@POSIX
@pytest.mark.parametrize(
    ("text", "kind", "what", "hint"),
    [
        ("ERROR: No matching distribution found for x==1", EdgewrightError, "pip failed", "no wheel"),
        ("WARNING: Retrying after NewConnectionError", EdgewrightError, "cannot be reached", "index-url"),
        ("ERROR: [Errno 28] No space left on device", OutputError, "disk is full", "free some space"),
    ],
)
def test_a_failed_pip_is_explained_and_leaves_nothing(
    folder: Path, stand_in: dict[str, str], text: str, kind: type[EdgewrightError], what: str, hint: str
) -> None:
    stand_in["install"] = f"echo '{text}'; exit 1"
    with pytest.raises(kind) as failed:
        set_up_environment(folder, "tiny", nothing)
    assert type(failed.value) is kind
    assert what in failed.value.what and hint in failed.value.try_this
    assert str(folder / "tiny.log") in failed.value.why
    assert text in (folder / "tiny.log").read_text()
    assert visible(folder) == ["tiny.log"] and list(folder.glob(".*.part")) == []


@POSIX
def test_versions_that_differ_from_the_lock_are_rejected(folder: Path, stand_in: dict[str, str]) -> None:
    stand_in["listed"] = stand_in["listed"].replace(version("msgspec"), "0.0.1")
    with pytest.raises(EdgewrightError, match="does not match its lock file") as failed:
        set_up_environment(folder, "tiny", nothing)
    assert "msgspec" in failed.value.why and visible(folder) == ["tiny.log"]


@POSIX
@pytest.mark.parametrize(
    "launch",
    [
        "echo 'libmissing.so: no such file' >&2; exit 1",
        """echo '{"type":"refused","kind":"missing","why":"libmissing.so: no such file",' '"trace":""}'""",
    ],
)
def test_a_library_that_does_not_load_is_no_success(folder: Path, stand_in: dict[str, str], launch: str) -> None:
    stand_in["launch"] = launch
    with pytest.raises(EdgewrightError, match="worker does not start") as failed:
        set_up_environment(folder, "tiny", nothing)
    assert "libmissing.so" in failed.value.why and visible(folder) == ["tiny.log"]


@POSIX
def test_what_pip_check_finds_is_kept(folder: Path, stand_in: dict[str, str]) -> None:
    stand_in["check"] = "echo 'a 1 requires b, which is not installed.'; exit 1"
    record = set_up_environment(folder, "tiny", nothing).record
    assert record is not None and record.conflicts == ("a 1 requires b, which is not installed.",)


@POSIX
def test_ctrl_c_ends_pip_and_leaves_nothing(folder: Path, stand_in: dict[str, str], tmp_path: Path) -> None:
    stand_in["install"] = f"echo $$ > '{tmp_path}/pid'; sleep 300"
    seen: list[str] = []

    def stop(text: str) -> None:
        seen.append(text)
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().endswith("\n"):
            raise KeyboardInterrupt

    with pytest.raises(Cancelled, match="setup of tiny was stopped"):
        set_up_environment(folder, "tiny", stop)
    assert ends_soon(int((tmp_path / "pid").read_text()))
    assert visible(folder) == ["tiny.log"] and list(folder.glob(".*.part")) == []


@POSIX
def test_what_a_killed_setup_left_is_cleared_and_the_neighbors_is_not(folder: Path, stand_in: dict[str, str]) -> None:
    for name in (".tiny-123.part", ".tiny-0123456789ab.part", ".tiny-torch-123.part"):
        (folder / name).mkdir(parents=True)
    set_up_environment(folder, "tiny", nothing)
    assert [path.name for path in folder.glob(".*.part")] == [".tiny-torch-123.part"]


@POSIX
def test_a_broken_one_and_those_of_older_locks_are_replaced(folder: Path, stand_in: dict[str, str]) -> None:
    environment_path(folder, "tiny").mkdir(parents=True)
    (folder / "tiny-0123456789ab").mkdir()
    assert set_up_environment(folder, "tiny", nothing).state == "ready"
    assert visible(folder) == [environment_path(folder, "tiny").name, "tiny.log"]


def test_two_setups_at_once_are_rejected(folder: Path) -> None:
    with hold_lock(folder, "tiny"), pytest.raises(EdgewrightError, match="another process is setting up"):
        set_up_environment(folder, "tiny", nothing)


@POSIX
def test_a_pip_that_outlives_its_parent_keeps_others_out(folder: Path, tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom edgewright.flows.environments.flow import hold_lock\n"
        "from edgewright.flows.environments.pip import EnvironmentSetup, install_packages, make_venv\n"
        "from edgewright.flows.environments.pip import run_logged, find_site_packages\n"
        "from edgewright.runtimes.environments import ENVIRONMENTS\n"
        "folder = Path(sys.argv[1])\n"
        "with hold_lock(folder, 'tiny') as lock:\n"
        "    setup = EnvironmentSetup(ENVIRONMENTS['mnn'], folder / 'part', folder / 'log', lock.fileno(), print)\n"
        "    run_logged(['sh', '-c', 'echo $$ > ' + sys.argv[2] + '; exec sleep 300'], setup)\n"
    )
    pid = tmp_path / "pid"
    parent = subprocess.Popen([sys.executable, "-c", script, str(folder), str(pid)])
    try:
        while not (pid.exists() and pid.read_text().endswith("\n")):
            assert parent.poll() is None
            sleep(0.02)
        parent.kill()
        parent.wait()
        with pytest.raises(EdgewrightError, match="another process is setting up"), hold_lock(folder, "tiny"):
            pass
    finally:
        os.killpg(int(pid.read_text()), signal.SIGKILL)
    assert ends_soon(int(pid.read_text()))
    with hold_lock(folder, "tiny"):
        pass


def test_the_current_folder_is_not_searched_for_modules(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def note(command: list[str], *rest: object) -> int:
        commands.append([sys.executable, *command[1:]])
        find_site_packages(setup.part).mkdir(parents=True, exist_ok=True)
        return 0

    (tmp_path / "from_elsewhere.py").write_text("")
    setup = EnvironmentSetup(ENVIRONMENTS["tiny"], folder / "part", tmp_path / "log", 0, nothing)
    monkeypatch.setattr(pip, "run_logged", note)
    make_venv(setup)
    install_packages(setup)
    assert [command[command.index("-m") + 1] for command in commands] == ["venv", "pip"]
    for command in commands:
        flags = command[: command.index("-m")]
        done = subprocess.run([*flags, "-c", "import from_elsewhere"], capture_output=True, cwd=tmp_path)
        assert b"No module named" in done.stderr, command


@POSIX
def test_a_python_without_venv_names_the_package_to_install(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'because ensurepip is not available'; exit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(EdgewrightError, match="could not create a virtual environment") as failed:
        set_up_environment(folder, "tiny", nothing)
    assert "python3-venv" in failed.value.try_this


def test_a_small_disk_is_reported_before_the_setup(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 0, 50_000_000))
    with pytest.raises(OutputError, match="not enough disk space for tiny") as failed:
        set_up_environment(folder, "tiny", nothing)
    assert "156 MB" in failed.value.why and "50 MB" in failed.value.why


def test_a_folder_that_is_not_writable_is_reported(folder: Path) -> None:
    folder.write_text("a file")
    with pytest.raises(OutputError, match="folder is not writable"):
        set_up_environment(folder, "tiny", nothing)


def test_a_python_that_is_too_new_is_reported_before_the_setup(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENVIRONMENTS, "tiny", ENVIRONMENTS["tiny"]._replace(newest_python=(3, 10)))
    with pytest.raises(UsageError, match="cannot be set up with Python"):
        plan_setup(folder, "tiny")
    assert not folder.exists()


# ---------------------------------------------------------------- environment of pip


@POSIX
def test_pip_is_not_led_elsewhere_and_keeps_the_users_index(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PYTHONPATH", "PIP_INDEX_URL"):
        monkeypatch.setenv(name, "x")
    folder.mkdir(parents=True)
    with hold_lock(folder, "tiny") as lock:
        setup = EnvironmentSetup(ENVIRONMENTS["tiny"], folder / "part", folder / "log", lock.fileno(), nothing)
        assert run_logged(["sh", "-c", "env; exit 3"], setup) == 3
    names = {line.partition("=")[0] for line in (folder / "log").read_text().splitlines()}
    assert "PIP_INDEX_URL" in names
    assert names & {"PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PYTHONPATH"} == set()


@POSIX
def test_torch_is_fetched_first_and_from_its_own_index_only_where_the_users_has_none(
    folder: Path, stand_in: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "locks" / "tiny.txt"
    lock.write_text(lock.read_text() + "torch==2.13.0\n")
    stand_in["listed"] = stand_in["listed"][:-1] + ',{"name":"torch","version":"2.13.0+cpu"}]'
    calls = tmp_path / "calls"
    stand_in["install"] = f"""echo "$*" >> '{calls}'; case "$*" in *extra-index*|*" -r "*) exit 0;; esac; exit 1"""
    monkeypatch.setattr(sys, "platform", "linux")
    set_up_environment(folder, "tiny", nothing)
    first, second, third = calls.read_text().splitlines()
    assert first.endswith(" torch==2.13.0+cpu") and "extra-index" not in first
    assert second.endswith("--extra-index-url https://download.pytorch.org/whl/cpu torch==2.13.0+cpu")
    assert third.endswith(f"-r {lock}") and "extra-index" not in third
    assert all("--no-deps" in call and "--no-input" in call for call in (first, second, third))


def test_only_text_is_rewritten_when_an_environment_gets_its_name(tmp_path: Path) -> None:
    part, final = tmp_path / ".a.part", tmp_path / "a"
    (part / "bin").mkdir(parents=True)
    (part / "pyvenv.cfg").write_text("x")
    (part / "bin" / "tool").write_text(f"#!{part}/bin/python\n")
    (part / "bin" / "binary").write_bytes(b"\0" + os.fsencode(part))
    rewrite_paths(part, final)
    assert (part / "bin" / "tool").read_text() == f"#!{final}/bin/python\n"
    assert (part / "bin" / "binary").read_bytes() == b"\0" + os.fsencode(part)


# ---------------------------------------------------------------- removing


@POSIX
def test_removing_leaves_nothing_of_any_lock(folder: Path, stand_in: dict[str, str]) -> None:
    set_up_environment(folder, "tiny", nothing)
    (folder / "tiny-0123456789ab").mkdir()
    (folder / ".tiny-9.part").mkdir()
    assert [path.name for path in remove_environment(folder, "tiny")] == [
        environment_path(folder, "tiny").name,
        "tiny-0123456789ab",
    ]
    assert visible(folder) == [] and list(folder.glob(".*.part")) == []
    assert remove_environment(folder, "tiny") == []


def test_removing_what_was_never_there_makes_no_folder(folder: Path) -> None:
    assert remove_environment(folder, "tiny") == []
    assert not folder.exists()
    with pytest.raises(UsageError):
        remove_environment(folder, "nonsense")


def test_clearing_a_folder_that_is_not_there_does_no_harm(tmp_path: Path) -> None:
    clear_unfinished(tmp_path / "none", "tiny")
