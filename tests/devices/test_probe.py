"""What a board says about itself, and which wheels follow from it."""

import pytest

from edgewright.devices.remote.bundle import list_platforms
from edgewright.devices.remote.mirror import parse_mirror
from edgewright.devices.remote.probe import BoardPython, choose_python, fix_machine, parse_libc


@pytest.mark.parametrize(
    ("text", "libc"),
    [
        ("glibc 2.36", ("glibc", 2, 36)),
        ("ldd (Debian GLIBC 2.31-13+deb11u8) 2.31", ("glibc", 2, 31)),
        ("ldd (GNU libc) 2.17", ("glibc", 2, 17)),
        ("musl libc (aarch64) Version 1.2.5", ("musl", 1, 2)),
        ("", None),
        ("uClibc 1.0", None),
    ],
)
def test_the_c_library(text: str, libc: tuple[str, int, int] | None) -> None:
    assert parse_libc(text) == libc


def test_the_machine_is_that_of_the_programs() -> None:
    assert fix_machine("aarch64", "64") == "aarch64"
    assert fix_machine("aarch64", "32") == "armv7l"
    assert fix_machine("arm64", "") == "aarch64"


def test_platforms_are_those_that_the_c_library_runs() -> None:
    glibc = list_platforms("aarch64", ("glibc", 2, 28))
    assert glibc[0] == "manylinux_2_28_aarch64"
    assert "manylinux_2_29_aarch64" not in glibc
    assert glibc[-3:] == ["manylinux_2_17_aarch64", "manylinux2014_aarch64", "linux_aarch64"]
    assert list_platforms("x86_64", ("musl", 1, 2)) == ["musllinux_1_2_x86_64", "musllinux_1_1_x86_64"]


def test_the_first_python_that_is_new_enough() -> None:
    lines = ["", "3.9.2 False cpython /usr/bin/python3", "3.13.1 True cpython /opt/t", "3.12.0 False pypy /opt/p",
             "3.12.4 False cpython /opt/my python"]  # fmt: skip
    assert choose_python(lines) == BoardPython("/opt/my python", (3, 12, 4))
    assert choose_python(lines[:4]) is None
    assert choose_python(["3.12.4 False cpython python"]) is None


def test_names_of_a_mirror_stay_inside() -> None:
    output = b"noise\x01proc/cpuinfo\na\nb\n\x01../etc/passwd\nx\n\x01/etc/x\ny\n\x01root/x\nz\n\x01sys/a\n"
    assert dict(parse_mirror(output)) == {"proc/cpuinfo": b"a\nb\n", "sys/a": b""}
