"""The check in a process of its own: what it finds, and what it survives."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from onnx import TensorProto, helper, save

from edgewright.errors import ModelRejected
from edgewright.runtimes.litert.writer import check, convert_onnx, onnx_to_litert
from edgewright.runtimes.litert.writer.check import CheckedFile, check_file
from edgewright.runtimes.litert.writer.trial import OutputDifference, TrialPort, TrialReport
from tests.models.onnx_files import constant, node, value, weights, write_conv_net, write_onnx


def make_subject(path: Path, data: bytes) -> CheckedFile:
    converted = convert_onnx(path, check="none")
    entries = [tuple(TrialPort(one.name, one.axes) for one in side) for side in (converted.inputs, converted.outputs)]
    return CheckedFile(data, path, "float", entries[0], entries[1], {}, ())


def write_scaled(path: Path, factor: float) -> Path:
    nodes = [node("Mul", ["x", "k"], ["y"], "scale")]
    return write_onnx(path, nodes, [value("x", [1, 4])], [value("y", [1, 4])], [constant("k", factor)])


def test_the_default_proves_the_numbers(tmp_path: Path) -> None:
    converted = convert_onnx(write_conv_net(tmp_path / "m.onnx"))
    assert converted.proof is not None
    assert converted.proof.sqnr_db is not None
    assert converted.proof.sqnr_db >= 80


def test_a_model_of_bytes_is_proven_too(tmp_path: Path) -> None:
    converted = convert_onnx(write_conv_net(tmp_path / "m.onnx").read_bytes())
    assert converted.proof is not None
    assert converted.proof.sqnr_db is not None


def test_the_check_may_be_smaller_or_left_out(tmp_path: Path) -> None:
    path = write_conv_net(tmp_path / "m.onnx")
    assert convert_onnx(path, check="none").proof is None
    loaded = convert_onnx(path, check="load").proof
    assert loaded is not None
    assert loaded.sqnr_db is None
    assert convert_onnx(path, check="none").data == onnx_to_litert(path, check="load")


def test_other_numbers_than_the_sources_are_rejected(tmp_path: Path) -> None:
    source, other = write_scaled(tmp_path / "a.onnx", 1.0), write_scaled(tmp_path / "b.onnx", 1.01)
    checked = make_subject(source, convert_onnx(other, check="none").data)
    with pytest.raises(ModelRejected, match=r"other values.*SQNR 40\.0 dB"):
        check_file(checked, "numbers")
    assert check_file(checked, "load").sqnr_db is None


def test_what_is_no_file_is_rejected(tmp_path: Path) -> None:
    source = write_scaled(tmp_path / "a.onnx", 1.0)
    with pytest.raises(ModelRejected, match="does not run"):
        check_file(make_subject(source, b"no such file" * 20), "numbers")


def test_a_process_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    source = write_scaled(tmp_path / "a.onnx", 1.0)
    checked = make_subject(source, convert_onnx(source, check="none").data)
    with pytest.raises(ModelRejected, match="did not end"):
        check_file(checked, "load", seconds=0.001)


def test_a_kernel_that_aborts_ends_only_its_own_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial's module is replaced by one that dies as a kernel would, behind the source's run."""
    dying = tmp_path / "dying.py"
    dying.write_text("import os, sys\nprint('source\\nfile', flush=True)\nprint('boom', file=sys.stderr)\nos.abort()\n")
    source = write_scaled(tmp_path / "a.onnx", 1.0)
    checked = make_subject(source, convert_onnx(source, check="none").data)
    monkeypatch.setattr(check, "TRIAL_MODULE", "dying")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModelRejected, match="SIGABRT: boom"):
        check_file(checked, "numbers")


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ("pass", "exited with code 0: it printed nothing"),
        ("sys.exit('line\\nof text')", "exited with code 1: line of text"),
        ("os.kill(os.getpid(), 40)", "was ended by signal 40: it printed nothing"),
    ],
)
def test_an_end_without_an_answer_is_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, words: str
) -> None:
    checked = use_trial(f"import os, sys\nprint('file', flush=True)\n{end}\n", tmp_path, monkeypatch)
    with pytest.raises(ModelRejected) as caught:
        check_file(checked, "numbers")
    assert caught.value.why == f"its process {words}"


def test_a_source_that_ends_the_process_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = (
        "import json, sys\n"
        "print('source', flush=True)\n"
        "if json.load(open(sys.argv[1]))['source']:\n    sys.exit(3)\n"
        "print('file\\n{}')\n"
    )
    assert check_file(use_trial(trial, tmp_path, monkeypatch), "numbers").note == (
        "ONNX Runtime exited with code 3 on the source"
    )


def answer(report: TrialReport) -> str:
    return f"print('source')\nprint('file')\nprint({msgspec.json.encode(report).decode()!r})\n"


def test_a_refusal_names_the_source_of_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = use_trial(answer(TrialReport(refused="Node number 1 (MUL) failed")), tmp_path, monkeypatch)
    for sources, words in (
        ([("a",), ("b", "c", "d", "e")], "Node number 1 (MUL) failed (from b, c, d)"),
        ([("a",)], "Node number 1 (MUL) failed"),
    ):
        with pytest.raises(ModelRejected) as caught:
            check_file(replace(checked, sources=sources), "numbers")
        assert caught.value.why == words


@pytest.mark.parametrize(
    ("is_float", "max_abs", "sqnr_db", "fits"),
    [
        (True, 0.2, 0.0, True),
        (True, 0.3, 0.0, False),
        (True, 0.3, 60.0, True),
        (False, 2.0, 0.0, True),
        (False, 3.0, 0.0, False),
    ],
)
def test_quantized_outputs_may_be_two_steps_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_float: bool, max_abs: float, sqnr_db: float, fits: bool
) -> None:
    found = OutputDifference(name="y", is_float=is_float, max_abs=max_abs, sqnr_db=sqnr_db, differing=1.0, not_finite=0)
    checked = use_trial(answer(TrialReport(differences=((found,),))), tmp_path, monkeypatch)
    checked = replace(checked, steps={"y": 0.1})
    if fits:
        assert check_file(checked, "numbers").sqnr_db == sqnr_db
    else:
        with pytest.raises(ModelRejected, match="other values"):
            check_file(checked, "numbers")


def use_trial(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> CheckedFile:
    """Replace the trial's module."""
    (folder / "trial_of_the_test.py").write_text(text)
    monkeypatch.setattr(check, "TRIAL_MODULE", "trial_of_the_test")
    monkeypatch.syspath_prepend(str(folder))
    source = write_scaled(folder / "a.onnx", 1.0)
    return make_subject(source, convert_onnx(source, check="none").data)


def test_where_the_source_cannot_run_the_file_is_only_loaded(tmp_path: Path) -> None:
    """An embedding of two rows is asked for others by every input that ONNX Runtime is tried with."""
    nodes = [node("Add", ["x", "far"], ["i"]), node("Gather", ["t", "i"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.INT64, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weights("t", 2, 3), constant("far", [100], "int64")],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "m.onnx")
    proof = convert_onnx(tmp_path / "m.onnx").proof
    assert proof is not None
    assert proof.sqnr_db is None
    assert "out of" in proof.note or "bounds" in proof.note


def test_integer_outputs_are_compared(tmp_path: Path) -> None:
    nodes = [node("ArgMax", ["x"], ["y"], "best", axis=-1)]
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [1, 50])], [value("y", None, "INT64")])
    other_nodes = [node("ArgMin", ["x"], ["y"], "worst", axis=-1)]
    other = write_onnx(tmp_path / "o.onnx", other_nodes, [value("x", [1, 50])], [value("y", None, "INT64")])
    assert convert_onnx(path).proof is not None
    with pytest.raises(ModelRejected, match="elements differ"):
        check_file(make_subject(path, convert_onnx(other, check="none").data), "numbers")


def test_numbers_that_are_not_finite_must_be_the_sources(tmp_path: Path) -> None:
    nodes = [node("Sqrt", ["x"], ["y"], "root")]
    path = write_onnx(tmp_path / "m.onnx", nodes, [value("x", [64])], [value("y", None)])
    assert convert_onnx(path).proof is not None
    absolute = [node("Abs", ["x"], ["a"]), node("Sqrt", ["a"], ["y"], "root")]
    other = write_onnx(tmp_path / "o.onnx", absolute, [value("x", [64])], [value("y", None)])
    with pytest.raises(ModelRejected, match="NaN"):
        check_file(make_subject(path, convert_onnx(other, check="none").data), "numbers")
