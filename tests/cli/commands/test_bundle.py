"""`edgewright bundle` measures, writes, and overwrites nothing of others."""

from pathlib import Path

from edgewright.adaptive.bundle import read_bundle
from tests.cli.calling import Call
from tests.paths import ROOT

DIGITS = ROOT / "src/edgewright/flows/digits"
QUICK = ("--processes", "1", "--seconds", "0.01")


def test_a_bundle_has_the_figures_of_its_variants(call: Call, tmp_path: Path) -> None:
    models = (DIGITS / "digits.onnx", DIGITS / "digits_int8.onnx")
    task = ("--task", DIGITS / "task.toml", "--data", DIGITS / "heldout.npz")
    output = tmp_path / "app.bundle"
    report = call("bundle", *models, *task, "-o", output, "--tiers", "high,low", *QUICK, "--json").json()
    assert report["schema"] == "edgewright.bundle/1"
    full, lite = report["variants"]
    assert (full["name"], full["tier"], lite["tier"]) == ("digits", "high", "low")
    assert full["bytes"] == models[0].stat().st_size
    assert full["p50_us"] > 0
    assert full["peak_bytes"] > 1_000_000
    assert 0.9 < full["metric"] <= 1
    assert [one.path for one in read_bundle(output).variants] == ["digits.onnx", "digits_int8.onnx"]
    assert (output / "task.toml").is_file()


def test_what_does_not_fit(call: Call, tmp_path: Path) -> None:
    model = DIGITS / "digits.onnx"
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    assert call("bundle", model, "-o", folder, *QUICK).code == 1
    assert list(folder.iterdir()) == [folder / "mine.txt"]
    new = tmp_path / "new"
    assert "same name" in call("bundle", model, model, "-o", new).err
    assert "does not fit" in call("bundle", model, "-o", new, "--tiers", "top").err
    assert "needs a task" in call("bundle", model, "-o", new, "--data", "x.npz", *QUICK).err
    assert not new.exists()
