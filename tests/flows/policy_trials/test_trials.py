"""Bundles under policies: the simulated phone, rounds with kills, the record and the command's errors."""

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgewright.adaptive.bundle import BUNDLE_FILE, Bundle, Variant
from edgewright.adaptive.governor import BUILT_IN
from edgewright.bench.verdict import MIN_CONFIDENCE
from edgewright.cli.app import run
from edgewright.devices.protocol import Device
from edgewright.errors import ConfigError, UsageError, WorkerCrashed
from edgewright.flows.answers import answer_run
from edgewright.flows.policy_trials import flow, surroundings
from edgewright.flows.policy_trials.flow import run_policy_trials
from edgewright.flows.policy_trials.plan import ROUNDS, PolicyTrialPlan, Scenario, StreamCounts, StreamJob
from edgewright.flows.policy_trials.simulated import SimulatedPhone
from edgewright.flows.workspace import Workspace
from edgewright.formats.files import hash_file
from edgewright.store.store import Store
from tests.paths import ROOT


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    folder = tmp_path / "app.bundle"
    folder.mkdir()
    variants = []
    for name in ("full", "lite"):
        path = folder / f"{name}.onnx"
        shutil.copyfile(ROOT / "src/edgewright/flows/digits/digits.onnx", path)
        fields: dict[str, Any] = {"peak_bytes": None, "metric": None, "run_id": None, "bytes": 1, "tier": "high"}
        fields |= {"p50_us": 20.0 if name == "full" else 10.0, "sha256": hash_file(path), "runtime": "onnxruntime"}
        variants.append(Variant(name=name, path=path.name, **fields))
    found = Bundle(variants=tuple(variants), task=None, metric=None, measured_on="here")
    (folder / BUNDLE_FILE).write_bytes(msgspec.json.encode(found))
    return folder


@pytest.fixture
def workspace(device: Device, store: Store) -> Workspace:
    return Workspace(device, store, lambda _: None)


def make_job(tmp_path: Path, bundle: Path, scenario: Scenario, **fields: Any) -> StreamJob:
    table = tmp_path / "policy.json"
    table.write_bytes(msgspec.json.encode(BUILT_IN["governor"]))
    defaults: dict[str, Any] = {"adaptive": True, "start_s": None, "seconds": 0.3, "rate": 30.0, "threads": 1}
    defaults |= {"result": str(tmp_path / "counts.json"), "folder": str(tmp_path), "policy": str(table)}
    return StreamJob(bundle=str(bundle), scenario=scenario, **defaults | fields)


def test_a_stream_on_the_simulated_phone(bundle: Path, tmp_path: Path) -> None:
    job = make_job(tmp_path, bundle, "low-battery", simulated=True)
    counts, killed = flow._run_stream(job, tmp_path)
    assert not killed
    assert counts.frames == 9
    assert counts.battery_pct is not None and counts.battery_pct < 21
    assert counts.peak_c is not None and counts.peak_c > 25
    assert counts.start_bytes and counts.peak_bytes and counts.peak_bytes >= counts.start_bytes


def test_the_phone_heats_slows_down_and_ends_without_energy(tmp_path: Path) -> None:
    job = make_job(tmp_path, tmp_path, "hot")
    phone = SimulatedPhone(job, tmp_path)
    for _ in range(1800):
        phone._advance(1.0)
    phone._publish()
    assert phone.peak_c > 40 and phone.speed < 1
    assert int((tmp_path / "sys/class/thermal/thermal_zone0/temp").read_text()) > 40_000
    phone.battery_pct = 1e-9
    phone._advance(1.0)
    assert phone.speed == 0.0
    assert phone.speedup == pytest.approx(6000)


def test_what_is_killed_is_started_again_and_its_frames_are_missed(
    bundle: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The policy none is killed once in each round, after a third of its frames; then no time is left."""
    clock = [0.0]

    def stream(job: StreamJob, folder: Path) -> tuple[StreamCounts, bool]:
        frames = round(job.seconds * job.rate)
        if not job.adaptive:
            clock[0] += job.seconds
            return StreamCounts(frames=frames // 3, on_time=frames // 3), True
        return StreamCounts(frames=frames, on_time=frames - 3, skipped=2, switches=1, events={"state": 1}), False

    monkeypatch.setattr(flow, "_run_stream", stream)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    plan = PolicyTrialPlan(bundle=str(bundle), scenario="cold-start", seconds=12.0)
    report = run_policy_trials(plan, workspace)
    none, governor = report.policies
    assert (none.frames, none.on_time, none.missed, none.kills) == (360, 120, 240, ROUNDS)
    assert (governor.frames, governor.on_time, governor.missed, governor.skipped) == (360, 342, 6, 12)
    assert (governor.switches, governor.events, governor.evidence) == (6, {"state": 6}, "real")
    (comparison,) = report.comparisons
    assert comparison.verdict == "faster" and comparison.ratio == pytest.approx(20 / 57)
    assert comparison.confidence >= MIN_CONFIDENCE
    assert report.answer.endswith("governor against none: more frames on time.")
    run_of = workspace.store.load(governor.run_id)
    assert run_of.parent_id == none.run_id and run_of.model is not None
    answer = answer_run(run_of, workspace.store).text
    assert answer == "governor in cold-start (real): 95.0% of the frames on time, 1.7% missed, 3.3% left out."


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"policies": ("none", "none")}, UsageError, "does not fit"),
        ({"policies": ("governer",)}, ConfigError, "there is no policy governer"),
        ({"seconds": 1.0}, UsageError, "--seconds 1 is not possible"),
        ({"bundle": "absent"}, ConfigError, "is not a bundle"),
    ],
)
def test_plans_that_cannot_be_run(
    bundle: Path, workspace: Workspace, changes: dict[str, Any], error: type[Exception], text: str
) -> None:
    plan = PolicyTrialPlan(bundle=str(bundle), scenario="busy", seconds=60.0)
    with pytest.raises(error, match=text):
        run_policy_trials(msgspec.structs.replace(plan, **changes), workspace)


def test_a_stream_that_fails_says_why(bundle: Path, tmp_path: Path) -> None:
    for one in bundle.glob("*.onnx"):
        one.write_bytes(b"no model")
    with pytest.raises(WorkerCrashed, match="a stream ended with an error"):
        flow._run_stream(make_job(tmp_path, bundle, "busy"), tmp_path)


def test_a_small_variant_has_no_memory_limit() -> None:
    with pytest.raises(UsageError, match="needs only 5 MB"), surroundings.open_limited_group(5_000_000):
        raise AssertionError


def test_mapped_weights_are_saved_before_the_memory_is_limited(
    bundle: Path, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = list[StreamJob]()

    def stream(job: StreamJob, folder: Path) -> tuple[StreamCounts, bool]:
        jobs.append(job)
        return StreamCounts(frames=30, on_time=30, start_bytes=10_000_000, peak_bytes=60_000_000), False

    monkeypatch.setattr(flow, "_run_stream", stream)
    monkeypatch.setattr(surroundings, "_create_group", lambda limit: tmp_path / f"group-{limit}")
    report = run_policy_trials(PolicyTrialPlan(bundle=str(bundle), scenario="low-memory", seconds=6.0), workspace)
    before = [(one.adaptive, one.variant) for one in jobs if not one.group]
    assert before == [(False, ""), (True, "full"), (True, "lite")]
    assert {one.group for one in jobs[3:]} == {str(tmp_path / "group-30000000")}
    assert "60% of 50 MB" in report.notes[0]


def test_competitors_end_with_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    started = list[subprocess.Popen[bytes]]()
    original = subprocess.Popen

    def start(*given: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(original(*given, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    with surroundings.run_competitors():
        assert started
    assert {one.returncode for one in started} == {-signal.SIGKILL}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (["app.bundle", "--policy", "none"], "--scenario is missing"),
        (["a", "b", "--scenario", "busy"], "--policy needs one bundle"),
        (["a", "--scenario", "busy", "--processes", "3"], "--policy and --processes cannot be combined"),
    ],
)
def test_options_that_do_not_fit(given: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["benchmark", *given]) == 2
    assert text in capsys.readouterr().err


def test_the_command_prints_the_report(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = StreamCounts(frames=60, on_time=60)
    monkeypatch.setattr(flow, "_run_stream", lambda job, folder: (counts, False))
    given = ["benchmark", str(bundle), "--policy", "none,governor", "--scenario", "hot", "--seconds", "12", "--json"]
    assert run(given) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "edgewright.policy-trial/1"
    assert [one["evidence"] for one in found["policies"]] == ["simulated", "simulated"]
    assert found["comparisons"][0]["verdict"] == "no difference"
