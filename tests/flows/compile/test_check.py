"""The numerical check fails artifacts that are wrong only for some values."""

import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.bench.numerics import compare_outputs, find_faults
from edgewright.devices.connection import start_worker
from edgewright.devices.local import LocalDevice
from edgewright.errors import WorkerError
from edgewright.flows.compile.check import FILLED_MEMORY, check_reference
from edgewright.flows.compile.reference import CheckReference, make_reference
from edgewright.flows.compile.sources import prepare_file
from edgewright.schema.plan import CompilePlan
from tests.models.onnx_files import constant, node, value, weights, write_onnx

Wrong = Callable[[Any], Any]


@pytest.fixture(scope="module")
def device() -> Iterator[LocalDevice]:
    device = LocalDevice()
    yield device
    device.close()


def refer(path: Path, device: LocalDevice, samples: int = 8) -> CheckReference:
    prepared = prepare_file(path, {}, path.parent)
    return make_reference(prepared, CompilePlan(source=str(path), cells=(), samples=samples), device)


def find_wrong_kinds(reference: CheckReference, wrong: Wrong) -> set[str]:
    """Return the kinds of the samples on which a wrong artifact fails, each compared alone."""
    outputs = {"y": np.stack([wrong(x) for x in reference.stack["x"]])}
    found = set()
    for i, kind in enumerate(reference.kinds):
        a, b = ({name: array[i : i + 1] for name, array in one.items()} for one in (reference.outputs, outputs))
        if find_faults(compare_outputs(a, b, None), "fp32"):
            found.add(kind)
    numerics = compare_outputs(reference.outputs, outputs, 0, reference.kinds)
    assert bool(find_faults(numerics, "fp32")) == bool(found)
    return found


def softplus(x: Any) -> Any:
    """Return a softplus whose exponential is clamped."""
    return np.log1p(np.exp(np.minimum(x.astype(np.float64), 30))).astype(np.float32)


def round_away(x: Any) -> Any:
    return np.trunc(x + np.copysign(0.5, x)).astype(np.float32)


@pytest.mark.parametrize(("op", "wrong", "kind"), [("Softplus", softplus, "large"), ("Round", round_away, "exact")])
def test_wrong_for_unusual_floats(op: str, wrong: Wrong, kind: str, tmp_path: Path, device: LocalDevice) -> None:
    path = write_onnx(tmp_path / "m.onnx", [node(op, ["x"], ["y"])], [value("x", [2, 64])], [value("y", [2, 64])])
    assert find_wrong_kinds(refer(path, device), wrong) == {kind}


def test_wrong_for_higher_rows(tmp_path: Path, device: LocalDevice) -> None:
    nodes, table = [node("Gather", ["table", "x"], ["y"])], weights("table", 20, 3)
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [1, 4], "INT64")], [value("y", [1, 4, 3])], [table])
    rows = np.frombuffer(table.raw_data, np.float32).reshape(20, 3)
    reference = refer(path, device)
    assert reference.kinds == (*["plain"] * 7, "negative")
    assert "plain" in find_wrong_kinds(reference, lambda x: rows[np.clip(x, 0, 1)])
    assert find_wrong_kinds(reference, lambda x: rows[x]) == set()
    assert find_wrong_kinds(reference, lambda x: rows[np.maximum(x, 0)]) == {"negative"}


def test_wrong_for_large_integers(tmp_path: Path, device: LocalDevice) -> None:
    nodes, three = [node("Add", ["x", "three"], ["y"])], constant("three", 3, np.int64)
    inputs, outputs = [value("x", [1, 8], "INT64")], [value("y", [1, 8], "INT64")]
    path = write_onnx(tmp_path / "m.onnx", nodes, inputs, outputs, [three])
    wrong = find_wrong_kinds(refer(path, device), lambda x: (x + 3).astype(np.int32).astype(np.int64))
    assert wrong == {"beyond-31-bits"}


def test_samples_that_overflow_in_the_source_are_replaced(tmp_path: Path, device: LocalDevice) -> None:
    nodes = [node("Exp", ["x"], ["e"]), node("Exp", ["e"], ["y"])]
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [2, 64])], [value("y", [2, 64])])
    reference = refer(path, device)
    assert len(reference.kinds) == 8
    assert "large" not in reference.kinds
    assert find_wrong_kinds(reference, lambda x: np.exp(np.exp(x))) == set()


def test_random_outputs_are_not_compared(tmp_path: Path, device: LocalDevice) -> None:
    nodes = [node("RandomNormalLike", ["x"], ["r"], "noise"), node("Add", ["x", "r"], ["a"])]
    nodes.append(node("Relu", ["x"], ["y"]))
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [2, 3])], [value("a", [2, 3]), value("y", [2, 3])])
    reference = refer(path, device, samples=2)
    check_reference(reference.outputs)
    assert list(reference.outputs) == ["y"]
    assert reference.shapes == {"a": (2, 3), "y": (2, 3)}
    assert "output 'a' was not compared" in reference.notes[0]
    assert "RandomNormalLike 'noise'" in reference.notes[0]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc fills allocated memory")
def test_memory_that_nobody_wrote_is_filled(tmp_path: Path) -> None:
    script = "import ctypes; p = ctypes.CDLL(None).malloc; p.restype = ctypes.c_void_p; "
    script += "print(ctypes.string_at(p(4096), 4096).hex(), flush=True)"
    for variables, filled in ((FILLED_MEMORY, True), ({}, False)):
        with pytest.raises(WorkerError) as caught:
            start_worker([sys.executable, "-c", script], "pretend", 60.0, tmp_path / "log", (), variables)
        assert ("5a" * 20 in str(caught.value)) == filled
