"""The notebook of the examples runs. Slow: it trains, exports, converts, quantizes and measures a torch network."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
CHECKS = """
assert quantized.verdict == evaluated.rows[0].state.replace("done", "ok") == "ok"
assert evaluated.rows[1].metric.value > 0.8
assert compared.comparisons[0].ratio > 0
assert (logits.argmax(axis=1) == labels[300:305].numpy()).mean() >= 0.8
assert all(Path(name).stat().st_size > 10_000 for name in ("quantization.html", "benchmark.html"))
"""


def test_from_a_torch_module_to_a_report(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    pytest.importorskip("ai_edge_litert", reason="litert is not installed")
    notebook = json.loads((ROOT / "examples" / "from_torch.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(word in cell for cell in cells for word in ("subprocess", "!", "%"))  # by the API alone
    script = "\n\n".join([*cells, CHECKS])
    # Threads that wait for each other actively are slow on a busy machine.
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
