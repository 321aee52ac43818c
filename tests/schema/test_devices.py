"""Names of devices, and their selection by `--on`."""

import pytest

from edgewright.errors import DeviceUnreachable, UsageError
from edgewright.schema.devices import check_device_name
from edgewright.schema.selection import FactCondition, SelectableDevice, Selection, choose_devices, parse_selection

PHONE = SelectableDevice("pixel", {"soc": "Tensor G3", "android": "14", "memory": 8_000_000_000})
BOARD = SelectableDevice("pi", {"soc": "BCM2712", "memory": 4_000_000_000, "features": ["asimddp", "fphp"]})
OLD = SelectableDevice("old", {"soc": "tensor g3", "android": "9.0", "memory": 2_000_000_000})
ALL = (PHONE, BOARD, OLD)


def choose(text: str, ready: tuple[str, ...] = ("pixel", "pi", "old")) -> tuple[str, ...]:
    return choose_devices(parse_selection(text), ALL, lambda name: name in ready)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("pi", ("pi",)),
        ("pi,pixel", ("pi", "pixel")),
        ("any:2", ("pixel", "pi")),
        ("pi,any:2", ("pi", "pixel", "old")),
        ("soc=Tensor G3", ("pixel", "old")),
        ("android>=14 and memory>=8GB", ("pixel",)),
        ("android<14", ("old",)),
        ("android=9", ("old",)),
        ("memory<4.1GB", ("pi", "old")),
        ("memory>=1GiB and soc!=BCM2712", ("pixel", "old")),
        ("features=asimddp", ("pi",)),
        ("pi,soc=BCM2712", ("pi",)),
    ],
)
def test_a_selection(text: str, names: tuple[str, ...]) -> None:
    assert choose(text) == names


def test_any_takes_only_ready_ones() -> None:
    assert choose("any:1", ready=("old",)) == ("old",)
    with pytest.raises(DeviceUnreachable, match="any:2: 1 devices are ready"):
        choose("any:2", ready=("old",))


@pytest.mark.parametrize(
    "text",
    ["", "pi,", "pi,,web", "any:0", "any:", "any:x", "pi web", "memory>=", ">=8GB", "a==b", "pi:1", "pi,pi",
     "a=1 and", "memory>=8GB and pi", "any:9999999"],
)  # fmt: skip
def test_what_is_no_selection(text: str) -> None:
    with pytest.raises(UsageError):
        choose(text)


def test_unknown_devices_and_facts() -> None:
    with pytest.raises(DeviceUnreachable, match="unknown device 'x'"):
        choose("x")
    with pytest.raises(UsageError, match="no device has the fact 'colour'"):
        choose("colour=red")
    with pytest.raises(DeviceUnreachable, match="no device fits"):
        choose("memory>=1000GB")


def test_a_selection_is_read_as_written() -> None:
    assert parse_selection("android>=14 and SoC = Tensor G3") == (
        Selection(conditions=(FactCondition("android", ">=", "14"), FactCondition("soc", "=", "Tensor G3"))),
    )


@pytest.mark.parametrize("name", ["pi", "pixel-8", "Büro.2", "a+b_c", "7"])
def test_names(name: str) -> None:
    assert check_device_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "a b", "a=b", "a<b", "a>b", "a,b", "a:b", "local", "Any", "pretend", "-o", ".x", "$(id)", "a;b", "`id`",
     "a/b", "a\nb", "x" * 65, "a|b", "a'b"],
)  # fmt: skip
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be named"):
        check_device_name(name)
