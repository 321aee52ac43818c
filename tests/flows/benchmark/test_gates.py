"""Gates, and the device that a word means."""

import msgspec
import pytest

from edgewright.devices.local import LocalDevice
from edgewright.devices.pretend import PretendDevice
from edgewright.errors import DeviceUnreachable, GateFailed
from edgewright.flows.benchmark.gates import check_fallback_shares
from edgewright.flows.devices.names import open_device
from edgewright.schema.run import Metric, Run


def run_with(share: float | None) -> Run:
    metrics = () if share is None else (Metric(name="layers.fallback_share", unit="1", value=share),)
    return Run(id="r1", kind="benchmark", state="done", started_at="x", runtime="litert", metrics=metrics)


@pytest.mark.parametrize(("share", "percent"), [(0.0, 0.0), (0.1, 10.0), (0.5, 50.1), (1.0, 100.0)])
def test_a_gate_that_is_met(share: float, percent: float) -> None:
    check_fallback_shares([run_with(share)], percent)


@pytest.mark.parametrize(("share", "percent"), [(0.001, 0.0), (0.11, 10.0), (1.0, 99.9), (None, 100.0)])
def test_a_gate_that_is_not(share: float | None, percent: float) -> None:
    with pytest.raises(GateFailed) as caught:
        check_fallback_shares([run_with(share)], percent)
    assert caught.value.exit_code == 3
    assert "r1" in caught.value.what
    assert "litert" in caught.value.what


def test_every_failed_run_is_listed() -> None:
    runs = [msgspec.structs.replace(run_with(share), id=f"r{i}") for i, share in enumerate((0.5, 0.0, None, 0.25))]
    with pytest.raises(GateFailed) as caught:
        check_fallback_shares(runs, 10.0)
    text = caught.value.what + caught.value.why
    assert [name in text for name in ("r0", "r1", "r2", "r3")] == [True, False, True, True]
    assert "25.0%" in text


@pytest.mark.parametrize(
    ("word", "kind"),
    [("local", LocalDevice), (" Localhost", LocalDevice), ("HOST", LocalDevice), ("pretend", PretendDevice)],
)
def test_devices_by_name(word: str, kind: type) -> None:
    device = open_device(word)
    try:
        assert isinstance(device, kind)
    finally:
        device.close()


@pytest.mark.parametrize("word", ["", "pixel8", "local2"])
def test_no_such_device(word: str) -> None:
    with pytest.raises(DeviceUnreachable) as caught:
        open_device(word)
    assert caught.value.exit_code == 4
    assert "--on local is this machine" in caught.value.try_this
