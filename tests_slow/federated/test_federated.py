"""Federated learning with Flower: simulations, and a server with clients in network namespaces.

`make test-federated` sets up the environment `flower` and runs this; the namespaces need root.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from edgewright.runtimes.environments import find_ready_locks
from tests.flows.experiment.quadrants import write_data, write_training_files

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("federated")]
CACHE = Path("~/.cache/edgewright-tests").expanduser()
LIMIT_S = 240
TASK = """
schema = "edgewright.task/1"
metric = "top1"

[[inputs]]
kind = "image"
name = "x"
size = [8, 8]
color = "gray"
mean = 127.5
std = 127.5
resize = "none"

[output]
kind = "classification"
classes = 4
"""
MODEL = ("--model", "net.py:build", "--task", "task.toml")
TRAINING = ("--epochs", "4", "--lr", "0.05", "--batch", "8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model, task and data, and a home whose environments are those of the cache."""
    if "flower" not in find_ready_locks(CACHE / "environments"):
        pytest.skip("the environment flower is not set up: make test-federated")
    made = tmp_path_factory.mktemp("federated")
    write_training_files(made)
    (made / "task.toml").write_text(TASK)
    write_data(made / "many.npz", 400, 7)
    for number in (1, 2, 3):
        write_data(made / f"own-{number}.npz", 60, 10 + number)
    (made / "home").mkdir()
    (made / "home" / "environments").symlink_to(CACHE / "environments")
    return made


def make_environ(folder: Path) -> dict[str, str]:
    return os.environ | {"EDGEWRIGHT_HOME": str(folder / "home")}


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgewright", "federate", *words]
    return subprocess.run(
        command, cwd=folder, env=make_environ(folder), capture_output=True, text=True, timeout=LIMIT_S, check=False
    )


def simulate(folder: Path, *words: str) -> dict[str, Any]:
    data = ("--data", "many.npz", "--val", "val.npz", "--clients", "12", "--sample", "6", "--rounds", "6")
    done = run(folder, "simulate", *MODEL, *data, "--alpha", "1", *TRAINING, *words, "--json")
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert [one["round"] for one in report["rounds"]] == list(range(1, 7))
    return report


def test_plain_rounds_learn_and_are_reproducible(folder: Path) -> None:
    report = simulate(folder, "-o", "plain")
    assert report["final"] > report["initial"] + 0.2
    assert report["central"] > report["initial"]
    assert all(one["answered"] == 6 and one["changed"] > 0 and one["epsilon"] is None for one in report["rounds"])
    assert (folder / "plain" / "net.federated.safetensors").is_file()
    again = simulate(folder, "--no-central")
    assert [one["metric"] for one in again["rounds"]] == [one["metric"] for one in report["rounds"]]


@pytest.mark.parametrize(
    ("words", "share"),
    [(("--compress", "int8"), 0.5), (("--compress", "topk", "--top", "0.05"), 0.3), (("--method", "lora"), 0.6)],
)
def test_fewer_bytes_travel(folder: Path, words: tuple[str, ...], share: float) -> None:
    report = simulate(folder, "--no-central", *words)
    plain = 6 * 6 * 4 * report["parameters"]
    assert report["bytes_up"] < share * plain + 36 * 2500  # messages have a head
    assert all(one["answered"] == 6 for one in report["rounds"])


def test_secure_rounds_learn(folder: Path) -> None:
    secure = simulate(folder, "--secure", "--no-central")
    assert all(one["answered"] == 6 for one in secure["rounds"])
    assert secure["final"] > secure["initial"] + 0.2


def test_secure_aggregation_survives_dropouts_with_noise(folder: Path) -> None:
    words = ("--secure", "--clip", "2", "--noise", "0.3", "--dropout", "0.2", "--no-central")
    report = simulate(folder, *words)
    spent = [one["epsilon"] for one in report["rounds"]]
    assert spent == sorted(spent) and spent[0] > 0
    assert sum(one["answered"] for one in report["rounds"]) > 6
    assert any("dropped out" in update["reason"] for one in report["rounds"] for update in one["rejected"])


@pytest.mark.parametrize("words", [("--strategy", "fedprox"), ("--strategy", "fedadam"), ("--robust", "median")])
def test_other_combinations_change_the_model(folder: Path, words: tuple[str, ...]) -> None:
    report = simulate(folder, "--no-central", *words)
    assert all(one["changed"] > 0 for one in report["rounds"])


@pytest.fixture
def namespaces() -> Iterator[list[str]]:
    """Three network namespaces on one bridge: 10.231.0.1 to 10.231.0.3."""
    if os.geteuid() or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and the command ip")
    bridge, names = f"ewb{os.getpid()}"[:15], [f"ew{os.getpid()}-{number}" for number in (1, 2, 3)]

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    try:
        ip("link", "add", bridge, "type", "bridge")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no bridge can be made here: {error.stderr.decode().strip()}")
    try:
        ip("link", "set", bridge, "up")
        for number, name in enumerate(names, start=1):
            outer = f"ewv{os.getpid()}-{number}"[-15:]
            ip("netns", "add", name)
            ip("link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", outer, "master", bridge, "up")
            ip("-n", name, "addr", "add", f"10.231.0.{number}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", bridge], check=False, capture_output=True)


class Member:
    """A process of a server or a client in a namespace."""

    def __init__(self, folder: Path, namespace: str, *words: str) -> None:
        self._log = folder / f"{namespace}-{words[0]}-{time.monotonic_ns()}.log"
        command = ["ip", "netns", "exec", namespace, sys.executable, "-m", "edgewright", "federate", *words]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=folder, env=make_environ(folder), stdout=subprocess.PIPE, stderr=log, text=True,
                start_new_session=True,
            )  # fmt: skip

    def wait_for(self, text: str) -> None:
        ends = time.monotonic() + LIMIT_S
        while text not in self._log.read_text():
            assert self.process.poll() is None, self._log.read_text()
            assert time.monotonic() < ends, self._log.read_text()
            time.sleep(0.2)

    def end(self) -> tuple[int, str, str]:
        out, _ = self.process.communicate(timeout=LIMIT_S)
        return self.process.returncode, out, self._log.read_text()

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def test_members_in_three_namespaces(folder: Path, namespaces: list[str]) -> None:
    first, second, third = namespaces
    made = run(folder, "init", *MODEL, "--clients", "3", "--host", "10.231.0.1", *TRAINING, "-o", "federation")
    assert made.returncode == 0, made.stderr
    other = run(folder, "init", *MODEL, "--clients", "2", "--host", "10.231.0.1", "-o", "strangers")
    assert other.returncode == 0, other.stderr
    address, rounds = "10.231.0.1:9443", 12
    server = Member(
        folder, first, "server", "federation/server", "--val", "val.npz", "--listen", address, "--rounds", str(rounds),
        "--sample", "3", "-o", "out", "--json",
    )  # fmt: skip
    members = [server]
    try:
        server.wait_for("listening")
        stranger = Member(
            folder, third, "client", "strangers/client-1", "--server", address, "--data", "own-1.npz", "-o", "s"
        )
        code, _, log = stranger.end()
        assert code == 4 and "certificates" in log
        for number, namespace in ((1, second), (2, third), (3, third)):
            words = ("--server", address, "--data", f"own-{number}.npz", "-o", f"out-{number}", "--json")
            members.append(Member(folder, namespace, "client", f"federation/client-{number}", *words))
        server.wait_for("metric")
        members[3].kill()
        code, out, log = server.end()
        assert code == 0, log
        report = json.loads(out)
        assert [one["round"] for one in report["rounds"]] == list(range(1, rounds + 1))
        assert all(one["answered"] >= 2 and one["changed"] > 0 for one in report["rounds"])
        for member in members[1:3]:
            code, out, log = member.end()
            assert code == 0, log
        weights = [(folder / name / "global.safetensors").read_bytes() for name in ("out", "out-1", "out-2")]
        assert weights[0] == weights[1] == weights[2]
    finally:
        for member in members:
            member.kill()
