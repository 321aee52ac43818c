"""Processor facts of an x86 laptop, an ARM board, and a machine with hardly any information."""

from pathlib import Path

import pytest

from edgewright.devices.cpu import choose_cores, find_model, find_virtual, parse_size, read_cpu_facts
from edgewright.devices.sysfs import parse_cpu_list
from edgewright.errors import UsageError
from tests.devices.trees import plant_tree, write

CPUS = "sys/devices/system/cpu"


def test_laptop(tmp_path: Path) -> None:
    facts = read_cpu_facts(plant_tree("laptop", tmp_path))
    caches = facts.pop("caches")
    assert facts == {
        "model": "Made-up Laptop i5 CPU @ 1.60GHz",
        "vendor": "GenuineIntel",
        "architecture": "x86_64",
        "board": "Slimbook 3",
        "physical_cores": 2,
        "logical_cores": 4,
        "threads_per_core": 2,
        "one_per_core": [0, 1],
        "base_khz": 1_800_000,
        "max_khz": 3_400_000,
        "features": ["avx", "avx2", "f16c", "fma", "sse4_1"],
        "virtual": False,
    }
    assert {"level": 1, "type": "Data", "bytes": 32 * 1024, "count": 2} in caches
    assert {"level": 3, "type": "Unified", "bytes": 6 << 20, "count": 1} in caches


def test_arm_board(tmp_path: Path) -> None:
    facts = read_cpu_facts(plant_tree("arm-board", tmp_path))
    assert facts["model"] == "Cortex-A76 + Cortex-A55"
    assert (facts["vendor"], facts["architecture"], facts["board"]) == ("Arm", "aarch64", "Made-up Board Rev 1.2")
    assert (facts["physical_cores"], facts["logical_cores"], facts["threads_per_core"]) == (6, 6, 1)
    features = ["asimd", "asimddp", "asimdhp", "fphp"]
    assert facts["features"] == features
    assert facts["clusters"] == [
        {"cpus": [4, 5], "model": "Cortex-A76", "max_khz": 2_400_000, "features": features},
        {"cpus": [0, 1, 2, 3], "model": "Cortex-A55", "max_khz": 1_800_000, "features": features},
    ]
    assert "virtual" not in facts  # ARM has no flag for it, and unknown does not mean no


def test_virtual_machine_reports_only_what_it_knows(tmp_path: Path) -> None:
    assert read_cpu_facts(plant_tree("virtual-machine", tmp_path)) == {
        "model": "Made-up EPYC",
        "vendor": "AuthenticAMD",
        "architecture": "x86_64",
        "logical_cores": 1,
        "features": ["avx2", "avx512_vnni", "avx512f", "f16c", "fma"],
        "virtual": True,
    }


def test_empty_root_has_no_facts(tmp_path: Path) -> None:
    assert read_cpu_facts(tmp_path) == {}


def test_unreadable_and_senseless_files_are_left_out(tmp_path: Path) -> None:
    plant_tree("laptop", tmp_path)
    (tmp_path / CPUS / "cpu0/cpufreq/base_frequency").unlink()
    (tmp_path / CPUS / "cpu0/cpufreq/base_frequency").mkdir()  # reading it is an error, as of a forbidden file
    for n in range(4):
        write(tmp_path, f"{CPUS}/cpu{n}/cpufreq/cpuinfo_max_freq", "<unsupported>")
        write(tmp_path, f"{CPUS}/cpu{n}/topology/thread_siblings_list", "none")
    (tmp_path / "proc/sys/kernel/arch").write_bytes(b"\xff\xfe")
    facts = read_cpu_facts(tmp_path)
    assert "max_khz" not in facts
    assert facts["base_khz"] == 1_600_000  # from the name
    assert (facts["physical_cores"], facts["threads_per_core"]) == (2, 2)  # from cpuinfo's core ids


def test_features_are_those_of_all_processors(tmp_path: Path) -> None:
    blocks = ("processor : 0\nFeatures : asimd asimddp i8mm sve2", "processor : 1\nFeatures : asimd asimddp")
    write(tmp_path, "proc/cpuinfo", "\n\n".join(blocks))
    assert read_cpu_facts(tmp_path)["features"] == ["asimd", "asimddp"]


def test_nominal_frequency_of_cppc_is_in_mhz(tmp_path: Path) -> None:
    write(tmp_path, f"{CPUS}/cpu0/acpi_cppc/nominal_freq", "3400")
    assert read_cpu_facts(tmp_path)["base_khz"] == 3_400_000


def test_an_unknown_arm_part_is_reported_as_a_number() -> None:
    assert find_model([{"processor": "0", "CPU implementer": "0x51", "CPU part": "0x804"}]) == "part 0x804"


def test_small_differences_of_boost_make_no_clusters(tmp_path: Path) -> None:
    plant_tree("laptop", tmp_path)
    write(tmp_path, f"{CPUS}/cpu0/cpufreq/cpuinfo_max_freq", "3500000")
    assert "clusters" not in read_cpu_facts(tmp_path)


def put_processors(root: Path, *cores: tuple[str, int]) -> None:
    """ARM processors by part and highest frequency in MHz."""
    blocks = [f"processor : {n}\nCPU implementer : 0x41\nCPU part : {part}" for n, (part, _) in enumerate(cores)]
    write(root, "proc/cpuinfo", "\n\n".join(blocks))
    for n, (_, mhz) in enumerate(cores):
        write(root, f"{CPUS}/cpu{n}/cpufreq/cpuinfo_max_freq", str(mhz * 1000))


@pytest.mark.parametrize(
    ("cores", "clusters"),
    [
        ([("0xd05", 1000), ("0xd05", 860)], []),  # a difference of boost
        ([("0xd05", 1000), ("0xd05", 840)], [[0], [1]]),
        ([("0xd05", 840), ("0xd05", 1000), ("0xd05", 840)], [[1], [0, 2]]),
        ([("0xd0b", 1000), ("0xd05", 1000)], [[0], [1]]),
        ([("0xd0b", 1000), ("0xd0b", 1000), ("0xd05", 900), ("0xd05", 900)], [[0, 1], [2, 3]]),
    ],
)
def test_clusters_are_kinds_or_speeds_fastest_first(
    tmp_path: Path, cores: list[tuple[str, int]], clusters: list[list[int]]
) -> None:
    put_processors(tmp_path, *cores)
    assert [one["cpus"] for one in read_cpu_facts(tmp_path).get("clusters", [])] == clusters


def test_a_cache_of_unknown_size_is_left_out(tmp_path: Path) -> None:
    plant_tree("laptop", tmp_path)
    before = read_cpu_facts(tmp_path)["caches"]
    write(tmp_path, f"{CPUS}/cpu0/cache/index9/level", "4")
    write(tmp_path, f"{CPUS}/cpu0/cache/index9/shared_cpu_list", "0")
    assert read_cpu_facts(tmp_path)["caches"] == before


@pytest.mark.parametrize(
    ("path", "text", "name"),
    [
        ("sys/class/dmi/id/sys_vendor", "QEMU", "QEMU"),
        ("sys/class/dmi/id/product_name", "VMware7,1", "VMware"),
        ("sys/hypervisor/type", "xen", "Xen"),
        ("proc/device-tree/model", "linux,dummy-virt\nQEMU", "QEMU"),
    ],
)
def test_hypervisor_by_name(tmp_path: Path, path: str, text: str, name: str) -> None:
    write(tmp_path, path, text)
    facts = read_cpu_facts(tmp_path)
    assert (facts["virtual"], facts["hypervisor"]) == (True, name)


def test_x86_without_the_flag_is_not_virtual(tmp_path: Path) -> None:
    assert find_virtual(tmp_path, [{"flags": "fpu lm"}]) is False
    assert find_virtual(tmp_path, [{"flags": "fpu lm hypervisor"}]) is True


@pytest.mark.parametrize(
    ("text", "cpus"), [("0-2,8", (0, 1, 2, 8)), ("3", (3,)), ("", ()), ("a-b,1", (1,)), ("2-", (2,))]
)
def test_cpu_lists(text: str, cpus: tuple[int, ...]) -> None:
    assert parse_cpu_list(text) == cpus


@pytest.mark.parametrize(("text", "size"), [("32K", 32768), ("2M", 2 << 20), ("7", 7), ("", None), (None, None)])
def test_sizes(text: str | None, size: int | None) -> None:
    assert parse_size(text) == size


def test_cores_by_their_kind() -> None:
    phone = {"clusters": [{"cpus": [7]}, {"cpus": [4, 5, 6]}, {"cpus": [0, 1, 2, 3]}]}
    assert choose_cores("big", phone) == (7,)
    assert choose_cores("Little", phone) == (0, 1, 2, 3)
    assert choose_cores("all", phone) == choose_cores("big", {}) == ()
    assert choose_cores("0-2,5", {}) == (0, 1, 2, 5)
    for wrong in ("huge", "", "1,x", "-"):
        with pytest.raises(UsageError, match="cannot be used"):
            choose_cores(wrong, phone)
