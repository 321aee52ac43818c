"""The disk space of decoded samples, checked before it is used."""

import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgewright.errors import OutputError
from edgewright.flows.experiment.dataset_cache import SPARE_BYTES, cache_dataset
from edgewright.tasks.data.dataset import open_dataset
from tests.flows.experiment.quadrants import TASK, ignore, write_training_files


def test_a_full_disk_is_reported_and_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_training_files(tmp_path)["data"]
    folder = tmp_path / "work" / "data"
    dataset = cache_dataset(partial(open_dataset, data, TASK), tmp_path / "laid", held_out=0.1, seed=0, progress=ignore)
    decoded = sum(np.load(path, mmap_mode="r").nbytes for path in dataset.inputs.values())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=decoded + SPARE_BYTES - 1))
    with pytest.raises(OutputError, match="not enough disk space") as caught:
        cache_dataset(partial(open_dataset, data, TASK), folder, held_out=0.1, seed=0, progress=ignore)
    assert caught.value.why == "67.1 MB are needed, 67.1 MB are free"
    assert not folder.exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=decoded + SPARE_BYTES))
    assert (
        cache_dataset(partial(open_dataset, data, TASK), folder, held_out=0.1, seed=0, progress=ignore).fit
        == dataset.fit
    )
