"""Output and errors of `edgewright quantize`."""

from pathlib import Path

import pytest

from edgewright.flows.demo.flow import get_digits_folder
from tests.cli.calling import Call

DIGITS = get_digits_folder()
MODEL = DIGITS / "digits.onnx"
WORDS = ("--task", DIGITS / "task.toml", "--data", DIGITS / "heldout.npz")
QUICK = ("--samples", 16, "--runtime", "onnxruntime", "--no-measure")


def test_table_files_and_recipe(call: Call, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    result = call("quantize", MODEL, *WORDS, *QUICK, "-o", tmp_path / "a", "--html", page, "--report")
    assert result.code == 0
    assert "digits-onnxruntime-w8a8.onnx" in result.out
    assert "classify/Gemm" in result.out
    assert "<script" not in page.read_text(encoding="utf-8")
    recipe = tmp_path / "a" / "digits-w8a8.recipe.toml"
    again = call("quantize", MODEL, *WORDS, *QUICK, "-o", tmp_path / "b", "--recipe", recipe, "--json")
    report = again.json()
    assert report["schema"] == "edgewright.quantize/1"
    assert (report["calibrated_on"], report["evaluated_on"]) == (16, 523)
    for name in ("digits-w8a8.onnx", "digits-onnxruntime-w8a8.onnx", "digits-w8a8.recipe.toml"):
        assert (tmp_path / "b" / name).read_bytes() == (tmp_path / "a" / name).read_bytes(), name


def test_a_plan_that_is_not_carried_out(call: Call, tmp_path: Path) -> None:
    result = call("quantize", MODEL, *WORDS, "--dry-run", "-o", tmp_path / "out", "--precision", "int8")
    assert (result.json()["precision"], result.json()["runtimes"]) == ("w8a8", ["onnxruntime", "litert"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "code", "what", "hint"),
    [
        ((), 2, "--task is missing", "edgewright task init"),
        ((*WORDS, "--precision", "w2"), 2, "unknown precision: w2", "--precision w8a8"),
        ((*WORDS, "--precision", "bf16"), 2, "--precision bf16 is not supported", "--precision fp16"),
        ((*WORDS, "--runtime", "nobody"), 2, "unknown runtime 'nobody'", "edgewright doctor"),
        ((*WORDS, "--recipe", "absent.toml"), 2, "recipe file does not exist: absent.toml", "omit --recipe"),
        ((*WORDS, "--timeout", "0"), 2, "--timeout 0.0 cannot be used", "--timeout 0.001"),
        ((*WORDS, "--html", "absent/r.html"), 1, "absent/r.html cannot be written", "check that the folder"),
    ],
)
def test_errors_are_reported_before_the_work(
    call: Call, tmp_path: Path, words: tuple[object, ...], code: int, what: str, hint: str
) -> None:
    result = call("quantize", MODEL, *words, "-o", tmp_path / "out")
    assert result.code == code
    assert what in result.err
    assert hint in result.err
    assert not list((tmp_path / "out").glob("*"))
    assert "calibration samples" not in result.err
