"""The room that decoded samples take, told before any is taken."""

import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgewright.errors import OutputError
from edgewright.flows.laying import SPARE_BYTES, lay_out_training
from edgewright.tasks.data import open_data
from tests.flows.lessons import TASK, ignore, write_lesson


def test_a_full_disk_is_told_truly_and_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_lesson(tmp_path)["data"]
    folder = tmp_path / "work" / "data"
    laid = lay_out_training(partial(open_data, data, TASK), tmp_path / "laid", held_out=0.1, seed=0, tell=ignore)
    decoded = sum(np.load(path, mmap_mode="r").nbytes for path in laid.inputs.values())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=decoded + SPARE_BYTES - 1))
    with pytest.raises(OutputError, match="has not the room") as told:
        lay_out_training(partial(open_data, data, TASK), folder, held_out=0.1, seed=0, tell=ignore)
    figures = "decoded it takes 41.0 kB, and 67.1 MB are kept for checkpoints; 67.1 MB are free"
    assert told.value.why == figures
    assert not folder.exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=decoded + SPARE_BYTES))
    assert lay_out_training(partial(open_data, data, TASK), folder, held_out=0.1, seed=0, tell=ignore).fit == laid.fit
