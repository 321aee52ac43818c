"""The doctor: installed runtimes, and conditions that make measurements less reliable."""

import json
import subprocess
import sys
from collections import namedtuple
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from click.testing import CliRunner

from edgewright.cli.app import edgewright
from edgewright.cli.commands.setup.doctor import make_runtime_row, name_machine
from edgewright.errors import RuntimeMissing, StoreError
from edgewright.flows.doctor.checks import Code, DoctorFinding, read_machine_state, run_checks
from edgewright.flows.doctor.flow import (
    Diagnosis,
    RuntimeState,
    diagnose,
    examine_plugin,
    examine_runtime,
    examine_runtimes,
    has_usable_runtime,
)
from edgewright.runtimes.table import TABLE, RuntimeInfo
from tests.devices.trees import plant_tree, write
from tests.paths import ROOT

DOCS = ROOT / "docs" / "doctor.md"
CPUS = "sys/devices/system/cpu"


def find_codes(root: Path, home: Path, environ: dict[str, str] | None = None) -> dict[str, DoctorFinding]:
    found = run_checks(read_machine_state(root, environ or {}, [], home))
    assert len({finding.code for finding in found}) == len(found)
    return {finding.code: finding for finding in found}


def plug_in(**changes: Any) -> RuntimeInfo:
    whole: dict[str, Any] = {
        "name": "strange",
        "title": "Strange",
        "module": "strange_plugin",
        "needs": ("json",),
        "distribution": "msgspec",
        "extra": "",
        "reads": ("onnx",),
    }
    return RuntimeInfo(**{**whole, **changes})


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home" / "not" / "made" / "yet"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


# ---------------------------------------------------------------- runtimes


def test_the_base_runtime_works_and_pretend_is_for_tests() -> None:
    states = {state.name: state for state in examine_runtimes()}
    assert set(TABLE) <= set(states)
    base = states["onnxruntime"]
    assert base.usable and not base.for_tests and base.version and base.remedy == ""
    assert base.file is not None and Path(base.file).is_file()
    assert states["pretend"].usable and states["pretend"].for_tests


def test_a_missing_package_names_the_distribution_even_where_there_is_an_extra() -> None:
    state = examine_runtime(plug_in(needs=("json", "no_such_package"), distribution="no-such-package", extra="litert"))
    assert not state.usable
    assert (state.version, state.missing) == (None, ("no_such_package",))
    assert state.problem == "not installed: no_such_package"
    assert state.remedy == "pip install no-such-package"


def test_a_missing_package_without_an_extra_names_the_distribution() -> None:
    state = examine_runtime(plug_in(needs=("no_such_package.part",), distribution="no-such-package"))
    assert state.remedy == "pip install no-such-package"


def test_an_empty_folder_of_that_name_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "left_behind").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert examine_runtime(plug_in(needs=("left_behind",))).missing == ("left_behind",)


def test_libraries_are_not_imported() -> None:
    script = (
        "import sys; from pathlib import Path; from edgewright.flows.doctor.flow import diagnose; "
        "diagnose(Path('/'), {}, Path('/tmp')); "
        "print(sorted({'onnxruntime', 'onnx', 'numpy', 'ai_edge_litert', 'sqlalchemy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
        ("INFO = 3", "is not a RuntimeInfo"),
        ("", "AttributeError"),
    ],
)
def test_a_broken_plugin_is_reported_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, problem: str
) -> None:
    (tmp_path / "strange_plugin.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "strange_plugin", raising=False)
    state = examine_plugin(EntryPoint("strange", "strange_plugin:INFO", "edgewright.runtimes"))
    assert (state.name, state.usable) == ("strange", False)
    assert problem in state.problem and "\n" not in state.problem


def test_a_good_plugin_is_examined_like_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EntryPoint, "load", lambda self: plug_in())
    state = examine_plugin(EntryPoint("strange", "strange_plugin:INFO", "edgewright.runtimes"))
    assert state.usable and state.title == "Strange" and state.version == msgspec.__version__


# ---------------------------------------------------------------- checks


def test_a_laptop_on_battery(root: Path, home: Path) -> None:
    found = find_codes(plant_tree("laptop", root), home, {"OMP_NUM_THREADS": "4", "HOME": "/x"})
    assert set(found) == {
        *("governor", "turbo", "load", "pressure", "smt", "memory-low", "swap", "battery", "heat", "thread-variables")
    }
    assert "powersave" in found["governor"].text
    assert "no_turbo" in found["turbo"].advice
    assert found["pressure"].text == "programs waited for a resource in the last ten seconds: cpu 12 % of the time"
    assert found["smt"].advice.endswith("--affinity 0,1")
    assert "586 MiB" in found["memory-low"].text
    assert "OMP_NUM_THREADS=4" in found["thread-variables"].text and "HOME" not in found["thread-variables"].text


def test_an_arm_board_in_a_control_group(root: Path, home: Path) -> None:
    found = find_codes(plant_tree("arm-board", root), home)
    # The process may use the two big cores only, so that the little ones do not matter.
    assert set(found) == {"governor", "cpu-limit", "memory-limit"}
    assert "1.5 processors" in found["cpu-limit"].text
    write(root, "proc/self/status", "Cpus_allowed_list:\t0-5")
    mixed = find_codes(root, home)["mixed-cores"]
    assert "Cortex-A76 and Cortex-A55" in mixed.text and mixed.advice.endswith("--affinity 4,5")


def test_a_virtual_machine(root: Path, home: Path) -> None:
    found = find_codes(plant_tree("virtual-machine", root), home)
    assert set(found) == {"few-cores", "virtual-machine", "steal", "no-energy-sensor"}
    assert "4.0%" in found["steal"].text


def make_quiet(root: Path) -> Path:
    """Return a laptop without findings: power supply, performance governor, no turbo, no SMT, idle, cool."""
    plant_tree("laptop", root)
    for n in range(4):
        write(root, f"{CPUS}/cpu{n}/cpufreq/scaling_governor", "performance")
        write(root, f"{CPUS}/cpu{n}/topology/thread_siblings_list", str(n))
    write(root, f"{CPUS}/intel_pstate/no_turbo", "1")
    write(root, f"{CPUS}/smt/active", "0")
    write(root, "proc/loadavg", "0.05 0.1 0.1 1/100 1")
    write(root, "proc/pressure/cpu", "some avg10=0.10 avg60=0 avg300=0 total=1")
    write(root, "proc/meminfo", "MemTotal: 8000000 kB\nMemAvailable: 6000000 kB\nSwapTotal: 100 kB\nSwapFree: 99 kB")
    write(root, "sys/class/power_supply/AC/online", "1")
    write(root, "sys/class/thermal/thermal_zone1/temp", "45000")
    return root


def test_a_quiet_machine_has_no_findings(root: Path, home: Path) -> None:
    assert find_codes(make_quiet(root), home) == {}


@pytest.mark.parametrize(
    ("path", "text", "code"),
    [
        (f"{CPUS}/cpu3/cpufreq/scaling_governor", "ondemand", "governor"),
        (f"{CPUS}/intel_pstate/no_turbo", "0", "turbo"),
        (f"{CPUS}/smt/active", "1", "smt"),
        ("proc/loadavg", "1.20 0.1 0.1 1/100 1", "load"),
        ("proc/pressure/io", "some avg10=30.00 avg60=0 avg300=0 total=1", "pressure"),
        ("proc/self/status", "Cpus_allowed_list: 2", "few-cores"),
        ("proc/meminfo", "MemTotal: 8000000 kB\nMemAvailable: 700000 kB", "memory-low"),
        ("proc/meminfo", "MemAvailable: 6000000 kB\nSwapTotal: 90000 kB\nSwapFree: 10000 kB", "swap"),
        ("proc/stat", "cpu  100 0 50 800 10 0 0 40", "steal"),
        ("sys/class/dmi/id/sys_vendor", "QEMU", "virtual-machine"),
        ("sys/class/power_supply/AC/online", "0", "battery"),
        ("sys/class/thermal/thermal_zone1/temp", "70000", "heat"),
    ],
)
def test_each_sign_alone_gives_its_code_alone(root: Path, home: Path, path: str, text: str, code: str) -> None:
    write(make_quiet(root), path, text)
    assert set(find_codes(root, home)) == {code}


def test_a_store_in_a_place_that_is_no_folder(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = find_codes(make_quiet(root), tmp_path / "file" / "home")
    assert found["store-unwritable"].severity == "error"


def test_a_store_that_may_not_be_written(root: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgewright.flows.doctor.checks.os.access", lambda path, mode: False)
    assert "is not writable" in find_codes(make_quiet(root), home)["store-unwritable"].text


def test_runs_that_can_never_be_saved(root: Path, tmp_path: Path) -> None:
    bad = tmp_path / "home" / "unsaved" / "bad"
    bad.mkdir(parents=True)
    assert find_codes(make_quiet(root), tmp_path / "home") == {}
    for name in ("a.json", "a.why", "b.json"):
        (bad / name).write_text("{}")
    found = find_codes(root, tmp_path / "home")
    assert set(found) == {"unsaved-runs"}
    assert "2 finished runs" in found["unsaved-runs"].text


@pytest.mark.parametrize(("free", "severity"), [(500 << 20, "warning"), (50 << 20, "error")])
def test_an_almost_full_disk(root: Path, home: Path, monkeypatch: pytest.MonkeyPatch, free: int, severity: str) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("edgewright.flows.doctor.checks.shutil.disk_usage", lambda path: usage(1 << 40, 0, free))
    assert find_codes(make_quiet(root), home)["disk-full"].severity == severity


def test_an_empty_root_raises_nothing_and_guesses_nothing(root: Path, home: Path) -> None:
    assert set(find_codes(root, home)) == {"no-energy-sensor"}


def test_the_worst_comes_first(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    plant_tree("arm-board", root)
    found = run_checks(read_machine_state(root, {"OMP_NUM_THREADS": "1"}, [], tmp_path / "file"))
    assert [finding.severity for finding in found] == ["error", "warning", "warning", "note", "note"]


def test_every_code_is_documented() -> None:
    headings = {line.removeprefix("### ") for line in DOCS.read_text().splitlines() if line.startswith("### ")}
    assert headings == set(get_args(Code))


# ---------------------------------------------------------------- diagnosis and command


def test_diagnosis_is_one_versioned_object(root: Path, home: Path) -> None:
    diagnosis = diagnose(plant_tree("laptop", root), {}, home)
    report = json.loads(msgspec.json.encode(diagnosis))
    assert report["schema"] == "edgewright.doctor/1"
    assert report["energy"] == "rapl:package-0"
    assert report["environment"]["processor"]["model"] == "Made-up Laptop i5 CPU @ 1.60GHz"
    assert msgspec.json.decode(msgspec.json.encode(diagnosis), type=Diagnosis) == diagnosis
    assert not home.exists()
    assert name_machine(diagnosis) == "Slimbook 3, Made-up Laptop i5 CPU @ 1.60GHz, Made-up Linux 1"


def test_every_documented_key_is_there(root: Path, home: Path) -> None:
    report = json.loads(msgspec.json.encode(diagnose(root, {}, home)))
    text = DOCS.read_text().partition("## JSON")[2]
    assert [key for key in report if f"`{key}" not in text] == []


def test_only_a_real_runtime_counts_as_working(root: Path, home: Path) -> None:
    diagnosis = diagnose(root, {}, home)
    pretend = tuple(runtime for runtime in diagnosis.runtimes if runtime.for_tests)
    assert has_usable_runtime(diagnosis)
    assert not has_usable_runtime(msgspec.structs.replace(diagnosis, runtimes=pretend))


def test_rows() -> None:
    here = RuntimeState(name="a", title="A", usable=True, version="1.2", file="/a.py")
    gone = RuntimeState(name="b", title="B", usable=False, problem="not installed: b", remedy="pip install b")
    mock = RuntimeState(name="c", title="C", usable=True, for_tests=True, file="/c.py")
    assert make_runtime_row(here) == ("a", "works 1.2", "/a.py", "")
    assert make_runtime_row(gone) == ("b", "missing", "not installed: b", "pip install b")
    assert make_runtime_row(mock) == ("c", "works (for tests)", "/c.py", "")


def test_command_prints_json(tmp_path: Path) -> None:
    done = CliRunner().invoke(edgewright, ["doctor", "--json"], env={"EDGEWRIGHT_HOME": str(tmp_path)})
    assert done.exit_code == 0
    assert msgspec.json.decode(done.stdout, type=Diagnosis).schema == "edgewright.doctor/1"


def test_command_prints_lines_of_four_columns(tmp_path: Path) -> None:
    done = CliRunner().invoke(edgewright, ["doctor"], env={"EDGEWRIGHT_HOME": str(tmp_path)})
    assert done.exit_code == 0
    lines = [line.split("\t") for line in done.stdout.splitlines() if line.strip()]
    assert {len(line) for line in lines} == {4}
    assert {"onnxruntime", "pretend"} <= {line[0] for line in lines}


def test_command_fails_when_runs_cannot_be_stored(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    environ = {"EDGEWRIGHT_HOME": str(tmp_path / "file" / "home")}
    done = CliRunner().invoke(edgewright, ["doctor", "--json"], env=environ)
    assert isinstance(done.exception, StoreError)
    assert (done.exception.exit_code, "EDGEWRIGHT_HOME" in done.exception.try_this) == (1, True)
    assert json.loads(done.stdout)["findings"][0]["code"] == "store-unwritable"


def test_command_fails_when_no_runtime_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = RuntimeState(name="a", title="A", usable=False, remedy="pip install a")
    monkeypatch.setattr("edgewright.flows.doctor.flow.examine_runtimes", lambda: [gone])
    done = CliRunner().invoke(edgewright, ["doctor", "--json"], env={"EDGEWRIGHT_HOME": str(tmp_path)})
    assert isinstance(done.exception, RuntimeMissing)
    assert (done.exception.exit_code, done.exception.try_this) == (5, "pip install a")
    assert json.loads(done.stdout)["runtimes"][0]["name"] == "a"
