"""The JavaScript of web projects in node: equal to the reference of `edgewright.tasks`."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edgewright.packaging.contract import AppTensor
from edgewright.schema.arrays import Array
from edgewright.schema.artifact import Port
from edgewright.schema.model import Quantization
from edgewright.tasks.data.feeding import make_feeds
from edgewright.tasks.data.ports import to_artifact, to_source
from edgewright.tasks.metrics.detection import detect_objects
from edgewright.tasks.spec.task import AudioInput, Boxes, Classification, ImageInput, Input, Task, TokensInput
from tests.packaging.boxes import BOXES, make_box_outputs
from tests.packaging.pictures import make_cases
from tests.paths import ROOT

NODE = shutil.which("node")
LIBRARY = ROOT / "src/edgewright/packaging/web/project/edgewright"
pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed: apt-get install nodejs")
Run = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a command of library.mjs on cases and files, and return what it prints."""
    shutil.copytree(LIBRARY, tmp_path / "edgewright")
    (tmp_path / "package.json").write_text('{"type": "module"}')

    def call(command: str, cases: Any, **files: bytes) -> Any:
        (tmp_path / "cases.json").write_bytes(msgspec.json.encode(cases))
        for name, data in files.items():
            (tmp_path / f"{name}.bin").write_bytes(data)
        script = str(Path(__file__).with_name("library.mjs"))
        done = subprocess.run([str(NODE), script, str(tmp_path), command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return call


def test_inputs_are_equal_bit_for_bit(run: Run) -> None:
    """Pictures of odd sizes, gray and with alpha, in every orientation, and every rule of task.toml."""
    cases = make_cases(seed=23, count=300)
    assert sum(one.wanted is not None for one in cases) > 200
    rows = [one.describe() for one in cases]
    pixels = b"".join(one.picture.pixels.tobytes() for one in cases)
    inputs = b"".join(b"" if one.wanted is None else one.wanted.tobytes() for one in cases)
    assert run("pictures", rows, pixels=pixels, inputs=inputs) == []
    floats = [i for i, one in enumerate(cases) if one.spec.dtype.startswith("float") and one.wanted is not None]
    resized = next(
        i for i in floats[1:] if cases[i].spec.resize == "exact" and cases[i].spec.interpolation == "bicubic"
    )
    rows[floats[0]]["parameters"]["mean"] = [one + 1 for one in rows[floats[0]]["parameters"]["mean"]]
    rows[resized]["parameters"]["interpolation"] = "box"
    assert run("pictures", rows, pixels=pixels, inputs=inputs) == sorted({floats[0], resized})


def make_port(name: str, source: tuple[str, tuple[int, ...]], own: tuple[str, tuple[int, ...]], **more: Any) -> Port:
    axes = more.pop("axes", tuple(range(len(source[1]))))
    more |= {"source_dtype": source[0], "dtype": own[0], "axes": axes}
    return Port(source=name, name=f"own {name}", source_shape=source[1], shape=own[1], **more)


def describe_contract(pairs: list[tuple[Port, Input | None]]) -> dict[str, Any]:
    fields = AppTensor.__struct_fields__
    tensors = [AppTensor(**{name: getattr(port, name) for name in fields}) for port, _ in pairs]
    inputs = [{"tensor": tensor, "preprocessing": one} for tensor, (_, one) in zip(tensors, pairs, strict=True)]
    return {"inputs": inputs, "first_pass": "rows-if-tall"}


INT8 = Quantization(scale=0.0173, zero_point=-7)
GRAY = ImageInput(name="a", size=(7, 9), resize="exact", color="gray", mean=3.5, std=58.0)
AUDIO = AudioInput(name="a", sample_rate=16000, window=50, align="center", scale=0.7, mean=0.1, std=0.4)
TOKENS = TokensInput(name="a", length=6, pad=3, mask="mask", segments="segments", pad_side="left")
PORTS: list[tuple[Input, list[Port]]] = [
    (GRAY, [make_port("a", ("float32", (1, 1, 7, 9)), ("int8", (1, 1, 7, 9)), quantization=INT8)]),
    (GRAY, [make_port("a", ("float32", (1, 1, 7, 9)), ("float16", (1, 1, 7, 9)))]),
    (AUDIO, [make_port("a", ("float32", (1, 50)), ("float32", (50,)))]),
    (AUDIO, [make_port("a", ("float32", (1, 50)), ("int8", (1, 50)), quantization=INT8)]),
    (TOKENS, [make_port(name, ("int64", (1, 6)), ("int32", (1, 6))) for name in ("a", "mask", "segments")]),
]


def test_samples_become_the_tensors_of_the_artifact(run: Run) -> None:
    rng, cases = np.random.default_rng(5), []
    picture = rng.integers(0, 256, (13, 11), np.uint8)
    samples: dict[type, Any] = {
        ImageInput: picture,
        AudioInput: rng.uniform(-1, 1, 37),
        TokensInput: np.array([5, 9, 11, 2]),
    }
    frame = {"width": 11, "height": 13, "channels": 1, "data": picture.ravel().tolist()}
    for spec, ports in PORTS:
        contract = describe_contract([(port, spec if port.source == "a" else None) for port in ports])
        given = frame if isinstance(spec, ImageInput) else samples[type(spec)].tolist()
        cases.append({"contract": contract, "sample": {"a": given}})
    for found, (spec, ports) in zip(run("tensors", cases), PORTS, strict=True):
        feeds, _ = make_feeds({"a": samples[type(spec)]}, Task(inputs=(spec,), output=Classification()))
        for port in ports:
            assert found[port.name] == to_artifact(feeds[port.source], port).tobytes().hex()


def test_outputs_become_those_of_the_source_model(run: Run) -> None:
    rng = np.random.default_rng(6)
    ports = [
        make_port("y", ("float32", (1, 3, 4, 5)), ("float32", (1, 4, 5, 3)), axes=(0, 2, 3, 1)),
        make_port("y", ("float32", (1, 60)), ("int8", (60,)), quantization=INT8),
    ]
    arrays: list[Array] = [
        rng.normal(size=(1, 4, 5, 3)).astype(np.float32),
        rng.integers(-128, 128, 60).astype(np.int8),
    ]
    tensors = [AppTensor(**{name: getattr(port, name) for name in AppTensor.__struct_fields__}) for port in ports]
    cases = [{"tensor": one, "hex": array.tobytes().hex()} for one, array in zip(tensors, arrays, strict=True)]
    for port, array, found in zip(ports, arrays, run("sources", cases), strict=True):
        assert found == to_source(array, port).astype(np.float64).ravel().tolist()


def test_scores_become_classes(run: Run) -> None:
    scores = [-1.0, 3.0, 0.5, 3.0, -2.0]
    powers = np.exp(np.array(scores[1:]) - 3.0)
    answers = [
        (Classification(name="y", first_class=1, top_k=3), scores, ["b", "d", "c"], powers[[0, 2, 1]] / powers.sum()),
        (Classification(name="y", softmax=False, top_k=1), scores, ["b"], [3.0]),
        (Classification(name="y", top_k=2), [1.25], ["b", "a"], [1 / (1 + np.exp(-1.25)), 1 / (1 + np.exp(1.25))]),
    ]
    labels = ("a", "b", "c", "d", "e")
    cases = [
        {
            "contract": {"answer": answer, "labels": labels[answer.first_class :]},
            "outputs": {"y": {"shape": [1, len(values)], "values": values}},
        }
        for answer, values, _, _ in answers
    ]
    for found, (_, _, names, shares) in zip(run("answers", cases), answers, strict=True):
        assert [one["label"] for one in found["classes"]] == names
        np.testing.assert_allclose([one["score"] for one in found["classes"]], shares, rtol=1e-12)


def test_boxes_are_those_of_the_metric(run: Run) -> None:
    cases = []
    for answer in BOXES:
        outputs = make_box_outputs(answer)
        plain = {name: {"shape": array.shape, "values": array.ravel().tolist()} for name, array in outputs.items()}
        contract = {"answer": answer, "labels": []}
        cases.append({"contract": contract, "outputs": plain, "context": {"size": [64, 96]}})
    for found, answer in zip(run("answers", cases), BOXES, strict=True):
        corners, scores, classes = detect_objects(answer, make_box_outputs(answer), (64, 96))
        assert len(scores) > 3
        assert [one["index"] for one in found["boxes"]] == classes.tolist()
        np.testing.assert_allclose([one["score"] for one in found["boxes"]], scores, rtol=1e-12)
        np.testing.assert_allclose([one["corners"] for one in found["boxes"]], corners, rtol=1e-12)


def test_boxes_in_the_picture(run: Run) -> None:
    """Of a letterbox: a picture of 200 x 100 in an input of 64 x 64 has half of it, below 16 rows of padding."""
    answer = Boxes(boxes="y", score_threshold=0.5)
    plan = {"width": 200, "height": 100, "placement": {"width": 64, "height": 32, "left": 0, "top": -16}}
    outputs = {"y": {"shape": [1, 1, 5], "values": [16, 24, 32, 60, 0.9]}}
    context = {"size": [64, 64], "plan": plan}
    (found,) = run("answers", [{"contract": {"answer": answer, "labels": []}, "outputs": outputs, "context": context}])
    assert found["boxes"][0]["corners"] == [50, 25, 100, 100]


def test_other_answers(run: Run) -> None:
    contracts = [
        {"answer": {"kind": "embedding", "name": "y", "normalize": True}},
        {"answer": {"kind": "regression", "name": "y", "unit": "m"}},
        {"answer": {"kind": "next-token", "name": "y"}},
    ]
    outputs = {"y": {"shape": [1, 2, 2], "values": [3, 4, 0, 0]}}
    context = {"length": 1}
    cases = [{"contract": one, "outputs": outputs, "context": context} for one in contracts]
    embedding, regression, token = run("answers", cases)
    np.testing.assert_allclose(embedding["vector"], [0.6, 0.8, 0, 0])
    assert (regression["values"], regression["unit"]) == ([3, 4, 0, 0], "m")
    assert [one["id"] for one in token["tokens"]] == [1, 0]
