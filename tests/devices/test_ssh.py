"""Boards over SSH, with a real sshd on this machine."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from edgewright.devices import ssh
from edgewright.devices.kinds import DeviceContext
from edgewright.devices.protocol import Device
from edgewright.devices.remote.device import RemoteDevice
from edgewright.devices.remote.link import make_script
from edgewright.devices.ssh.address import check_address, parse_address
from edgewright.errors import DeviceBusy, DeviceUnauthorized, DeviceUnreachable, RuntimeMissing, UsageError
from edgewright.runtimes.table import find_runtime
from edgewright.runtimes.wire import CommandDone, Invoke, Open, Opened, SessionRequest, TimeRuns, Times
from tests.contracts.device_contract import DeviceContract
from tests.devices.ssh_server import SshServer, wait_until

ssh_link: Any = pytest.importorskip("edgewright.devices.ssh.link", exc_type=ImportError)
PRETEND = [find_runtime("pretend")]


class TestSshDevice(DeviceContract):
    @pytest.fixture
    def open_device(self, server: SshServer, bundle_home: Path) -> Callable[[], Device]:
        return lambda: server.connect(bundle_home)


@pytest.fixture
def board(server: SshServer, bundle_home: Path) -> Iterator[RemoteDevice]:
    device = server.connect(bundle_home)
    yield device
    device.close()


def test_what_is_there_is_not_sent_again(board: RemoteDevice, tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(os.urandom(10_000))
    first = board.push(path, "a1" * 32)
    requests, sent = board.link.requests, board.link.sent_bytes
    assert sent >= 10_000
    assert board.push(path, "a1" * 32) == first
    assert (board.link.requests - requests, board.link.sent_bytes - sent) == (1, 0)
    board.close()


def test_a_second_setup_sends_nothing(server: SshServer, bundle_home: Path) -> None:
    server.connect(bundle_home).set_up(PRETEND)
    again = server.connect(bundle_home)
    record = again.set_up(PRETEND)
    assert set(record.runtimes["pretend"].packages) == {"msgspec", "numpy"}
    assert again.link.sent_bytes == 0
    again.close()


def test_nothing_is_left_after_a_removal(server: SshServer, bundle_home: Path) -> None:
    device = server.connect(bundle_home)
    device.workspace()
    device.remove()
    assert list(server.board.iterdir()) == []
    assert wait_until(lambda: not server.list_processes())
    assert not server.list_sessions() or wait_until(lambda: not server.list_sessions())


def test_a_device_is_busy_while_it_is_used(board: RemoteDevice, server: SshServer, bundle_home: Path) -> None:
    board.workspace()
    other = server.connect(bundle_home)
    with pytest.raises(DeviceBusy, match="'pi' is busy"):
        other.workspace()
    board.close()
    assert other.workspace()
    other.close()


def test_a_changed_host_key_is_an_error(server: SshServer, bundle_home: Path) -> None:
    context = DeviceContext(bundle_home, lambda line: None)
    row = ssh.prepare(server.row(), context)
    server.stop()
    server.start(host_key="other")
    try:
        with pytest.raises(DeviceUnauthorized, match="host key of the device 'pi' is not the known one") as failed:
            ssh.connect(row, context)
        assert failed.value.exit_code == 4
    finally:
        server.stop()
        server.start()
    ssh.connect(row, context).close()


def test_the_user_s_known_hosts_come_first(
    server: SshServer, bundle_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    known = tmp_path / ".ssh" / "known_hosts"
    known.parent.mkdir()
    context = DeviceContext(bundle_home, lambda line: None)
    known.write_text(f"[127.0.0.1]:{server.port} {(server.folder / 'host.pub').read_text()}")
    assert ssh.prepare(server.row(), context).settings == {}
    ssh.connect(server.row(), context).close()
    known.write_text(f"[127.0.0.1]:{server.port} {(server.folder / 'other.pub').read_text()}")
    with pytest.raises(DeviceUnauthorized, match="not the known one"):
        ssh.connect(ssh.prepare(server.row(), context), context)


def test_the_configuration_of_ssh_applies(
    server: SshServer, bundle_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An alias with user, port and key, through a jump host that is the board itself."""
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / ".ssh"
    folder.mkdir()
    own = f"HostName 127.0.0.1\n Port {server.port}\n User root\n IdentityFile {server.folder / 'user'}\n"
    (folder / "config").write_text(f"Host jump\n {own}Host board\n {own} ProxyJump jump\n")
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{server.port} {(server.folder / 'host.pub').read_text()}")
    context = DeviceContext(bundle_home, lambda line: None)
    row = replace(server.row(), address="ssh://board", credential="")
    device = ssh.connect(ssh.prepare(row, context), context)
    assert len(server.list_sessions()) == 2
    device.close()


def test_who_is_not_let_in(server: SshServer, bundle_home: Path) -> None:
    context = DeviceContext(bundle_home, lambda line: None)
    row = ssh.prepare(server.row(key="other"), context)
    with pytest.raises(DeviceUnauthorized, match="does not accept the key"):
        ssh.connect(row, context)
    with pytest.raises(DeviceUnauthorized, match="cannot be used"):
        ssh.connect(replace(row, credential=str(server.folder / "config")), context)
    with pytest.raises(DeviceUnreachable, match="not reachable") as failed:
        ssh.connect(replace(row, address="ssh://root@127.0.0.1:9"), context)
    assert type(failed.value) is DeviceUnreachable


def lose_in(phase: str, device: RemoteDevice, server: SshServer, folder: Path) -> None:
    """Use the device up to a phase, in which its sessions are cut."""
    path, feeds = folder / "m.bin", folder / "feeds.npz"
    path.write_bytes(os.urandom(1000))
    np.savez(feeds, x=np.ones(3))

    def reach(name: str) -> None:
        if name == phase:
            server.cut()

    reach("setup")
    device.set_up(PRETEND)
    device.workspace()
    reach("push")
    model, remote = device.push(path, os.urandom(32).hex()), device.push(feeds, os.urandom(32).hex())
    reach("start")
    with device.start_worker("pretend", (), 60, folder / "log") as worker:
        reach("load")
        request = SessionRequest(model=model, options={"latency-us": "10"})
        worker.ask(Open(session=request, feeds=remote), Opened)
        reach("measuring")
        worker.ask(TimeRuns(runs=1, seconds=1), Times)
        worker.ask(Invoke(feeds=remote, outputs=f"{device.workspace()}/out.npz"), CommandDone)
        reach("result")
        device.pull(f"{device.workspace()}/out.npz", folder / "out.npz")


@pytest.mark.parametrize("phase", ["setup", "push", "start", "load", "measuring", "result"])
def test_lost_in_a_phase(phase: str, server: SshServer, bundle_home: Path, tmp_path: Path) -> None:
    if phase == "setup":
        (server.board / ".edgewright-device/setup.json").unlink(missing_ok=True)
    device = server.connect(bundle_home)
    with closing(device), pytest.raises(DeviceUnreachable, match="'pi' was lost") as lost:
        lose_in(phase, device, server, tmp_path)
    assert lost.value.exit_code == 4
    assert wait_until(lambda: not server.list_processes()), "a process is left on the device"
    work = server.board / ".edgewright-device/work"
    assert not work.exists() or list(work.iterdir()) == []


def test_a_worker_that_hangs_is_ended(board: RemoteDevice, server: SshServer, tmp_path: Path) -> None:
    """It ignores its closed stdin, and its own session keeps it from the signals of the connection."""
    model, feeds = tmp_path / "m.bin", tmp_path / "feeds.npz"
    model.write_bytes(b"x")
    np.savez(feeds, x=np.ones(3))
    pushed = board.push(model, "b1" * 32), board.push(feeds, "b2" * 32)
    with pytest.raises(Exception, match="no answer"), board.start_worker("pretend", (), 20, tmp_path / "log") as worker:
        pid = worker.hello.pid
        request = SessionRequest(model=pushed[0], options={"latency-us": "60000000"})
        worker.ask(Open(session=request, feeds=pushed[1]), Opened)
        worker._timeout_s = 0.2
        worker.ask(TimeRuns(runs=1, seconds=1), Times)
    assert wait_until(lambda: pid not in server.list_processes())
    board.close()


def test_a_full_disk_is_the_device_s(server: SshServer, bundle_home: Path, tiny_disk: Path) -> None:
    device = server.connect(bundle_home)
    link = device.link
    device.close()
    assert link.requests
    home, server.board = server.board, tiny_disk
    server.stop()
    server.start()
    try:
        full = server.connect(bundle_home)
        with pytest.raises(DeviceUnreachable, match="the storage of the device 'pi' is full"):
            full.set_up(PRETEND)
        full.remove()
        assert list(tiny_disk.iterdir()) == []
    finally:
        server.board = home
        server.stop()
        server.start()


def write_shim(server: SshServer, name: str, script: str) -> Path:
    path = server.shims / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_an_architecture_without_packages(server: SshServer, bundle_home: Path) -> None:
    """The board says that it is another one (a shim of uname), for which there are no wheels here."""
    shim = write_shim(server, "uname", '[ "$1" = -m ] && echo riscv64 || echo Linux')
    (server.board / ".edgewright-device/setup.json").unlink(missing_ok=True)
    try:
        device = server.connect(bundle_home)
        with pytest.raises(RuntimeMissing, match="cannot be set up on this device"):
            device.set_up(PRETEND)
        device.close()
    finally:
        shim.unlink()


def test_no_python_that_is_new_enough(server: SshServer, bundle_home: Path) -> None:
    shims = [write_shim(server, f"python3{minor}", 'echo "3.8.10 False cpython /usr/bin/python3"')
             for minor in ("", ".11", ".12", ".13", ".14")]  # fmt: skip
    (server.board / ".edgewright-device/setup.json").unlink(missing_ok=True)
    try:
        device = server.connect(bundle_home)
        with pytest.raises(DeviceUnreachable, match=r"has no Python 3\.11 or newer"):
            device.set_up(PRETEND)
        device.close()
    finally:
        for shim in shims:
            shim.unlink()


def test_output_without_end(board: RemoteDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh_link, "OUTPUT_BYTES", 1 << 20)
    with pytest.raises(DeviceUnreachable, match="sent too much"):
        board.link.run(make_script("cat /dev/zero"))
    assert board.link.run(["true"]).code == 0
    channel = board.link.start(make_script("head -c 20000000 /dev/zero >&2; echo done"), tmp_path / "log", ())
    assert channel.receive(30) == b"done\n"
    channel.end()
    assert (tmp_path / "log").stat().st_size < 8_000_000
    board.close()


def test_injected_sysfs_has_the_facts(server: SshServer, bundle_home: Path, tmp_path: Path) -> None:
    """A fake: the files of a phone with two clusters, below a folder on the board."""
    files = {
        "proc/cpuinfo": "processor : 0\nCPU implementer : 0x41\nCPU part : 0xd05\nFeatures : fp asimd asimddp\n\n"
        "processor : 1\nCPU implementer : 0x41\nCPU part : 0xd0b\nFeatures : fp asimd asimddp i8mm\n",
        "proc/meminfo": "MemTotal: 8000000 kB\n",
        "sys/devices/system/cpu/cpu0/cpu_capacity": "300\n",
        "sys/devices/system/cpu/cpu1/cpu_capacity": "1024\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "sys/class/thermal/thermal_zone0/temp": "71000\n",
        "sys/class/power_supply/battery/type": "Battery\n",
        "sys/class/power_supply/battery/capacity": "12\n",
        "sys/class/power_supply/battery/status": "Charging\n",
        "sys/devices/soc0/machine": "Tensor G3\n",
    }
    for name, text in files.items():
        path = tmp_path / "fake root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    device = server.connect(bundle_home, root=str(tmp_path / "fake root"))
    facts = device.facts().facts
    assert (facts["soc"], facts["memory"], facts["batteries"]) == ("Tensor G3", 8_000_000 * 1024, 1)
    assert [(one["model"], one["capacity"]) for one in facts["clusters"]] == [("Cortex-A76", 1024), ("Cortex-A55", 300)]
    assert [one["features"] for one in facts["clusters"]] == [["asimd", "asimddp", "i8mm"], ["asimd", "asimddp"]]
    states = {one.code: one.state for one in device.checks()}
    assert [states[code] for code in ("battery", "charging", "temperature", "governor")] == ["warning"] * 4
    assert device.sensors().temperature_c == 71.0
    (tmp_path / "fake root/sys/class/thermal/thermal_zone0/temp").write_text("45000\n")
    assert device.sensors().temperature_c == 45.0
    device.close()


def test_addresses() -> None:
    assert parse_address("ssh://root@127.0.0.1:2222") == ("127.0.0.1", "root", 2222)
    assert check_address("ssh://board/") == "ssh://board"
    for wrong in ("ssh://", "ssh://-oProxyCommand=x", "ssh://a b", "ssh://h:99999", "ssh://h/x", "ssh://h;id", "ssh://h:0",
                  "ssh://$(id)@h", "ssh://h?x"):  # fmt: skip
        with pytest.raises(UsageError, match="cannot be used"):
            check_address(wrong)
    with pytest.raises(UsageError, match="contains a password"):
        check_address("ssh://root:secret@h")
