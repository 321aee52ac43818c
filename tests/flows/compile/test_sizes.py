"""One compile for several sizes of the inputs: names, the set file, and commands on it."""

from pathlib import Path

import msgspec
import numpy as np
import onnxruntime
import pytest

from edgewright.errors import UsageError
from edgewright.flows.compile.sizes import expand_sizes, name_sizes
from edgewright.flows.evaluate import inference
from tests.cli.calling import Call, make_call
from tests.models.onnx_files import node, value, weights, write_onnx

DATA = """
import numpy as np

def samples():
    return [(np.full((3, 4, width), i, np.float32), i % 2) for i, width in enumerate((8, 16))]
"""
TASK = """
schema = "edgewright.task/1"
name = "widths"
metric = "top1"
[[inputs]]
kind = "tensor"
name = "x"
[output]
kind = "classification"
"""


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    return make_call(capfd)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """x float32[1,3,4,w] → Conv, GlobalAveragePool, Flatten → y float32[1,5]."""
    nodes = [
        node("Conv", ["x", "k"], ["c"], "conv", pads=[1, 1, 1, 1]),
        node("GlobalAveragePool", ["c"], ["p"], "pool"),
        node("Flatten", ["p"], ["y"], "flatten"),
    ]
    return write_onnx(
        tmp_path / "m.onnx", nodes, [value("x", (1, 3, 4, "w"))], [value("y", (1, 5))], [weights("k", 5, 3, 3, 3)]
    )


def axes(*sizes: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    return sizes


def test_alternatives_go_together_by_their_position() -> None:
    given = [("ids", axes((1,), (64, 128))), ("mask", axes((1,), (64, 128)))]
    sizes = expand_sizes(given)
    assert sizes == ({"ids": (1, 64), "mask": (1, 64)}, {"ids": (1, 128), "mask": (1, 128)})
    assert name_sizes(sizes) == ["64", "128"]
    sizes = expand_sizes([("x", axes((1,), (48, 48, 64), (160, 320, 320)))])
    assert name_sizes(sizes) == ["48x160", "48x320", "64x320"]
    assert expand_sizes([("x", axes((1,), (8,)))]) == ({"x": (1, 8)},)
    assert expand_sizes([]) == ({},)


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        (axes((1, 2), (1, 2, 3)), "an axis with 2 sizes and another one with 3"),
        (axes(tuple(range(1, 34))), "33 sizes"),
        (axes((1, 1)), "the same sizes twice"),
    ],
)
def test_alternatives_that_cannot_be_compiled(shape: tuple[tuple[int, ...], ...], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        expand_sizes([("x", shape)])


def test_one_artifact_for_each_size_and_one_set(
    call: Call, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "o"
    made = call("compile", model, "--shape", "x=1,3,4,8|16", "--runtime", "ort", "-o", out, "--json").json()
    assert [(one["state"], one["shapes"], Path(one["path"]).name) for one in made["artifacts"]] == [
        ("ok", {"x": [1, 3, 4, 8]}, "m-8-onnxruntime-fp32.onnx"),
        ("ok", {"x": [1, 3, 4, 16]}, "m-16-onnxruntime-fp32.onnx"),
    ]
    assert all(one["numerics"]["sqnr_db"] > 60 for one in made["artifacts"])
    path = out / "m-onnxruntime-fp32.set.json"
    size = sum(one["bytes"] for one in made["artifacts"])
    assert made["sets"] == [
        {"runtime": "onnxruntime", "precision": "fp32", "path": str(path), "artifacts": 2, "bytes": size}
    ]
    assert msgspec.json.decode(path.read_bytes())["source_sha256"] == made["source_sha256"]

    values = np.random.default_rng(0).standard_normal((1, 3, 4, 16)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=values)
    assert call("invoke", path, "--inputs", tmp_path / "x.npz", "-o", tmp_path / "y.npz").code == 0
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    with np.load(tmp_path / "y.npz") as found:
        np.testing.assert_allclose(found["y"], session.run(None, {"x": values})[0], rtol=1e-5, atol=1e-6)
    np.savez(tmp_path / "x9.npz", x=values[..., :9])
    failed = call("invoke", path, "--inputs", tmp_path / "x9.npz", "-o", tmp_path / "y.npz")
    assert failed.code == 2
    assert failed.error()[1] == "it has artifacts for x=1,3,4,8; x=1,3,4,16"

    for given, names in (
        ((), ["m-8-onnxruntime-fp32.onnx", "m-16-onnxruntime-fp32.onnx"]),
        (("--shape", "x=1,3,4,16"), ["m-16-onnxruntime-fp32.onnx"]),
        (("--inputs", tmp_path / "x.npz"), ["m-16-onnxruntime-fp32.onnx"]),
    ):
        plan = call("benchmark", path, *given, "--dry-run").json()
        assert [Path(one["model"]).name for one in plan["candidates"]] == names

    (tmp_path / "data.py").write_text(DATA, encoding="utf-8")
    (tmp_path / "task.toml").write_text(TASK, encoding="utf-8")
    monkeypatch.setattr(inference, "MAX_LOADED", 1)
    words = ("--task", tmp_path / "task.toml", "--data", f"{tmp_path}/data.py:samples")
    source, chosen = call("evaluate", model, path, *words, "--json").json()["results"]
    assert (chosen["evaluated"], chosen["agreement"]["value"]) == (2, 1.0)
    assert (chosen["metric"], source["state"], chosen["state"]) == (source["metric"], "done", "done")
    assert chosen["sqnr_db"] > 60


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--shape", "x=1,3,4,8|"), "is not NAME=SIZES"),
        (("--shape", "x=1,3,4,8|0"), "is not NAME=SIZES"),
        (("--shape", "x=1,3|4,4,8|9|10"), "an axis with 2 sizes and another one with 3"),
        (("--shape", "x=1,3,4,8|9", "--inputs", "x.npz"), "--inputs cannot be used with several sizes"),
        (("--shape", "x=1|2,3,4"), "does not fit the model"),
    ],
)
def test_wrong_uses(call: Call, model: Path, tmp_path: Path, words: tuple[str, ...], text: str) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((1, 3, 4, 8), np.float32))
    given = [str(tmp_path / word) if word.endswith(".npz") else word for word in words]
    result = call("compile", model, "--runtime", "ort", "-o", tmp_path / "o", *given)
    assert (result.code, text in result.error()[0]) == (2, True), result.err
    assert not list((tmp_path / "o").glob("m*"))
