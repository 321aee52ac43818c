"""`edgewright prune` and `edgewright distill`."""

import errno
from pathlib import Path

import pytest

from edgewright.flows.demo.flow import get_digits_folder
from tests.cli.calling import Call

DIGITS = get_digits_folder()
MODEL = DIGITS / "digits.onnx"
WORDS = ("--task", DIGITS / "task.toml", "--val", DIGITS / "heldout.npz")
TORCH = ("net.py:build", *WORDS, "--data", DIGITS / "heldout.npz")
PAIR = ("--teacher", MODEL, "--student", "net.py:build", *WORDS, "--data", DIGITS / "heldout.npz")


def test_an_onnx_file_is_cut_without_torch(call: Call, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    asked = ("prune", MODEL, *WORDS, "--target-macs", "1.2x", "--max-drop", 100, "-o", tmp_path / "a")
    result = call(*asked, "--html", page)
    assert result.code == 0
    assert "group\tkind\tbefore\tafter\tlayers\nstem.conv\tchannels\t32\t24" in result.out
    assert "digits-pruned.onnx" in result.err
    assert "<script" not in page.read_text(encoding="utf-8")
    report = call(*asked, "--json").json()
    assert report["schema"] == "edgewright.prune/1"
    sides = {side["name"]: side for side in report["sides"]}
    assert sides["pruned"]["macs"] * 1.2 <= sides["source"]["macs"]
    beside = (tmp_path / "a" / "digits-pruned.prune.json").read_text(encoding="utf-8")
    assert f'"run_id":"{report["run_id"]}"' in beside
    named = [row["model"] for row in call("runs", "list").rows()]
    assert {"digits-source.onnx", "digits-pruned.onnx", "digits.onnx"} <= set(named)


@pytest.mark.parametrize(
    ("words", "what", "hint"),
    [
        ((MODEL, "--task", DIGITS / "task.toml"), "--val is missing", "docs/prune.md"),
        ((MODEL, *WORDS, "--epochs", "3"), "--epochs has no effect here", "omit it to prune without fine-tuning"),
        ((MODEL, *WORDS, "--data", "x.zip"), "--data has no effect here", "omit it to prune without fine-tuning"),
        ((MODEL, *WORDS, "--importance", "taylor"), "--importance has no effect here", "--importance l2"),
        ((MODEL, *WORDS, "--sparsity", "0.5"), "--sparsity has no effect here", "--method unstructured"),
        (
            (MODEL, *WORDS, "--method", "unstructured", "--multiple", "4"),
            "--multiple has no effect here",
            "omit it",
        ),
        ((*TORCH, "--method", "unstructured", "--pattern", "4:2"), "--pattern 4:2 cannot be used", "--pattern 2:4"),
        ((*TORCH, "--seeds", "0"), "--seeds 0 cannot be used", "--seeds 3"),
        ((*TORCH, "--epochs", "0"), "the training settings are not valid", "docs/training.md"),
        ((*TORCH, "--lr", "nan"), "the training settings are not valid", "default"),
        ((*TORCH, "--held-out", "1"), "--held-out 1 cannot be used", "--held-out 0.1"),
        ((*TORCH, "--target-bytes", "0"), "is not valid", "--target-bytes 2x"),
        ((*TORCH, "--target-speedup", "1"), "--target-speedup 1 cannot be used", "--target-speedup 1.5"),
        ((*TORCH, "--rounds", "0"), "--rounds 0 cannot be used", "--rounds 1"),
        ((*TORCH, "--alpha", "1.5"), "the distillation settings are not valid", "--alpha 0.9"),
        ((*TORCH, "--no-distill", "--alpha", "1"), "--alpha has no effect here", "--no-distill"),
        (
            (MODEL, *WORDS, "--temperature", "2"),
            "--temperature has no effect here",
            "omit it to prune without fine-tuning",
        ),
        (("net.py:build", *WORDS, "--epochs", "3"), "--epochs has no effect here", "--data train.zip"),
        (("net.py:build", *WORDS, "--importance", "taylor"), "--importance has no effect here", "with --data"),
    ],
)
def test_invalid_options_of_prune_fail_in_a_dry_run_too(
    call: Call, tmp_path: Path, words: tuple[object, ...], what: str, hint: str
) -> None:
    for dry in ((), ("--dry-run",)):
        result = call("prune", *words, "-o", tmp_path / "out", *dry)
        assert result.code == 2
        assert what in result.err
        assert hint in result.error()[2]
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "what", "hint"),
    [
        (("--alpha", "2"), "alpha 2", "--alpha"),
        (("--seeds", "99"), "--seeds 99 cannot be used", "--seeds 3"),
        (("--batch", "1"), "the training settings are not valid", "docs/training.md"),
        (("--student", "auto:5x"), "requires a torch teacher", "FILE.py:FACTORY"),
    ],
)
def test_invalid_options_of_distill_fail_in_a_dry_run_too(
    call: Call, tmp_path: Path, words: tuple[object, ...], what: str, hint: str
) -> None:
    for dry in ((), ("--dry-run",)):
        result = call("distil", *PAIR, *words, "-o", tmp_path / "out", *dry)
        assert result.code == 2
        assert what in result.err
        assert hint in result.error()[2]
        assert not (tmp_path / "out").exists()


def test_plans(call: Call) -> None:
    plan = call("prune", *TORCH, "--target-speedup", "1.5", "--epochs", "3", "--dry-run").json()
    assert (plan["importance"], plan["target_speedup"], plan["settings"]) == ("taylor", 1.5, {"epochs": 3.0, "seed": 0})
    plan = call("distil", *PAIR, "--dry-run").json()
    assert (plan["temperature"], plan["alpha"], plan["seeds"]) == (4.0, 0.9, 1)


def test_a_file_without_its_factory(call: Call, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("def build(): ...\n")
    result = call("prune", tmp_path / "net.py", *WORDS, "--target-macs", "2x", "-o", tmp_path / "out")
    assert result.code == 2
    assert result.error()[0].endswith("net.py names no factory")
    assert result.error()[2].endswith("net.py:build")


def test_a_disk_that_fills_up_is_reported(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "choice.part")

    monkeypatch.setattr("edgewright.flows.prune.flow.prune_file", fill)
    result = call("prune", MODEL, *WORDS, "--target-macs", "2x", "-o", tmp_path / "out")
    assert result.code == 1
    assert result.error()[:2] == ("the disk is full", "there is no space left for choice.part")
    assert not list((tmp_path / "out").iterdir())
