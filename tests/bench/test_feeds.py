"""Inputs: made from a seed, or the user's own, and what is said when they do not fit."""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgewright.bench.feeds import check_size, make_feeds, read_feeds, resolve_shapes, write_feeds
from edgewright.cli.parse import SHAPE
from edgewright.errors import InputError, LimitReached
from edgewright.schema.model import Signature, TensorSpec


def signature(**inputs: tuple[str, tuple[int | str, ...]]) -> Signature:
    specs = tuple(TensorSpec(name=name, dtype=dtype, shape=shape) for name, (dtype, shape) in inputs.items())
    return Signature(inputs=specs, outputs=())


ONE = signature(x=("float32", (2, 3)))


def catch_error(call: Any, *arguments: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        call(*arguments)
    assert caught.value.exit_code == 2
    return caught.value


# Shapes


def test_fixed_shapes_need_nothing() -> None:
    assert resolve_shapes(ONE, {}) == {"x": (2, 3)}
    assert resolve_shapes(ONE, {"x": [2, 3]}) == {"x": (2, 3)}
    assert resolve_shapes(signature(s=("float32", ())), {}) == {"s": ()}


@pytest.mark.parametrize("shape", [("N", 3, "", "W"), ("batch",), (1, "seq"), ("", "")])
def test_free_sizes_are_named_and_the_hint_works(shape: tuple[int | str, ...]) -> None:
    free = signature(image=("float32", shape))
    error = catch_error(resolve_shapes, free, {})
    assert "'image'" in error.what
    for size in shape:
        assert str(size) in error.what + error.why
    name, sizes = SHAPE.convert(error.try_this.removeprefix("set them with --shape "), None, None)
    fixed = resolve_shapes(free, {name: sizes})
    assert make_feeds(free, fixed, 0)["image"].shape == sizes


def test_a_default_of_the_file_is_taken_and_may_be_changed() -> None:
    spec = TensorSpec(name="x", dtype="float32", shape=("", 3), default_shape=(1, 3))
    own = Signature(inputs=(spec,), outputs=())
    assert resolve_shapes(own, {}) == {"x": (1, 3)}
    assert resolve_shapes(own, {"x": (4, 3)}) == {"x": (4, 3)}


def test_a_default_of_one_for_a_width_stands_for_no_size() -> None:
    """TFLite converters write 1 for every dynamic size; only for the batch is it a real one."""
    spec = TensorSpec(name="x", dtype="float32", shape=(1, "", "", 3), default_shape=(1, 1, 1, 3))
    own = Signature(inputs=(spec,), outputs=())
    assert catch_error(resolve_shapes, own, {}).try_this == "set them with --shape x=1,224,224,3"


def test_a_named_size_holds_for_all_inputs() -> None:
    own = signature(input=("float32", ("batch", 576)), state=("float32", (2, "batch", 128)))
    assert resolve_shapes(own, {"input": (3, 576)}) == {"input": (3, 576), "state": (2, 3, 128)}
    assert catch_error(resolve_shapes, own, {"input": (3, 5)}).what == "--shape input=3,5 does not fit the model"
    wide = signature(input=("float32", ("batch", 576)), state=("float32", (2, "batch", "n")))
    assert catch_error(resolve_shapes, wide, {"input": (3, 576)}).try_this == "set them with --shape state=2,3,128"
    assert catch_error(resolve_shapes, signature(state=("float32", (2, "batch", 128))), {}).try_this.endswith("2,1,128")


@pytest.mark.parametrize("given_shape", [(2,), (2, 3, 1), (2, 4), ()])
def test_contradictions(given_shape: tuple[int, ...]) -> None:
    assert "[2, 3]" in catch_error(resolve_shapes, ONE, {"x": given_shape}).why


# Made inputs


def test_made_inputs_are_seeded() -> None:
    dtypes = {"a": "float32", "b": "int8", "c": "int64", "d": "bool", "e": "float16"}
    wide = signature(**{name: (dtype, (50,)) for name, dtype in dtypes.items()})
    shapes = resolve_shapes(wide, {})
    once, again, other = make_feeds(wide, shapes, 1), make_feeds(wide, shapes, 1), make_feeds(wide, shapes, 2)
    for name, spec in zip("abcde", wide.inputs, strict=True):
        assert once[name].dtype.name == spec.dtype
        assert once[name].tobytes() == again[name].tobytes()
        assert once[name].tobytes() != other[name].tobytes()
    assert once["b"].min() < -64
    assert once["b"].max() > 64
    assert set(once["c"].tolist()) == {0, 1}
    assert set(once["d"].tolist()) == {True, False}


@pytest.mark.parametrize("dtype", ["str", "bfloat16", "unknown", "complex64", "int4"])
def test_what_cannot_be_made_up(dtype: str) -> None:
    error = catch_error(make_feeds, signature(x=(dtype, (1,))), {"x": (1,)}, 0)
    assert dtype in error.why + error.what
    assert "--inputs" in error.try_this


@pytest.mark.parametrize("shape", [(1 << 40,), (1 << 20, 1 << 20), (10**30,), (0, 10**30), (10**400,)])
def test_absurd_sizes(shape: tuple[int, ...]) -> None:
    with pytest.raises(LimitReached, match="memory limit reached"):
        make_feeds(signature(x=("int8", shape)), {"x": shape}, 0)


def test_too_many_axes() -> None:
    shape = (1,) * 65
    assert "65 axes" in catch_error(make_feeds, signature(x=("int8", shape)), {"x": shape}, 0).what


def test_inputs_are_counted_before_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEWRIGHT_MEMORY_LIMIT", "64MB")
    large = signature(x=("float32", (1, 25_000_000)))
    monkeypatch.setattr(np, "empty", None)  # nothing may be allocated
    with pytest.raises(LimitReached) as caught:
        make_feeds(large, {"x": (1, 25_000_000)}, 0)
    assert "100 MB is needed" in caught.value.why
    assert "EDGEWRIGHT_MEMORY_LIMIT=133MB" in caught.value.try_this
    half = signature(x=("float32", (1, 5_000_000)))
    check_size(half, {"x": (1, 5_000_000)}, 3)
    with pytest.raises(LimitReached, match="4 samples of the model's input") as caught:
        check_size(half, {"x": (1, 5_000_000)}, 4)
    assert caught.value.try_this.startswith("use --samples 1, or ")


def test_blocks_give_the_same_numbers_as_one_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgewright.bench.feeds.BLOCK", 7)
    own = signature(x=("float32", (3, 9)), y=("float64", (5,)), z=("int32", (4,)))
    made = make_feeds(own, {"x": (3, 9), "y": (5,), "z": (4,)}, 3)
    random = np.random.default_rng(3)
    assert np.array_equal(made["x"], random.standard_normal((3, 9)).astype("float32"))
    assert np.array_equal(made["y"], random.standard_normal(5))
    assert np.array_equal(made["z"], random.integers(0, 2, 4))


# The user's own


def write(path: Path, **arrays: Any) -> Path:
    np.savez(path, allow_pickle=True, **arrays)
    return path


def test_good_inputs(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert read_feeds(write(tmp_path / "i.npz", x=array), ONE)["x"].tolist() == array.tolist()


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"y": np.zeros((2, 3), np.float32)}, "has no array for input 'x'"),
        ({}, "has no array for input 'x'"),
        ({"x": np.zeros((2, 3), np.float32), "z": np.zeros(1)}, "'z' that is not an input"),
        ({"x": np.zeros((2, 3))}, "is float64"),
        ({"x": np.zeros((2, 3), np.int32)}, "is int32"),
        ({"x": np.zeros((3, 2), np.float32)}, "shape [3, 2]"),
        ({"x": np.zeros(6, np.float32)}, "shape [6]"),
        ({"x": np.array([object()])}, "not a readable .npz"),
    ],
)
def test_inputs_that_do_not_fit(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    assert words in catch_error(read_feeds, write(tmp_path / "i.npz", **arrays), ONE).what


def test_a_hint_names_the_cast(tmp_path: Path) -> None:
    assert "astype('float32')" in catch_error(read_feeds, write(tmp_path / "i.npz", x=np.zeros((2, 3))), ONE).try_this


def test_files_that_are_no_npz(tmp_path: Path) -> None:
    single = tmp_path / "single.npy"
    np.save(single, np.zeros((2, 3), np.float32))
    assert "a single array" in catch_error(read_feeds, single, ONE).why
    pickled = tmp_path / "pickled.npz"
    pickled.write_bytes(pickle.dumps({"x": 1}))
    assert "not a readable .npz" in catch_error(read_feeds, pickled, ONE).what
    empty = tmp_path / "empty.npz"
    empty.write_bytes(b"")
    assert "not a readable .npz" in catch_error(read_feeds, empty, ONE).what
    assert "not a readable .npz" in catch_error(read_feeds, tmp_path, ONE).what
    assert "file not found" in catch_error(read_feeds, tmp_path / "absent.npz", ONE).what


def test_a_header_with_an_absurd_size(tmp_path: Path) -> None:
    head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000000,), }"
    head += b" " * (117 - len(head)) + b"\n"
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head)
    path = tmp_path / "huge.npz"
    path.write_bytes(file.getvalue())
    assert "not a readable .npz" in catch_error(read_feeds, path, ONE).what


def zipped(compressed: bool) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, x=np.ones((2, 3), np.float32))
    return file.getvalue()


@pytest.mark.parametrize("compressed", [False, True])
def test_every_truncation(tmp_path: Path, compressed: bool) -> None:
    whole, path = zipped(compressed), tmp_path / "cut.npz"
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        catch_error(read_feeds, path, ONE)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(st.booleans(), st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), min_size=1, max_size=4))
def test_mutated_files(tmp_path: Path, compressed: bool, changes: list[tuple[int, int]]) -> None:
    data = bytearray(zipped(compressed))
    for place, value in changes:
        data[place % len(data)] = value
    path = tmp_path / "changed.npz"
    path.write_bytes(data)
    try:
        feeds = read_feeds(path, ONE)
    except InputError as error:
        assert error.why or error.what
    else:
        assert feeds["x"].shape == (2, 3)


@pytest.mark.parametrize("name", ["x", "file", "self", "allow_pickle", "a/b:0", "arr_0", "ünï", "x.npy"])
def test_any_name_can_be_written(tmp_path: Path, name: str) -> None:
    array = np.array([1.5, 2.5], np.float16)
    write_feeds(tmp_path / "f.npz", {name: array})
    with np.load(tmp_path / "f.npz", allow_pickle=False) as file:
        assert file.files == [name]
        assert file[name].tolist() == [1.5, 2.5]


def test_the_same_arrays_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_feeds(tmp_path / name, {"x": np.ones(3), "y": np.zeros((2, 2), bool)})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_text_can_be_fed(tmp_path: Path) -> None:
    words = signature(words=("str", ("N",)))
    assert read_feeds(write(tmp_path / "i.npz", words=np.array(["a", "b"])), words)["words"].tolist() == ["a", "b"]
