"""Sources that cannot be compiled: exit code 6, node and reason named, and nothing under a final name."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.cli.calling import Call, make_call
from tests.models.onnx_files import constant, node, value, write_conv_net, write_onnx

Write = Callable[[Path], Path]
X, Y = value("x", [2]), value("y", [2])


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    return make_call(capfd)


def with_node(one: onnx.NodeProto, opset: int = 18) -> Write:
    return lambda path: write_onnx(path, [one], [X], [Y], opset=opset)


def cyclic(path: Path) -> Path:
    nodes = [node("Add", ["x", "b"], ["a"], "first"), node("Relu", ["a"], ["b"], "second")]
    return write_onnx(path, [*nodes, node("Relu", ["b"], ["y"], "last")], [X], [Y])


def twice_the_same_tensor(path: Path) -> Path:
    return write_onnx(path, [node("Relu", ["x"], ["y"], "a"), node("Neg", ["x"], ["y"], "b")], [X], [Y])


def reads_nothing(path: Path) -> Path:
    return write_onnx(path, [node("Relu", ["absent"], ["y"], "r")], [X], [Y])


def weights_that_miss(path: Path) -> Path:
    write_conv_net(path)
    onnx.save(onnx.load(path), str(path), save_as_external_data=True, location="w.data", size_threshold=0)
    (path.parent / "w.data").unlink()
    return path


def short_weights(path: Path) -> Path:
    write_conv_net(path)
    onnx.save(onnx.load(path), str(path), save_as_external_data=True, location="w.data", size_threshold=0)
    (path.parent / "w.data").write_bytes(b"1234")
    return path


def truncated(path: Path) -> Path:
    write_conv_net(path)
    path.write_bytes(path.read_bytes()[:-200])
    return path


BAD: dict[str, tuple[Write, str]] = {
    "unknown operator": (with_node(node("Mystery", ["x"], ["y"], "odd")), "Mystery"),
    "custom domain": (
        with_node(onnx.helper.make_node("Relu", ["x"], ["y"], name="odd", domain="com.example")),
        "com.example",
    ),
    "opset of the future": (with_node(node("Relu", ["x"], ["y"], "r"), opset=99), "99"),
    "cyclic": (cyclic, ""),
    "one tensor twice": (twice_the_same_tensor, "y"),
    "reads nothing": (reads_nothing, "absent"),
    "weights missing": (weights_that_miss, "w.data"),
    "weights too short": (short_weights, ""),
    "truncated": (truncated, ""),
    "wrong attribute": (with_node(node("Softmax", ["x"], ["y"], "soft", axis=7)), ""),
}


@pytest.mark.parametrize("name", BAD)
def test_unsupported(call: Call, tmp_path: Path, name: str) -> None:
    write, word = BAD[name]
    path = write(tmp_path / "m.onnx")
    result = call("compile", path, "--runtime", "onnxruntime", "-o", tmp_path / "out", "--timeout", "60")
    assert result.code == 6, result.err
    what, why, _ = result.error()
    assert word in what + why
    assert not list(tmp_path.glob("out/*"))


GOOD_FOR_SOME: dict[str, Write] = {
    "no node has a name": lambda path: write_onnx(
        path, [node("Relu", ["x"], ["a"]), node("Neg", ["a"], ["y"])], [X], [Y]
    ),
    "two of one name": lambda path: write_onnx(
        path, [node("Relu", ["x"], ["a"], "n"), node("Neg", ["a"], ["y"], "n")], [X], [Y]
    ),
    "double weights": lambda path: write_onnx(
        path,
        [node("Add", ["x", "w"], ["y"], "add")],
        [value("x", [2], "DOUBLE")],
        [value("y", [2], "DOUBLE")],
        [constant("w", [1, 2], np.float64)],
    ),
    "no elements": lambda path: write_onnx(
        path, [node("Relu", ["x"], ["y"], "r")], [value("x", [0, 2])], [value("y", [0, 2])]
    ),
    "old opset": lambda path: write_onnx(path, [node("Relu", ["x"], ["y"], "r")], [X], [Y], opset=7),
    "a branch": lambda path: write_onnx(path, [branch()], [X, value("c", [1], "BOOL")], [Y]),
}


def branch() -> onnx.NodeProto:
    then = onnx.helper.make_graph([node("Relu", ["x"], ["t"], "then")], "then", [], [value("t", [2])])
    other = onnx.helper.make_graph([node("Neg", ["x"], ["e"], "else")], "else", [], [value("e", [2])])
    return node("If", ["c"], ["y"], "if", then_branch=then, else_branch=other)


@pytest.mark.slow  # each compiles for seven runtimes, and torch is imported twice
@pytest.mark.parametrize("name", GOOD_FOR_SOME)
def test_right_or_rejected_with_its_node(call: Call, tmp_path: Path, name: str) -> None:
    """Each runtime either computes the same or reports the reason; no other result, no crash."""
    path = GOOD_FOR_SOME[name](tmp_path / "m.onnx")
    result = call("compile", path, "-o", tmp_path / "out", "--timeout", "100", "--json", *every_shape(name))
    assert result.code in (0, 2, 6), result.err
    if result.code == 2:
        assert result.error()
        return
    if result.out:
        for one in result.json()["artifacts"]:
            assert one["state"] == "ok" or (one["state"] == "unsupported" and one["reason"] and one["try_this"]), one
            assert (one["path"] is not None) == (one["state"] == "ok")
    else:
        assert result.error()


def every_shape(name: str) -> tuple[str, ...]:
    return ("--runtime", "onnxruntime,litert") if name == "no elements" else ()
