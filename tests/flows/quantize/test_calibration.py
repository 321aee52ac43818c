"""Calibration samples on the disk."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgewright.errors import OutputError
from edgewright.flows.quantize.calibration import cache_calibration_data
from edgewright.tasks.data.dataset import open_dataset
from edgewright.tasks.spec.task import Regression, Task, TensorInput

TASK = Task(inputs=(TensorInput(name="x", shape=(1, 250)),), output=Regression(), metric="mae")


def test_samples_that_would_fill_the_disk_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "data.npz", x=np.zeros((10, 250), np.float32), y=np.zeros(10, np.float32))
    work = tmp_path / "work"
    work.mkdir()
    with open_dataset(str(tmp_path / "data.npz"), TASK) as data:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=19_999))
        with pytest.raises(OutputError, match=r"not enough disk space in .* for 10 calibration samples") as caught:
            cache_calibration_data(data, range(10), work)
        assert caught.value.why == "20.0 kB are needed, 20.0 kB are free"
        assert list(work.iterdir()) == []
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=20_000))
        made = cache_calibration_data(data, range(10), work)
    assert {path.name for path in work.iterdir()} == {path.name for path in (*made.fit.values(), *made.check.values())}
    assert len(np.load(made.fit["x"])) + len(np.load(made.check["x"])) == 10
