"""A bundle in use: choice of the variant, budgets, and the signals of a device."""

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import edgewright
from edgewright.adaptive.budgets import Budget, BudgetKeeper, UsageSample
from edgewright.adaptive.bundle import BUNDLE_FILE, Bundle, Variant
from edgewright.adaptive.controls import Controls
from edgewright.adaptive.policy import Action
from edgewright.adaptive.session import AdaptiveSession, SessionSettings
from edgewright.adaptive.signals import SignalReading
from edgewright.adaptive.sources import SystemSignals
from edgewright.adaptive.variants import LoadedVariant
from edgewright.errors import ConfigError, EdgewrightError, UsageError, WorkerError
from edgewright.formats.files import hash_file
from tests.paths import ROOT

DIGITS = ROOT / "src/edgewright/flows/digits/digits.onnx"
IMAGE = {"image": np.zeros((1, 1, 8, 8), np.float32)}
LONG_S = 60.0


def make_variant(folder: Path, name: str, **fields: Any) -> Variant:
    path = folder / f"{name}.onnx"
    shutil.copyfile(DIGITS, path)
    common: dict[str, Any] = {"tier": "high", "runtime": "onnxruntime", "bytes": 1, "p50_us": 20.0, "run_id": None}
    common |= {"peak_bytes": None, "metric": None, "path": path.name, "sha256": hash_file(path)}
    return Variant(name=name, **common | fields)


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    folder = tmp_path / "app.bundle"
    folder.mkdir()
    variants = (make_variant(folder, "full", metric=0.99), make_variant(folder, "lite", metric=0.9, p50_us=10.0))
    found = Bundle(variants=variants, task=None, metric="accuracy", measured_on="here")
    (folder / BUNDLE_FILE).write_bytes(msgspec.json.encode(found))
    return folder


class Fixed:
    """A policy with one action."""

    state, why = "fixed", "always"

    def __init__(self, action: Action) -> None:
        self.action = action

    def update(self, reading: SignalReading) -> None:
        """The action does not change."""


def make_settings(tmp_path: Path, **settings: Any) -> SessionSettings:
    defaults: dict[str, Any] = {"cache": tmp_path / "cache", "signals": dict, "threads": 1, "period_s": 0.002}
    return SessionSettings(**defaults | settings)


def wait_for(done: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG_S
    while not done():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_a_session_answers_and_remembers_its_choice(bundle: Path, tmp_path: Path) -> None:
    settings = make_settings(tmp_path, policy="none")
    with edgewright.AdaptiveSession(bundle, edgewright.Budget(latency_ms=60_000), settings=settings) as session:
        outputs = session(IMAGE)
        assert (session.variant, outputs["logits"].shape) == ("full", (1, 10))
        assert "trial" in session.why
        (part,) = session.report()
        assert (part.name, part.held, part.why) == ("latency_ms", None, "fewer than 8 frames have a result yet")
        for _ in range(8):
            session(IMAGE)
        assert session.report()[0].held is True
    with AdaptiveSession(bundle, Budget(latency_ms=60_000), settings=settings) as again:
        assert again.why == "remembered for this device"
    with AdaptiveSession(
        bundle, Budget(latency_ms=60_000), settings=make_settings(tmp_path, policy="none", variant="lite")
    ) as own:
        assert (own.variant, own.why.partition(";")[0]) == ("lite", "chosen by the caller")
    with AdaptiveSession(bundle, Budget(latency_ms=60_000), settings=settings) as last:
        assert (last.variant, last.why) == ("full", "remembered for this device")


def test_a_remembered_variant_that_does_not_load_any_more(bundle: Path, tmp_path: Path) -> None:
    settings = make_settings(tmp_path, policy="none")
    with AdaptiveSession(bundle, settings=settings) as session:
        assert session.variant == "full"

    def open_variant(folder: Path, variant: Variant, threads: int, options: Mapping[str, str]) -> LoadedVariant:
        if variant.name == "full":
            raise WorkerError("its runtime was removed")
        return LoadedVariant(folder, variant, threads, options)

    with AdaptiveSession(bundle, settings=make_settings(tmp_path, policy="none", open_variant=open_variant)) as again:
        assert again.variant == "lite"


def test_the_policy_changes_the_variant_and_pauses(bundle: Path, tmp_path: Path) -> None:
    policy = Fixed(Action("lite"))
    with AdaptiveSession(bundle, settings=make_settings(tmp_path, policy=policy)) as session:
        wait_for(lambda: bool(session(IMAGE)) and session.variant == "lite")
        policy.action = Action(None)
        wait_for(lambda: session(IMAGE) is None)
        assert session.monitor.summarize().skipped >= 1
        assert session.monitor.summarize().switches == 1


def test_a_smallest_quality_forbids_lighter_variants(bundle: Path, tmp_path: Path) -> None:
    settings = make_settings(tmp_path, policy=Fixed(Action("lite")))
    with AdaptiveSession(bundle, Budget(min_quality=0.95), settings=settings) as session:
        wait_for(lambda: session(IMAGE) is None)  # half of the frames are left out instead
        assert session.variant == "full"
    with pytest.raises(UsageError, match="no variant has a quality"):
        AdaptiveSession(bundle, Budget(min_quality=0.995), settings=settings)


def test_a_trial_above_the_budget_chooses_the_lighter_variant(bundle: Path, tmp_path: Path) -> None:
    settings = make_settings(tmp_path, policy="none", controls=Controls(realtime=1000))
    with AdaptiveSession(bundle, Budget(latency_ms=1e-4), settings=settings) as session:
        for _ in range(16):
            session(IMAGE)
        assert session.variant == "lite"
        wait_for(lambda: bool(session.list_controls()))
        (part,) = session.report()
        assert (part.held, part.why) == (False, "the lightest variant that may run needs more")
        kinds = {one.kind for one in session.monitor.list_events()}
        assert {"trial", "control"} <= kinds


def test_a_variant_that_does_not_load_is_left_out(bundle: Path, tmp_path: Path) -> None:
    found = msgspec.json.decode((bundle / BUNDLE_FILE).read_bytes(), type=Bundle)
    (bundle / "full.onnx").write_bytes(b"no model")
    broken = msgspec.structs.replace(found.variants[0], sha256=hash_file(bundle / "full.onnx"))
    changed = msgspec.structs.replace(found, variants=(broken, found.variants[1]))
    (bundle / BUNDLE_FILE).write_bytes(msgspec.json.encode(changed))
    with AdaptiveSession(bundle, settings=make_settings(tmp_path, policy="none")) as session:
        assert session.variant == "lite"
    changed = msgspec.structs.replace(found, variants=(broken,))
    (bundle / BUNDLE_FILE).write_bytes(msgspec.json.encode(changed))
    with pytest.raises(EdgewrightError, match="rejects"):
        AdaptiveSession(bundle, settings=make_settings(tmp_path, policy="none"))


def test_settings_that_mean_nothing(bundle: Path, tmp_path: Path) -> None:
    for wrong in ({"latency_ms": 0.0}, {"cpu_share": 1.5}, {"energy_mj": float("inf")}):
        with pytest.raises(UsageError, match="is not possible"):
            Budget(**wrong)
    with pytest.raises(ConfigError, match="there is no policy governer"):
        AdaptiveSession(bundle, settings=make_settings(tmp_path, policy="governer"))
    with pytest.raises(UsageError, match="no variant best"):
        AdaptiveSession(bundle, settings=make_settings(tmp_path, variant="best"))


def test_a_cpu_share_is_held_by_fewer_frames() -> None:
    """A stream that takes 0.8 of the processors at full duty."""
    keeper, cpu = BudgetKeeper(Budget(cpu_share=0.3), [100.0], cores=2), 0.0
    for second in range(60):
        keeper.update(UsageSample(float(second), cpu))
        cpu += 0.8 * 2 * keeper.duty
    (part,) = keeper.report()
    assert part.held and part.measured is not None and part.measured > 0.2


def test_a_cpu_share_that_cannot_be_held_is_reported() -> None:
    keeper = BudgetKeeper(Budget(cpu_share=0.1), [100.0], cores=2)
    for second in range(60):
        keeper.update(UsageSample(float(second), 0.8 * 2 * second))
    (part,) = keeper.report()
    assert (part.held, part.why) == (False, "the lightest variant that may run needs more")


def test_a_latency_above_the_budget_leads_to_the_lighter_variant_and_back_only_with_room() -> None:
    keeper = BudgetKeeper(Budget(latency_ms=100), [100.0, 50.0], cores=2)
    positions = []
    for second in range(200):
        latency = (120.0 if second < 50 else 60.0) * (1.0 if keeper.position == 0 else 0.5)
        for _ in range(10):
            keeper.add_latency(latency / 1e3)
        keeper.update(UsageSample(float(second), 0.0))
        positions.append(keeper.position)
    assert positions[0] == 1
    assert positions[49] == 1 and positions[-1] == 0
    assert keeper.report()[0].held


def test_energy_without_a_sensor_is_not_known() -> None:
    keeper = BudgetKeeper(Budget(energy_mj=5.0), [100.0], cores=2)
    keeper.update(UsageSample(0.0, 0.0))
    assert keeper.report()[0].why == "this device has no energy sensor"
    for second in range(1, 4):
        keeper.update(UsageSample(float(second), 0.0, 100_000 * second, 10 * second))
    keeper = BudgetKeeper(Budget(energy_mj=5.0), [100.0, 50.0], cores=2)
    for second in range(4):
        keeper.update(UsageSample(float(second), 0.0, 100_000 * second, 10 * second))
    assert keeper.position == 1


def test_signals_of_a_phone(tmp_path: Path) -> None:
    files = {
        "sys/class/thermal/thermal_zone0/type": "cpu-1-0",
        "sys/class/thermal/thermal_zone0/temp": "80000",
        "sys/class/thermal/thermal_zone0/trip_point_0_type": "passive",
        "sys/class/thermal/thermal_zone0/trip_point_0_temp": "95000",
        "sys/class/thermal/thermal_zone1/type": "skin-therm",
        "sys/class/thermal/thermal_zone1/temp": "41500",
        "sys/class/power_supply/battery/type": "Battery",
        "sys/class/power_supply/battery/capacity": "17",
        "sys/class/power_supply/battery/status": "Discharging",
        "sys/class/power_supply/battery/temp": "350",
        "sys/firmware/acpi/platform_profile": "low-power",
        "proc/pressure/memory": "some avg10=12.50 avg60=1.00 avg300=0.00 total=1\n",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    expected = {"temperature_c": 41.5, "headroom": 0.5, "battery_pct": 17.0, "charging": 0.0, "saver": 1.0}
    assert SystemSignals(tmp_path)() == {**expected, "pressure": 12.5}
    (tmp_path / "sys/class/thermal/thermal_zone1/temp").unlink()
    assert SystemSignals(tmp_path)()["temperature_c"] == 35.0
    shutil.rmtree(tmp_path / "sys")
    assert SystemSignals(tmp_path)() == {**dict.fromkeys(expected), "pressure": 12.5}
