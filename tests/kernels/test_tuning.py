"""The tuner on a device of the test: wrong variants are rejected, an interrupted search goes on."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgewright.cli.app import run
from edgewright.errors import KernelsDiffer
from edgewright.kernels.build import find_compiler
from edgewright.kernels.tuning import tuner
from edgewright.kernels.tuning.conv2d import DEFAULT, SOURCE, ConvInputs, ConvVariant, list_variants, make_inputs
from edgewright.kernels.tuning.device import DeviceFailure, OpenClDevice
from edgewright.kernels.tuning.processor import Processor

FEW = [one for one in list_variants() if one.tx == one.bx == one.by == 1]  # the search writes a file for each


class FakeKernel:
    def __init__(self, variant: ConvVariant, inputs: ConvInputs) -> None:
        self.variant, self.inputs = variant, inputs

    def compute(self) -> Any:
        return self.inputs.want + (0.1 if self.variant.tk == 16 else 0.0)


class FakeDevice:
    """Wider vectors are faster, 16 maps are wrong, images fail."""

    title, source, is_cpu, is_stand_in = "fake", SOURCE, True, False
    built = 0

    def supports(self, variant: ConvVariant) -> bool:
        return True

    def load(self, variant: ConvVariant, inputs: ConvInputs) -> FakeKernel:
        if variant.image:
            raise DeviceFailure("no images")
        FakeDevice.built += 1
        return FakeKernel(variant, inputs)

    def time_us(self, kernel: FakeKernel, rounds: int) -> float:
        return 100.0 / kernel.variant.vw


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(tuner, OpenClDevice.__name__, FakeDevice)
    monkeypatch.setattr(tuner, list_variants.__name__, lambda: iter(FEW))
    FakeDevice.built = 0


def test_the_reference_is_a_convolution() -> None:
    inputs = make_inputs()
    row, column, filters = 5, 7, 3
    window = inputs.padded[:, row : row + 3, column : column + 3].reshape(64, 9).astype(np.float64)
    assert inputs.want[filters, row, column] == pytest.approx(float((window * inputs.weights[:, :, filters]).sum()))


@pytest.mark.usefixtures("fake")
def test_wrong_variants_are_rejected_and_the_fastest_found() -> None:
    found = tuner.tune_conv2d(60, 0)
    assert (found.correct, found.params.vw, found.params.image) == (True, 16, 0)
    assert found.params.tk != 16
    assert (found.default_us, found.best_us, found.ratio) == (25.0, 6.25, 4.0)
    assert (found.tried, found.of) == (len(FEW),) * 2
    assert found.rejected == sum(one.image or one.tk == 16 for one in FEW)


@pytest.mark.usefixtures("fake")
def test_an_interrupted_search_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(text: str) -> None:
        if text.startswith("conv2d: 5 of"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tuner.tune_conv2d(60, 0, stop)
    built = FakeDevice.built
    assert tuner.tune_conv2d(1e-9, 0).tried == 5
    assert FakeDevice.built <= built + tuner.FINALISTS + 3


@pytest.mark.usefixtures("fake")
def test_a_driver_that_miscompiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeKernel, "compute", lambda self: self.inputs.want * 2)
    with pytest.raises(KernelsDiffer, match="largest error"):
        tuner.tune_conv2d(60, 0)


def raise_no_platform() -> Any:
    raise LookupError("PLATFORM_NOT_FOUND_KHR")


@pytest.mark.parametrize(
    ("module", "why"),
    [
        (None, "pyopencl is not installed"),
        (SimpleNamespace(get_platforms=list, Error=LookupError), "no device"),
        (SimpleNamespace(get_platforms=raise_no_platform, Error=LookupError), "no platform"),
    ],
)
def test_without_opencl(
    module: Any, why: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyopencl", module)
    assert run(["kernels", "tune", "conv2d", "--budget", "1s"]) == 5
    assert why in capsys.readouterr().err


@pytest.mark.skipif(find_compiler() is None, reason="no C compiler is installed")
def test_c_variants_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert run(["kernels", "tune", "conv2d", "--device", "cpu", "--budget", "1s", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["correct"] and found["clock"] == "cpu" and not found["stand_in"]
    device, inputs = Processor(), make_inputs()
    kept = [one for one in list_variants() if device.supports(one)]
    assert found["of"] == len(kept) < len(list(list_variants()))
    for variant in (ConvVariant(vw=8, tx=7, local=1), ConvVariant(vw=16, tk=16, tx=2)):
        assert variant in kept
        np.testing.assert_allclose(device.load(variant, inputs).compute(), inputs.want, atol=1e-3)


def test_c_variants_need_a_compiler(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("edgewright.kernels.tuning.processor.find_compiler", lambda: None)
    assert run(["kernels", "tune", "conv2d", "--device", "cpu"]) == 5
    assert "no C compiler" in capsys.readouterr().err


def test_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pyopencl", reason="pyopencl is not installed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if (code := run(["kernels", "tune", "conv2d", "--budget", "1s", "--json"])) == 5:
        pytest.skip("there is no OpenCL driver")
    found = json.loads(capsys.readouterr().out)
    assert code == 0
    assert found["correct"]
    device, inputs = OpenClDevice(), make_inputs()
    for variant in (DEFAULT, ConvVariant(vw=8, local=1, by=8), ConvVariant(image=1), ConvVariant(vw=16, tx=2, bx=4)):
        done = device.load(variant, inputs).compute()
        np.testing.assert_allclose(done, inputs.want, atol=1e-3)
