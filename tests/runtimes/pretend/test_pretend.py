"""The pretend runtime: its made-up times and failures."""

from pathlib import Path
from statistics import mean

import msgspec
import numpy as np
import pytest

from edgewright.runtimes import pretend
from edgewright.runtimes.contract import Rejected
from edgewright.runtimes.pretend.session import PretendSession
from edgewright.runtimes.wire import SessionRequest
from edgewright.schema.run import LayerReport
from tests.contracts.runtime_contract import Feeds, RuntimeCase, RuntimeContract


class TestPretend(RuntimeContract):
    @pytest.fixture
    def case(self, tmp_path: Path) -> RuntimeCase:
        model = tmp_path / "m.pretend"
        model.write_bytes(b"pretend")
        feeds = {"x": np.arange(6.0).reshape(2, 3), "y": np.ones(3, np.int8)}
        return RuntimeCase("pretend", model, feeds, model, {"fail": "open"}, compute=add_up, fatal=("fail",))


def add_up(feeds: Feeds) -> Feeds:
    return {"sums": np.array([float(array.sum()) for array in feeds.values()])}


def made_up_times(count: int, **options: str) -> list[float]:
    wish = {name.replace("_", "-"): value for name, value in options.items()}
    session = PretendSession(SessionRequest(model="m", options=wish))
    return [session.next_us() for _ in range(count)]


def test_the_same_seed_gives_the_same_times() -> None:
    assert made_up_times(50, seed="3") == made_up_times(50, seed="3") != made_up_times(50, seed="4")


def test_without_noise_every_time_is_the_median() -> None:
    assert made_up_times(20, noise="0", latency_us="123") == [123.0] * 20


def test_noise_spreads_around_the_median() -> None:
    times = made_up_times(2000, noise="0.1", latency_us="100")
    assert abs(float(np.median(times)) - 100) < 1
    assert 0.09 < float(np.std(np.log(times))) < 0.11


def test_warm_up_is_halved_with_each_inference() -> None:
    assert made_up_times(4, noise="0", latency_us="100", warmup="2") == [300.0, 200.0, 150.0, 125.0]


def test_throttling_rises_to_its_height_and_stays() -> None:
    times = made_up_times(400, noise="0", latency_us="100", throttle="0.5")
    assert times[0] == 100.0
    assert times == sorted(times)
    assert set(times[200:]) == {150.0}
    assert mean(times[:200]) < 130


@pytest.mark.parametrize("option", ["latency-us", "noise", "warmup", "throttle", "seed"])
@pytest.mark.parametrize("value", ["much", "-1", "nan", "inf", ""])
def test_an_option_that_is_no_number_is_rejected(option: str, value: str) -> None:
    with pytest.raises(Rejected, match=option):
        pretend.open_session(SessionRequest(model="m", options={option: value}))


def report(folder: Path, **trace: object) -> LayerReport:
    (folder / "trace.json").write_bytes(msgspec.json.encode(trace))
    return pretend.layers(folder, ())


def test_a_fallback_is_a_layer_on_another_backend(tmp_path: Path) -> None:
    reported = report(tmp_path, runs_us=[100.0, 100.0], fallback=0.25)
    (fallen,) = reported.fallbacks()
    assert fallen.median_us == 25.0
    assert fallen.unit == "CPU"
    assert reported.partitions == 2
    assert sum(layer.median_us for layer in reported.layers) == pytest.approx(100.0)


def test_without_fallback_all_layers_run_where_they_were_asked_to(tmp_path: Path) -> None:
    reported = report(tmp_path, runs_us=[100.0], fallback=0.0)
    assert not reported.fallbacks()
    assert reported.partitions == 1
    assert {layer.unit for layer in reported.layers} == {"NPU"}
