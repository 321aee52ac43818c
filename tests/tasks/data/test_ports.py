"""Between a source's arrays and an artifact's: there and back."""

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.errors import ModelUnreadable
from edgewright.schema.artifact import IoMap, Port
from edgewright.schema.model import Quantization
from edgewright.tasks.data.ports import feed_artifact, read_artifact_outputs
from tests.models.artifact_records import make_port


def both(port: Port) -> IoMap:
    return IoMap(inputs=(port,), outputs=(port,))


@given(st.lists(st.integers(1, 4), max_size=5), st.randoms(use_true_random=False), st.booleans())
def test_there_and_back(shape: list[int], random: Random, stacked: bool) -> None:
    axes = list(range(len(shape)))
    random.shuffle(axes)
    port = make_port(tuple(shape), tuple(axes))
    array = np.arange(np.prod([2, *shape]), dtype=np.float32).reshape(2, *shape)
    values = array if stacked else array[0]
    own = feed_artifact({"x": values}, both(port), stacked=stacked)
    assert own["in0"].shape == (2,) * stacked + port.shape
    back = read_artifact_outputs(own, both(port), stacked=stacked)
    np.testing.assert_array_equal(back["x"], values)
    assert back["x"].dtype == np.float32


def test_channels_last() -> None:
    array = np.random.default_rng(0).standard_normal((1, 3, 4, 5)).astype(np.float32)
    own = feed_artifact({"x": array}, both(make_port()))["in0"]
    np.testing.assert_array_equal(own, np.moveaxis(array, 1, -1))
    assert own.flags.c_contiguous


def test_a_dropped_batch_comes_back() -> None:
    array = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    port = make_port((1, 3, 4), (0, 1, 2), own=(3, 4))
    own = feed_artifact({"x": array}, both(port))
    assert own["in0"].shape == (3, 4)
    np.testing.assert_array_equal(read_artifact_outputs(own, both(port))["x"], array)


def test_a_size_that_only_a_run_shows_is_taken_as_it_comes() -> None:
    port = make_port((-1, 2), (0, 1))
    given = np.ones((7, 2), np.float32)
    assert read_artifact_outputs({"in0": given}, both(port))["x"].shape == (7, 2)


def test_several_dynamic_sizes_are_those_of_the_array() -> None:
    port = make_port((1, -1, -1, 3), (0, 1, 2, 3))
    array = np.arange(36, dtype=np.float32).reshape(1, 4, 3, 3)
    own = feed_artifact({"x": array}, both(port))
    np.testing.assert_array_equal(own["in0"], array)
    np.testing.assert_array_equal(read_artifact_outputs(own, both(port))["x"], array)
    stack = feed_artifact({"x": array[np.newaxis]}, both(port), stacked=True)
    np.testing.assert_array_equal(stack["in0"][0], array)


@pytest.mark.parametrize(
    "port",
    [make_port(own=(3, 4, 1 << 40)), make_port((1, 3, 4, 1 << 40)), make_port((3, 4), (1, 0))],
    ids=["own-shape", "shape", "rank"],
)
def test_a_record_that_says_something_else_than_its_artifact(port: Port) -> None:
    for feeds in ({"x": np.ones((1, 3, 4, 5), np.float32)}, {}):
        with pytest.raises(ModelUnreadable, match="does not match its record"):
            feed_artifact(feeds, both(port))
    for taken in ({"in0": np.ones((1, 4, 5, 2), np.float32)}, {"in0": np.full((1, 4, 5, 3), "a")}, {}):
        with pytest.raises(ModelUnreadable, match="does not match its record"):
            read_artifact_outputs(taken, both(port))


def test_integers_narrow_and_widen() -> None:
    port = Port(
        source="ids", name="i", source_shape=(1, 2), source_dtype="int64", axes=(0, 1), shape=(1, 2), dtype="int32"
    )
    own = feed_artifact({"ids": np.array([[5, -3]])}, both(port))
    assert own["i"].dtype == np.int32
    assert read_artifact_outputs(own, both(port))["ids"].dtype == np.int64


@pytest.mark.parametrize(("value", "stored"), [(0.0, -10), (1.0, -6), (0.13, -9), (100.0, 127), (-100.0, -128)])
def test_quantized_inputs_are_stored_by_scale_and_zero_point(value: float, stored: int) -> None:
    port = make_port((1,), (0,), dtype="int8", quantization=Quantization(scale=0.25, zero_point=-10))
    own = feed_artifact({"x": np.array([value], np.float32)}, both(port))["in0"]
    assert own.dtype == np.int8
    assert own.tolist() == [stored]


def test_quantized_outputs_come_back_as_real_values() -> None:
    port = make_port((2,), (0,), dtype="uint8", quantization=Quantization(scale=0.5, zero_point=128))
    back = read_artifact_outputs({"in0": np.array([128, 130], np.uint8)}, both(port))["x"]
    assert back.tolist() == [0.0, 1.0]
    assert back.dtype == np.float32
