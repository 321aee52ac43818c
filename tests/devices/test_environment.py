"""The environment of a run: stable, without secrets, and true about control groups."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgewright import __version__
from edgewright.devices.cgroup import read_cgroup_limits
from edgewright.devices.environment import find_turbo, list_variables, read_environment_facts
from edgewright.devices.sensors import find_sensors, is_on_battery
from edgewright.devices.system_state import read_system_state
from tests.devices.trees import NAMES, plant_tree, write

CPUS = "sys/devices/system/cpu"


def test_laptop(tmp_path: Path) -> None:
    facts = read_environment_facts(
        plant_tree("laptop", tmp_path), ["msgspec", "no-such-distribution"], {"OMP_NUM_THREADS": "1"}
    )
    assert facts["memory_bytes"] == 8_000_000 * 1024
    assert (facts["kernel"], facts["system"]) == ("6.9.0-laptop", "Made-up Linux 1")
    assert (facts["governors"], facts["frequency_driver"]) == (["powersave"], "intel_pstate")
    assert (facts["turbo"], facts["smt"]) == (True, True)
    assert (facts["allowed_cpus"], facts["transparent_huge_pages"], facts["aslr"]) == ([0, 1, 2, 3], "madvise", 2)
    assert facts["processor"]["vendor"] == "GenuineIntel"
    assert facts["edgewright"] == __version__
    assert list(facts["packages"]) == ["msgspec"]
    assert facts["variables"] == {"OMP_NUM_THREADS": "1"}
    assert "cgroup" not in facts


def test_arm_board(tmp_path: Path) -> None:
    facts = read_environment_facts(plant_tree("arm-board", tmp_path), [], {})
    assert (facts["governors"], facts["turbo"], facts["allowed_cpus"]) == (["schedutil"], False, [4, 5])
    # The process's own group says max; the group above it has a quota, and memory.high is the lower one.
    assert facts["cgroup"] == {"cpus": 1.5, "memory_bytes": 1 << 30}


def test_empty_root_leaves_what_python_knows(tmp_path: Path) -> None:
    assert set(read_environment_facts(tmp_path, [], {})) == {"python", "edgewright"}


@pytest.mark.parametrize("name", NAMES)
def test_what_changes_by_the_minute_is_not_in_it(tmp_path: Path, name: str) -> None:
    plant_tree(name, tmp_path)
    before = json.dumps(read_environment_facts(tmp_path, ["msgspec", "click"], {"OMP_NUM_THREADS": "2"}))
    write(tmp_path, "proc/loadavg", "9.0 9.0 9.0 9/99 9")
    write(tmp_path, "proc/stat", "cpu 9 9 9 9 9 9 9 9 9 9")
    write(tmp_path, f"{CPUS}/cpu0/cpufreq/scaling_cur_freq", "123456")
    write(tmp_path, "sys/class/thermal/thermal_zone0/temp", "12345")
    for file in ("proc/meminfo", "proc/cpuinfo"):
        text = (tmp_path / file).read_text()
        write(
            tmp_path,
            file,
            text.replace("MemAvailable:   ", "MemAvailable:   1").replace("cpu MHz\t\t: ", "cpu MHz\t\t: 1"),
        )
    assert json.dumps(read_environment_facts(tmp_path, ["click", "msgspec"], {"OMP_NUM_THREADS": "2"})) == before


def test_a_governor_changes_it(tmp_path: Path) -> None:
    plant_tree("laptop", tmp_path)
    write(tmp_path, f"{CPUS}/cpu2/cpufreq/scaling_governor", "performance")
    assert read_environment_facts(tmp_path, [], {})["governors"] == ["performance", "powersave"]


def test_variables_that_matter_and_never_a_secret() -> None:
    kept = {
        "GOMP_SPINCOUNT": "0",
        "KMP_AFFINITY": "compact",
        "LD_PRELOAD": "/lib/libjemalloc.so",
        "PYTHONMALLOC": "malloc",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "XNNPACK_FORCE": "1",
    }
    dropped = {
        "HOME": "/home/me",
        "AWS_SECRET_ACCESS_KEY": "s3cret",
        "TF_VAR_database": "s3cret",
        "TF_TOKEN_registry_example": "s3cret",
        "ORT_API_TOKEN": "s3cret",
        "TFLITE_PASSWORD": "s3cret",
        "ORT_PROXY": "http://me:s3cret@example.org",
        "PATH": "/bin",
        "PYTHONMALLOCSTATS": "1",
    }
    assert list_variables({**dropped, **kept}) == kept


def test_boost_of_other_drivers(tmp_path: Path) -> None:
    assert find_turbo(tmp_path) is None
    write(tmp_path, f"{CPUS}/cpufreq/boost", "1")
    assert find_turbo(tmp_path) is True
    write(tmp_path, f"{CPUS}/intel_pstate/no_turbo", "1")
    assert find_turbo(tmp_path) is False


def test_cgroup_files_on_another_file_system_limit_nothing(tmp_path: Path) -> None:
    plant_tree("virtual-machine", tmp_path)
    assert (tmp_path / "sys/fs/cgroup/cpu.max").is_file()
    assert read_cgroup_limits(tmp_path) == {}


def plant_v1(root: Path, mount_root: str, group: str) -> None:
    lines = [
        f"32 31 0:29 {mount_root} /sys/fs/cgroup/cpu\\040acct rw - cgroup cgroup rw,cpu,cpuacct",
        f"35 31 0:32 {mount_root} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory",
    ]
    write(root, "proc/self/mountinfo", "\n".join(lines))
    write(root, "proc/self/cgroup", f"4:memory:{group}\n2:cpu,cpuacct:{group}\n0::/")


def test_cgroup_v1(tmp_path: Path) -> None:
    plant_v1(tmp_path, "/", "/jobs/one")
    cpu, memory = tmp_path / "sys/fs/cgroup/cpu acct", tmp_path / "sys/fs/cgroup/memory"
    write(cpu, "jobs/one/cpu.cfs_quota_us", "50000")
    write(cpu, "jobs/one/cpu.cfs_period_us", "100000")
    write(cpu, "jobs/cpu.cfs_quota_us", "-1")
    write(cpu, "jobs/cpu.cfs_period_us", "100000")
    write(memory, "memory.limit_in_bytes", "9223372036854771712")
    write(memory, "jobs/memory.limit_in_bytes", "536870912")
    write(memory, "other/memory.limit_in_bytes", "4096")
    assert read_cgroup_limits(tmp_path) == {"cpus": 0.5, "memory_bytes": 536870912}


def test_cgroup_v1_seen_from_a_container(tmp_path: Path) -> None:
    plant_v1(tmp_path, "/docker/abc", "/docker/abc/inner")
    write(tmp_path, "sys/fs/cgroup/memory/memory.limit_in_bytes", "2097152")
    write(tmp_path, "sys/fs/cgroup/memory/inner/memory.limit_in_bytes", "1048576")
    assert read_cgroup_limits(tmp_path) == {"memory_bytes": 1048576}


def test_a_group_outside_the_mount_counts_the_mount_alone(tmp_path: Path) -> None:
    plant_v1(tmp_path, "/docker/abc", "/../other")
    write(tmp_path, "sys/fs/cgroup/memory/memory.limit_in_bytes", "2097152")
    assert read_cgroup_limits(tmp_path) == {"memory_bytes": 2097152}


READERS: tuple[Callable[[Path], Any], ...] = (
    lambda root: read_environment_facts(root, [], {}),
    read_system_state,
    is_on_battery,
    lambda root: find_sensors(root).read(),
)
WORDS = st.sampled_from(
    ["0", "-1", "max", "1e9", "0-3,7", "99999999999999999999", "0-999999999", ":", "\n\n", "=", "²"]
)
TEXTS = st.lists(st.one_of(WORDS, st.text(max_size=8)), max_size=6).map(" ".join)


@pytest.mark.parametrize("name", NAMES)
def test_no_text_in_any_file_makes_a_reader_raise(tmp_path: Path, name: str) -> None:
    plant_tree(name, tmp_path)
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())

    @settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
    @given(file=st.sampled_from(files), text=TEXTS)
    def damage_one(file: Path, text: str) -> None:
        whole = file.read_bytes()
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            readings = [read(tmp_path) for read in READERS]
        finally:
            file.write_bytes(whole)
        json.dumps(readings[:2], allow_nan=False)

    damage_one()
