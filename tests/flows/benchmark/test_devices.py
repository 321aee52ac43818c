"""A benchmark on several devices: one that fails leaves the others going."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from edgewright.devices.pretend import Phase, PretendDevice
from edgewright.devices.protocol import Device
from edgewright.errors import DeviceUnreachable, GateFailed
from edgewright.flows.benchmark.devices import DevicesOutcome, benchmark_on
from edgewright.flows.benchmark.report import make_report
from edgewright.flows.workspace import Workspace
from edgewright.schema.plan import BenchmarkPlan, Candidate
from edgewright.schema.run import DeviceRecord
from edgewright.store.store import Store
from tests.models.onnx_files import write_conv_net


class NamedDevice(PretendDevice):
    """A simulated phone with a name of its own; `doubled` ones get other inputs, so that their outputs differ."""

    def __init__(self, name: str, lost_in: Phase = "never", *, doubled: bool = False) -> None:
        super().__init__(lost_in=lost_in)
        self.name, self.doubled = name, doubled

    def facts(self) -> DeviceRecord:
        return DeviceRecord(id=f"id-{self.name}", name=self.name, kind="ssh", address="ssh", facts={"logical_cores": 8})

    def push(self, path: Path, sha256: str, beside: Mapping[str, Path] = MappingProxyType({})) -> str:
        remote = super().push(path, sha256, beside)
        if self.doubled and not sha256:
            from edgewright.runtimes.tensor_file import read_tensor_file, write_tensor_file

            arrays = read_tensor_file(Path(remote))
            write_tensor_file(Path(remote), {name: np.asarray(2 * array) for name, array in arrays.items()})
        return remote


def measure(store: Store, tmp_path: Path, *devices: NamedDevice | DeviceUnreachable) -> DevicesOutcome:
    path = str(write_conv_net(tmp_path / "m.onnx"))
    known: dict[str, Device | DeviceUnreachable] = {}
    for number, device in enumerate(devices):
        known[device.name if isinstance(device, NamedDevice) else f"gone{number}"] = device

    @contextmanager
    def open_at(name: str) -> Iterator[Workspace]:
        device = known[name]
        if isinstance(device, DeviceUnreachable):
            raise device
        with closing(device):
            yield Workspace(device, store, lambda line: None)

    candidates = tuple(
        Candidate(model=path, runtime="onnxruntime", options={"optimization": level}) for level in ("all", "basic")
    )
    plan = BenchmarkPlan(candidates=candidates, processes=2, runs=10, warmup_seconds=0.01, layers=False)
    return benchmark_on(plan, tuple(known), open_at, {})


def test_ratios_are_to_the_first_device_and_verdicts_within_one(store: Store, tmp_path: Path) -> None:
    found = measure(store, tmp_path, NamedDevice("one"), NamedDevice("two"))
    report = make_report(found.outcome.runs, found.outcome.comparisons, found.failed)
    assert found.outcome.error is None
    assert [(row.device, row.device_kind) for row in report.runs] == [("one", "ssh")] * 2 + [("two", "ssh")] * 2
    assert [(row.check.state, row.check.sqnr_db) for row in report.runs if row.check] == [("ok", 200.0)] * 4
    ids = [row.run_id for row in report.runs]
    assert [(one.a, one.b) for one in report.comparisons] == [(ids[0], ids[1]), (ids[2], ids[3])]
    assert [(one.device, one.reference, one.reference_id) for one in report.relative] == [
        ("two", "one", ids[0]),
        ("two", "one", ids[1]),
    ]
    times = [row.latency_us.p50 or 0.0 for row in report.runs if row.latency_us]
    assert report.relative[0].ratio == pytest.approx(times[2] / times[0])
    assert " on one" in report.answer
    assert " on two" in report.answer


@pytest.mark.parametrize("phase", ["push", "start", "load", "measuring", "result"])
def test_a_lost_device_leaves_the_others_going(phase: Phase, store: Store, tmp_path: Path) -> None:
    found = measure(store, tmp_path, NamedDevice("lost", phase), NamedDevice("fine"))
    assert isinstance(found.outcome.error, DeviceUnreachable)
    states = [(run.device.name, run.state) for run in found.outcome.runs if run.device]
    assert states[-2:] == [("fine", "done")] * 2
    assert states[:-2] == ([] if phase == "push" else [("lost", "failed")] * 2)
    assert [one.name for one in found.failed] == (["lost"] if phase == "push" else [])


def test_an_absent_device_is_named(store: Store, tmp_path: Path) -> None:
    found = measure(store, tmp_path, DeviceUnreachable("it is off"), NamedDevice("fine"))
    assert [(one.name, one.state, one.error) for one in found.failed] == [("gone0", "offline", "it is off")]
    report = make_report(found.outcome.runs, found.outcome.comparisons, found.failed)
    assert report.answer.endswith("Nothing was measured on gone0.")
    with pytest.raises(DeviceUnreachable, match="it is off"):
        measure(store, tmp_path, DeviceUnreachable("it is off"))


def test_other_outputs_than_on_this_machine_are_no_result(store: Store, tmp_path: Path) -> None:
    found = measure(store, tmp_path, NamedDevice("wrong", doubled=True))
    report = make_report(found.outcome.runs, found.outcome.comparisons)
    assert isinstance(found.outcome.error, GateFailed)
    assert [(row.state, row.latency_us) for row in report.runs] == [("failed", None)] * 2
    assert all(row.check and row.check.state == "failed" and (row.check.sqnr_db or 0) < 60 for row in report.runs)
    assert "has other outputs on wrong" in str(report.runs[0].error)
