"""Typed graphs from TFLite files."""

from pathlib import Path
from typing import Any

import pytest

from edgewright.errors import InputError, ModelUnreadable
from edgewright.formats.costs import measure_costs
from edgewright.formats.tflite.reader import read_signature
from edgewright.formats.tflite.typed import read_tflite_graph
from tests.models.tflite_files import alter_tflite, write_convnet
from tests.paths import ROOT

DIGITS = ROOT / "tests" / "fixtures" / "digits"


@pytest.fixture(params=["digits.tflite", "digits_int8.tflite"])
def path(request: pytest.FixtureRequest) -> Path:
    return DIGITS / str(request.param)


def test_every_tensor_is_known(path: Path) -> None:
    graph = read_tflite_graph(path)
    assert graph.format == "tflite"
    assert graph.nodes
    assert all(kind.elements() is not None for kind in graph.tensors.values())
    assert set(graph.inputs) == {spec.name for spec in graph.signature.inputs}
    assert any(kind.stored for kind in graph.tensors.values())


def test_both_precisions_cost_the_same_work() -> None:
    whole, small = (measure_costs(read_tflite_graph(DIGITS / name)) for name in ("digits.tflite", "digits_int8.tflite"))
    assert whole.macs == small.macs
    assert whole.macs
    assert whole.parameters == small.parameters
    assert whole.weight_bytes > 2 * small.weight_bytes
    assert (whole.arena_bytes or 0) > 2 * (small.arena_bytes or 0)


def test_shapes(path: Path) -> None:
    (name,) = read_tflite_graph(path).inputs
    own = read_tflite_graph(path).shapes[name]
    assert read_tflite_graph(path, {name: [int(size) for size in own]}).shapes[name] == own
    with pytest.raises(InputError, match="no such input"):
        read_tflite_graph(path, {"absent": [1]})
    with pytest.raises(InputError, match="does not fit"):
        read_tflite_graph(path, {name: [7] * len(own)})


def test_a_truncated_file(path: Path, tmp_path: Path) -> None:
    cut = tmp_path / "m.tflite"
    cut.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ModelUnreadable):
        read_tflite_graph(cut)


def test_sizes_behind_free_ones_are_computed_or_unknown(tmp_path: Path) -> None:
    """TensorFlow stores 1 for them: the work of a picture is not that of one pixel."""
    source = write_convnet(tmp_path / "m.tflite")
    whole = measure_costs(read_tflite_graph(source)).macs

    def free(model: Any) -> None:
        for tensor in model.subgraphs[0].tensors:
            if model.buffers[tensor.buffer].data is None and len(tensor.shape) == 4:
                tensor.shapeSignature = [-1, -1, -1, tensor.shape[-1]]
                tensor.shape = [1, 1, 1, tensor.shape[-1]]

    alter_tflite(source, free)
    unknown = read_tflite_graph(source)
    assert unknown.shapes == {"x": (1, "", "", 3)}
    assert measure_costs(unknown).macs is None
    assert read_signature(source).inputs[0].default_shape is None  # a size must be given
    known = read_tflite_graph(source, {"x": (1, 8, 8, 3)})
    assert measure_costs(known).macs == whole
    assert known.assumed == ()
