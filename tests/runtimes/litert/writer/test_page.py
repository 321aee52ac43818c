"""The page for those who come for this function alone: its examples run."""

import re
from pathlib import Path

import pytest

from tests.paths import ROOT


def test_the_examples_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "digits").symlink_to(ROOT / "src/edgewright/flows/digits")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/litert-writer.md").read_text(), re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(block, names)
    assert (tmp_path / "digits.tflite").stat().st_size > 10_000
