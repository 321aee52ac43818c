"""`edgewright split`: head and tail together are the model, and sides that do not answer as they should."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.api.field import split as module
from edgewright.api.field.profiles import ProfileRequest, SideProfile, ask_profile, profile_bytes
from edgewright.errors import DeviceUnreachable, UsageError
from tests.cli.calling import Call

SLOW = {"second", "third", "fourth", "fifth"}  # on the device

pytest.importorskip("highspy", reason="the solver needs the extra `place`")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A residual block: `a` is read by two nodes, and `small` is cheap to send. One node is unused."""
    weights = [numpy_helper.from_array(np.full((16, 16), 0.1, np.float32), "w")]
    weights.append(numpy_helper.from_array(np.linspace(-1, 1, 32, dtype=np.float32).reshape(16, 2), "v"))
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "first"),
        helper.make_node("Tanh", ["a"], ["b"], "second"),
        helper.make_node("Add", ["a", "b"], ["c"], "third"),
        helper.make_node("MatMul", ["c", "v"], ["small"], "fourth"),
        helper.make_node("Sigmoid", ["small"], ["y"], "fifth"),
        helper.make_node("Relu", ["b"], ["unused"], "unused"),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size]) for name, size in (("x", 16), ("y", 2))]
    graph = helper.make_graph(nodes, "block", ports[:1], ports[1:], weights)
    path = tmp_path / "block.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def make_profile(side: str, ms: float) -> SideProfile:
    layers = tuple(((name,), 1.0) for name in ("first", "second", "third", "fourth", "fifth"))
    return SideProfile(side=side, runtime="onnxruntime", threads=1, p50_us=ms * 1e3, layers=layers)


@pytest.mark.process
def test_head_and_tail_together_are_the_model(
    call: Call, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def profile(_: Path, request: ProfileRequest, side: str, **__: Any) -> SideProfile:
        names = ("first", "second", "third", "fourth", "fifth")
        layers = tuple(((one,), 100.0 if side == "local" and one in SLOW else 1.0) for one in names)
        total = sum(us for _, us in layers)
        return SideProfile(side=side, runtime=request.runtime, threads=1, p50_us=total * 1e3, layers=layers)

    monkeypatch.setattr(module, "profile_here", profile)
    done = call(
        "split", str(model), "--between", "local,pi", "--link", "1Mbit,1ms", "-o", str(tmp_path / "o"), "--json"
    )
    assert done.code == 0, done.err
    report = done.json()
    assert report["schema"] == "edgewright.split/1"
    assert (report["cut"], report["bytes"]) == (["a"], 64)
    assert report["cut"] in [one["tensors"] for one in report["cuts"]]
    assert [one["ms"] for one in report["cuts"]] == sorted(one["ms"] for one in report["cuts"])
    assert report["predicted_ms"] == min(one["ms"] for one in report["cuts"])
    assert report["sqnr_db"] >= 60
    head, tail, whole = (
        onnxruntime.InferenceSession(one, providers=["CPUExecutionProvider"])
        for one in (report["head"], report["tail"], str(model))
    )
    feeds = {"x": np.random.default_rng(0).normal(size=(1, 16)).astype(np.float32)}
    made = dict(zip([one.name for one in head.get_outputs()], head.run(None, feeds), strict=True))
    (found,) = tail.run(None, {one.name: made[one.name] for one in tail.get_inputs()})
    np.testing.assert_allclose(found, whole.run(None, feeds)[0], rtol=1e-5)
    assert (tmp_path / "o" / "block.split.json").is_file()


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (["--between", "local", "--link", "1Mbit"], "--between local"),
        (["--between", "local,pi", "--link", "fast"], "--link fast"),
        (["--between", "local,ftp://a", "--link", "1Mbit"], "starts with http"),
    ],
)
def test_arguments_that_do_not_fit(
    call: Call, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], text: str
) -> None:
    monkeypatch.setattr(module, "profile_here", lambda *_, **__: make_profile("local", 1.0))
    done = call("split", str(model), *given, "-o", str(tmp_path / "o"))
    assert done.code == 2
    assert text in done.err


@contextmanager
def serve(status: int, body: bytes) -> Iterator[str]:
    """A server that answers every request so."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_server_s_profile(model: Path) -> None:
    import msgspec

    with serve(200, msgspec.json.encode(make_profile("local", 2.0))) as url:
        found = ask_profile(model, ProfileRequest(), url)
    assert (found.side, found.p50_us) == (url, 2000.0)
    assert sum(found.time_nodes().values()) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, b'{"error": "a token is required"}', UsageError),
        (403, b"<html>", UsageError),
        (302, b"", UsageError),
        (200, b"[]", DeviceUnreachable),
        (200, b'{"side":"a","runtime":"b","threads":1,"p50_us":-1,"layers":[]}', DeviceUnreachable),
    ],
)
def test_other_answers_are_errors(model: Path, status: int, body: bytes, kind: type[Exception]) -> None:
    with serve(status, body) as url, pytest.raises(kind):
        ask_profile(model, ProfileRequest(), url)


def test_a_server_that_is_not_there(model: Path) -> None:
    with serve(200, b"") as url:
        pass
    with pytest.raises(DeviceUnreachable, match="does not answer"):
        ask_profile(model, ProfileRequest(), url)


@pytest.mark.parametrize("query", [{"threads": "x"}, {"processes": "1000"}, {"seconds": "1e9"}, {"threads": "0"}])
def test_a_query_that_would_keep_the_server_busy(query: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="query is not usable"):
        profile_bytes(b"", query)
