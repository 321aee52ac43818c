"""This machine as a device."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgewright.devices.local import LocalDevice, check_affinity
from edgewright.devices.protocol import Device
from edgewright.errors import UsageError
from tests.contracts.device_contract import DeviceContract

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


class TestLocalDevice(DeviceContract):
    @pytest.fixture
    def open_device(self) -> Callable[[], Device]:
        return LocalDevice


@LINUX
def test_the_worker_and_all_its_threads_are_bound_to_the_processors(tmp_path: Path) -> None:
    cpu = max(os.sched_getaffinity(0))
    device = LocalDevice()
    with device.start_worker("onnxruntime", [cpu], 60, tmp_path / "log") as worker:
        for status in Path(f"/proc/{worker.hello.pid}/task").glob("*/status"):
            assert f"Cpus_allowed_list:\t{cpu}\n" in status.read_text()
    device.close()


@LINUX
def test_without_affinity_the_worker_may_run_where_the_parent_may(tmp_path: Path) -> None:
    device = LocalDevice()
    with device.start_worker("pretend", [], 60, tmp_path / "log") as worker:
        assert os.sched_getaffinity(worker.hello.pid) == os.sched_getaffinity(0)
    device.close()


@LINUX
@pytest.mark.parametrize("affinity", [[4096], [-1], [0, 4096]])
def test_a_processor_that_is_not_there_is_an_error_that_lists_those_that_are(affinity: list[int]) -> None:
    with pytest.raises(UsageError, match="processor") as error:
        check_affinity(affinity)
    assert str(sorted(os.sched_getaffinity(0))) in error.value.why


def test_a_system_without_affinity_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert check_affinity([]) == set()
    with pytest.raises(UsageError, match="not supported on this system"):
        check_affinity([0])


def test_the_worker_does_not_import_from_the_folder_it_is_started_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "msgspec.py").write_text("raise RuntimeError('a file of the user, not the package')")
    monkeypatch.chdir(tmp_path)
    device = LocalDevice()
    with device.start_worker("pretend", [], 60, tmp_path / "log") as worker:
        assert worker.hello.runtime == "pretend"
    device.close()


def test_facts_come_from_the_root_that_is_given(tmp_path: Path) -> None:
    device = LocalDevice(root=tmp_path, environ={})
    assert device.system_state() == {}
    assert device.sensors().energy_uj is None
    assert device.sensors().source
    device.close()
