"""The benchmarks' model suite: its two smallest models twice, and what must hold of every entry."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks.suite.table import ENTRIES, Entry, find_entry
from tests.paths import ROOT

SUITE = ROOT / "benchmarks" / "suite"
SMALLEST = ("espcn", "gru")

needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
needs_export = pytest.mark.skipif(
    find_spec("torch") is None or find_spec("onnxscript") is None, reason="torch or onnxscript is not installed"
)


def test_names_are_unique_and_every_family_has_its_module() -> None:
    assert len({entry.name for entry in ENTRIES}) == len(ENTRIES) >= 17
    assert all((SUITE / f"{entry.family}.py").is_file() for entry in ENTRIES)


def test_unknown_name_reports_the_known_ones() -> None:
    with pytest.raises(KeyError, match="resnet18"):
        find_entry("resnet19")


@needs_export
@pytest.mark.parametrize("name", SMALLEST)
@pytest.mark.filterwarnings("default")  # torch warns of itself
def test_same_bytes_at_every_export(name: str, tmp_path: Path) -> None:
    first, second = export(find_entry(name), tmp_path / "a.onnx"), export(find_entry(name), tmp_path / "b.onnx")
    assert first == second
    assert str(SUITE.parents[1]).encode() not in first


@needs_torch
@pytest.mark.parametrize("name", SMALLEST)
@pytest.mark.filterwarnings("default")  # torch warns of itself
def test_outputs_are_sound_and_depend_on_the_inputs(name: str) -> None:
    import torch

    from benchmarks.suite.settle import build_model, make_inputs

    entry = find_entry(name)
    model = build_model(entry)
    with torch.no_grad():
        one, other = (np.asarray(model(*make_inputs(entry, 1, seed=seed))) for seed in (2, 3))
    assert np.isfinite(one).all()
    assert 0.3 < one.std() < 3
    assert np.abs(one - other).mean() > 0.1 * one.std()


@needs_export
@pytest.mark.filterwarnings("default")  # torch warns of itself
def test_a_file_that_computes_something_else_is_rejected(tmp_path: Path) -> None:
    from benchmarks.suite.export import NotEqualError, check
    from benchmarks.suite.settle import build_model, make_inputs

    entry = find_entry("gru")
    export(entry, tmp_path / "a.onnx")
    graph = onnx.load(tmp_path / "a.onnx")
    bias = next(array for array in graph.graph.initializer if array.name.endswith("head.bias"))
    bias.CopyFrom(onnx.numpy_helper.from_array(np.ones(32, np.float32) * np.arange(32, dtype=np.float32), bias.name))
    onnx.save(graph, tmp_path / "b.onnx")
    with pytest.raises(NotEqualError, match="max abs"):
        check(build_model(entry), make_inputs(entry, 1, seed=2), ["features"], tmp_path / "b.onnx")


def export(entry: Entry, path: Path) -> bytes:
    from benchmarks.suite.export import export_onnx
    from benchmarks.suite.settle import build_model

    export_onnx(entry, build_model(entry), path, torchscript=False)
    return path.read_bytes()
