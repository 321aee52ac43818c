"""The other kernels: known values, bad input, and that the check notices a wrong kernel."""

import json
from typing import Any

import numpy as np
import pytest

from edgewright.cli.app import run
from edgewright.kernels import numpy_kernels, operations
from edgewright.kernels.build import find_compiler
from edgewright.kernels.catalog import KERNELS
from edgewright.kernels.checks import preprocessing
from edgewright.kernels.checks.run import CHECKS, check_kernels
from edgewright.kernels.library import list_usable

with_compiler = pytest.mark.skipif(find_compiler() is None, reason="there is no C compiler")


@pytest.mark.parametrize("isa", list_usable())
def test_known_values(isa: str) -> None:
    values = np.array([-4, -1, 0, 1, 7], np.float32)
    np.testing.assert_array_equal(operations.relu6(values, isa), [0, 0, 0, 1, 6])
    np.testing.assert_allclose(operations.hardswish(values, isa), [0, -1 / 3, 0, 2 / 3, 7], atol=1e-6)
    np.testing.assert_allclose(operations.gelu(values, isa), [-0.000127, -0.158655, 0, 0.841345, 7], atol=1e-6)
    np.testing.assert_allclose(operations.softmax(values, isa).sum(), 1, atol=1e-6)
    np.testing.assert_array_equal(operations.topk(values, 2, isa), [4, 3])
    assert operations.argmax(values, isa) == 4
    np.testing.assert_array_equal(operations.quantize(values, 0.5, 1, isa), [-7, -1, 1, 3, 15])
    np.testing.assert_array_equal(operations.dequantize(np.array([-7, 15], np.int8), 0.5, 1, isa), [-4, 7])
    np.testing.assert_array_equal(operations.unpack_int4(np.array([0x8F, 0x07], np.uint8), 3, isa), [-1, -8, 7])
    boxes = np.array([[0, 0, 10, 10], [1, 1, 10, 10], [20, 0, 30, 10]], np.float32)
    np.testing.assert_array_equal(operations.nms(boxes, np.array([0.5, 0.9, 0.7], np.float32), 0.5, isa=isa), [1, 2])
    matrix = np.array([[1, 2], [-128, 127]], np.int8)
    np.testing.assert_array_equal(operations.matvec_int8(matrix, np.array([-128, -128], np.int8), isa), [-384, 128])
    sizes, first, last = np.array([100, 64, 10]), np.array([0, 1, 2]), np.array([1, 2, 3])
    offsets, total = operations.plan_pool(sizes, first, last, 64, isa)
    assert (offsets.tolist(), total) == ([0, 128, 0], 192)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        operations.unpack_int4(np.zeros(2, np.uint8), 5)
    with pytest.raises(ValueError, match="boxes are"):
        operations.nms(np.zeros((3, 4), np.float32), np.zeros(2, np.float32), 0.5)
    with pytest.raises(ValueError, match="cannot be kept"):
        operations.nms(np.zeros((3, 4), np.float32), np.zeros(3, np.float32), 0.5, most=-1)
    one = np.array([1])
    for sizes, align in ((one, 48), (one, 0), (-one, 64), (np.array([1, 2]), 64)):
        with pytest.raises(ValueError, match="a pool needs"):
            operations.plan_pool(sizes, one, one, align)
    with pytest.raises(ValueError, match="the matrix is"):
        operations.matvec_int8(np.zeros((3, 4), np.int8), np.zeros(3, np.int8))


def test_every_kernel_has_a_check() -> None:
    assert [kernel.name for kernel in KERNELS] == list(CHECKS)


@with_compiler
@pytest.mark.parametrize("name", list(CHECKS))
def test_the_check_notices_a_wrong_kernel(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference changes instead of the kernel: far over one gray level, or in one value."""
    if name.startswith("preprocess"):
        monkeypatch.setattr(
            preprocessing, preprocessing.compute_reference.__name__, lambda case, spec: np.zeros(spec.shape, spec.dtype)
        )
    else:
        reference = getattr(numpy_kernels, name.replace("-", "_"))
        monkeypatch.setattr(numpy_kernels, name.replace("-", "_"), lambda *given: _change(reference(*given)))
    done = check_kernels(shapes=12)
    assert name in {failure.kernel for failure in done.failures}


def _change(result: Any) -> Any:
    if isinstance(result, tuple):
        return result[0], result[1] + 1
    return result + 1 if isinstance(result, int) else np.append(result[..., :-1], result[..., -1:] + 1, axis=-1)


@with_compiler
def test_a_difference_has_its_exit_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(numpy_kernels, "argmax", lambda values: -2)
    assert run(["kernels", "check", "--shapes", "5", "--json"]) == 1
    out, err = capsys.readouterr()
    done = json.loads(out)
    assert done["failed"] == 5
    assert {one["kernel"] for one in done["failures"]} == {"argmax"}
    assert "argmax" in err


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["kernels", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["kernels"]
    selected = [row["name"] for row in rows if row["selected"]]
    assert selected == [kernel.name for kernel in KERNELS]
    assert all(row["usable"] for row in rows if row["selected"])
