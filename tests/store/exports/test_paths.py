"""What goes to others has no folders of the machine that made it."""

from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from edgewright.schema.run import RunWarning
from edgewright.store.exports.paths import strip_bytes, strip_folders, strip_text, strip_variables
from tests.contracts.sample_runs import begun_run, finished_run


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/alice/a/m.onnx is broken", "…/m.onnx is broken"),
        ("cannot open '/Users/alice/m.onnx'", "cannot open '…/m.onnx'"),
        ("in /home/alice", "in …"),
        ("~/models/m.onnx", "…/m.onnx"),
        (r"C:\Users\alice\m.onnx", "…/m.onnx"),
        ("D:/work/alice/m.onnx", "…/m.onnx"),
        (r"\\server\share\alice\m.onnx", "…/m.onnx"),
        ("/tmp/edgewright-x/0/m.onnx:12", "…/m.onnx:12"),
        ("PATH=/usr/alice/bin:/opt/alice/b", "PATH=…/bin:…/b"),
        ("node /conv1/Conv of layer4/1", "node /conv1/Conv of layer4/1"),
        ("https://example.org/home/page", "https://example.org/home/page"),
        ("1/2 and a / b", "1/2 and a / b"),
        ("…/m.onnx is broken", "…/m.onnx is broken"),
    ],
)
def test_texts(text: str, expected: str) -> None:
    assert strip_text(text, ()) == expected
    assert strip_text(expected, ()) == expected


def test_folders_of_this_machine_and_of_the_model() -> None:
    """Wherever they lie, and with spaces."""
    home = str(Path.home())
    run = finished_run(begun_run())
    assert run.model is not None
    run = replace(run, model=replace(run.model, path="/work of ann/m.onnx"), error=f"{home}/x y/a.so, /work of ann/z")
    bare = strip_folders(run)
    assert bare.model is not None
    assert bare.model.path == "m.onnx"
    assert "ann" not in (bare.error or "")
    assert strip_folders(bare) == bare


def test_every_field() -> None:
    run = finished_run(begun_run())
    plan = {
        **run.plan,
        "inputs": "/data/alice/i.npz",
        "data": "rel/alice/set",
        "weights": r"..\alice\w.pt",
        "source": "/data/alice/net.py:build",
        "recipe": "[[rule]]\nnodes = '/conv1/*'",
        "code": ["/data/alice/metrics.py:f1"],
        "options": {"library": "/home/alice/lib.so"},
    }
    run = replace(
        run,
        plan=plan,
        environment={"variables": {"OMP_TOOL_LIBRARIES": "/home/alice/a.so:/data/alice/b.so", "OMP_NUM_THREADS": "1"}},
        error="/home/alice/m.onnx",
        warnings=(RunWarning(code="x", text="see /home/alice/log"),),
    )
    bare = strip_folders(run)
    assert b"alice" not in msgspec.json.encode(bare)
    assert bare.environment["variables"] == {"OMP_TOOL_LIBRARIES": "…/a.so:…/b.so", "OMP_NUM_THREADS": "1"}
    assert (bare.plan["inputs"], bare.plan["source"], bare.plan["weights"]) == ("i.npz", "net.py:build", "w.pt")
    assert bare.plan["recipe"] == plan["recipe"]
    assert bare.plan["code"] == ["metrics.py:f1"]
    assert bare.layers == run.layers
    assert (bare.note, bare.tags) == (run.note, run.tags)


def test_outputs_of_ours_alone_are_changed() -> None:
    run = finished_run(begun_run())
    log = b'File "/home/alice/venv/lib/python3/x.py", line 3\xff'
    assert strip_bytes("log", log, run) == b'File "\xe2\x80\xa6/x.py", line 3\xff'
    assert strip_bytes("inputs", log, run) == strip_bytes("model", log, run) == log
    report = msgspec.json.encode({"source": "/data/alice/net.py:build", "nodes": ["/conv1/Conv"]})
    assert msgspec.json.decode(strip_bytes("prune", report, run)) == {
        "source": "net.py:build",
        "nodes": ["/conv1/Conv"],
    }
    record = msgspec.json.encode({"io_map": {"inputs": [{"source": "/conv1/Conv_output_0"}]}})
    assert strip_bytes("record", record, run) == record
    plain = b'{ "a": 1 }'
    assert strip_bytes("record", plain, run) == plain


def test_variables_that_are_none() -> None:
    assert strip_variables("x") == "x"
    assert strip_variables({"a": 5}) == {"a": 5}
