"""Kinds of device by address, and the state that a failed connection means."""

import pytest

from edgewright.devices import kinds
from edgewright.devices.kinds import KindInfo, find_kind, get_state, load_kind
from edgewright.errors import DeviceBusy, DeviceUnauthorized, DeviceUnreachable, RuntimeMissing, UsageError


def test_an_address_has_one_kind() -> None:
    assert find_kind("ssh://root@127.0.0.1:2222").kind == "ssh"
    for address in ("", "pi", "http://pi", "root@pi"):
        with pytest.raises(UsageError, match="cannot be used"):
            find_kind(address)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(kinds.KINDS, "ssh", KindInfo("ssh", "nothing", ("ssh://",), ("no_such_package",)))
    with pytest.raises(RuntimeMissing, match="no_such_package"):
        load_kind("ssh")


def test_the_state_of_a_failed_connection() -> None:
    errors = (DeviceUnreachable("x"), DeviceUnauthorized("x"), DeviceBusy("x"))
    assert [get_state(error) for error in errors] == ["offline", "unauthorized", "busy"]
    assert {error.exit_code for error in errors} == {4}
