"""What lies in the current folder is data, never code."""

import os
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from tests.paths import ROOT

FIXTURES = ROOT / "tests" / "fixtures/digits"
NAMES = ("numpy.py", "signal.py", "queue.py", "msgspec.py", "onnxruntime.py")


@pytest.mark.parametrize("model", ["digits.onnx", "digits.tflite"])
def test_no_file_of_the_current_folder_is_run(model: str, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="the LiteRT model needs it")
    folder = FIXTURES if model.endswith(".tflite") else Path(str(files("edgewright.flows") / "digits"))
    shutil.copyfile(folder / model, tmp_path / model)
    for name in NAMES:
        (tmp_path / name).write_text("from pathlib import Path\nPath('ran').touch()\nraise SystemExit(9)\n")
    command = [sys.executable, "-P", "-m", "edgewright", "benchmark", model, "--processes", "1", "--json"]
    environ = {**os.environ, "EDGEWRIGHT_HOME": str(tmp_path / "home")}
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists()
    assert "layers-cut-out" not in done.stdout
