"""Weights are left where they lie: read in place, written once."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgewright.formats.onnx.weightless import map_file, strip_weights
from edgewright.runtimes.litert.writer import convert_onnx
from tests.models.onnx_files import node, value, weights, write_onnx

PEAK = """
import sys
import ai_edge_litert.schema_py_generated, onnx
from edgewright.runtimes.memory import read_resident_memory
from edgewright.runtimes.litert.writer import convert_onnx
convert_onnx(sys.argv[1], check="none")  # what loads late is loaded now
before = read_resident_memory().rss
convert_onnx(sys.argv[2], check="none")
print(read_resident_memory().peak - before)
"""


def write_layers(path: Path, count: int, size: int, *, external: bool = False) -> Path:
    names = [f"w{at}" for at in range(count)]
    values = ["x", *(f"h{at}" for at in range(count - 1)), "y"]
    nodes = [node("MatMul", [values[at], names[at]], [values[at + 1]], f"layer{at}") for at in range(count)]
    constants = [weights(name, size, size, seed=at) for at, name in enumerate(names)]
    write_onnx(path, nodes, [value("x", [1, size])], [value("y", None)], constants)
    if external:
        onnx.save(onnx.load(path), path, save_as_external_data=True, location=f"{path.name}.data")
    return path


def test_large_weights_are_views_of_the_file(tmp_path: Path) -> None:
    path = write_layers(tmp_path / "m.onnx", 2, 64)
    stripped = strip_weights(map_file(path))
    assert len(stripped.message) < 1000
    data = stripped.view("w1", np.dtype("<f4"), (64, 64))
    assert data is not None
    assert np.array_equal(data, numpy_helper.to_array(weights("w1", 64, 64, seed=1)))
    onnx.ModelProto.FromString(stripped.message)


@pytest.mark.parametrize("cut", [3, 50, 2000])
def test_a_message_that_is_cut_off_is_left_whole(tmp_path: Path, cut: int) -> None:
    data = write_layers(tmp_path / "m.onnx", 2, 64).read_bytes()[:-cut]
    assert strip_weights(memoryview(data)).message == data


def test_weights_inside_and_beside_the_file_give_the_same_bytes(tmp_path: Path) -> None:
    inside = convert_onnx(write_layers(tmp_path / "a.onnx", 2, 64)).data
    assert convert_onnx(write_layers(tmp_path / "b.onnx", 2, 64, external=True)).data == inside


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
@pytest.mark.parametrize("external", [False, True])
def test_weights_lie_in_memory_less_than_twice(tmp_path: Path, external: bool) -> None:
    small = write_layers(tmp_path / "small.onnx", 1, 64)
    large = write_layers(tmp_path / "large.onnx", 8, 1024, external=external)
    size = 8 * 1024 * 1024 * 4
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(small), str(large)], capture_output=True, text=True, check=True
    )
    assert size < int(done.stdout) < 1.9 * size
