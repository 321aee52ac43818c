"""`./edgewright.toml` of a downloaded folder: it runs no code, names no path outside, reaches no host."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from edgewright.cli.config import list_known_keys
from edgewright.cli.project_file import MAY_NOT_SET, MAY_SET
from edgewright.flows.demo.flow import get_digits_folder
from edgewright.tasks.spec.file import read_task
from tests.cli.calling import Call
from tests.paths import ROOT

DIGITS = get_digits_folder()
MODEL = DIGITS / "digits.onnx"
TASK = DIGITS / "task.toml"
EVIL = """
from pathlib import Path
Path("it-ran").touch()
def make():
    import numpy as np
    return [(np.zeros((1, 1, 8, 8), np.float32), 0)] * 4
def f(outputs, labels):
    return [1.0] * len(labels)
def build():
    import torch
    return torch.nn.Identity()
"""
DOCUMENTED = ROOT / "docs" / "configuration.md"


@pytest.fixture
def cloned(folder: Path) -> Path:
    """Return a downloaded folder that contains code and valid files."""
    (folder / "evil.py").write_text(EVIL)
    for name in ("digits.onnx", "task.toml", "heldout.npz"):
        (folder / name).write_bytes((DIGITS / name).read_bytes())
    return folder


def write(folder: Path, text: str) -> None:
    (folder / "edgewright.toml").write_text(text)


def rejected(call: Call, folder: Path, *words: object) -> str:
    result = call(*words)
    assert result.code == 2, result.err
    assert not (folder / "it-ran").exists()
    return "\n".join(result.error())


def own_metric(folder: Path, metric: str = "evil.py:f") -> Path:
    path = folder / "own.toml"
    path.write_text(re.sub(r'metric = "\w+"', f'metric = "{metric}"', TASK.read_text()))
    return path


# The list


def test_every_option_is_decided() -> None:
    keys = {key for name, keys in list_known_keys().items() if name != "store" for key in keys}
    assert keys == MAY_SET.keys() | MAY_NOT_SET.keys()
    assert not MAY_SET.keys() & MAY_NOT_SET.keys()


def test_the_documentation_has_the_list() -> None:
    text = DOCUMENTED.read_text(encoding="utf-8").partition("## What a project file may set")[2].partition("\n##")[0]
    rows = dict(re.findall(r"^\| (\w[\w ,`/]*?) +\| (.*?) +\|", text, re.MULTILINE))
    found = {kind: set(re.findall(r"`(\w+)`", keys)) for kind, keys in rows.items() if kind != "kind"}
    kinds: dict[str, set[str]] = {"not allowed": set(MAY_NOT_SET)}
    for key, kind in MAY_SET.items():
        kinds.setdefault(kind, set()).add(key)
    assert found == kinds


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[benchmark]\non = "pretend"', "[benchmark] on"),
        ('[benchmark]\nplan = "plan.json"', "[benchmark] plan"),
        ('[evaluate]\non = "local"', "[evaluate] on"),
        ('[ui]\nhost = "0.0.0.0"', "[ui] host"),
        ("[ui]\nport = 80", "[ui] port"),
        ("[ui]\nnew_key = true", "[ui] new_key"),
        ("[ui]\nopen = true", "[ui] open"),
        ("[evaluate]\nallow_code = true", "[evaluate] allow_code"),
        ("[quantize]\nallow-code = true", "[quantize] allow_code"),
        ("[ui]\nallow_code = true", "[ui] allow_code"),
        ('[ui]\nwork_folder = ["sub", "/etc"]', "[ui] work_folder"),
        ('[compile]\noutput = "/tmp/elsewhere"', "[compile] output"),
        ('[compile]\noutput = "sub/../../elsewhere"', "[compile] output"),
        ('[compile]\noutput = "link/artifacts"', "[compile] output"),
        ('[compile]\noutput = "loop/artifacts"', "[compile] output"),
        ('[compile]\nweights = "a\\u0000b"', "[compile] weights"),
        ('[compile]\noption = "coreml.weights=/etc/passwd"', "[compile] option"),
        ('[compile]\noption = ["io=source", "Weights = w.pt"]', "[compile] option"),
        ('[quantize]\nrecipe = "../r.toml"', "[quantize] recipe"),
        ('[evaluate]\ndata = "/etc"', "[evaluate] data"),
        ('[evaluate]\ntask = "/etc/task.toml"', "[evaluate] task"),
        ('[distil]\nteacher = "../other.onnx"', "[distill] teacher"),
        ('[prune]\nhtml = "../../report.html"', "[prune] html"),
    ],
)
def test_what_it_must_not_set(call: Call, cloned: Path, text: str, key: str) -> None:
    (cloned / "link").symlink_to(cloned.parent)
    (cloned / "loop").symlink_to("loop")
    write(cloned, text)
    result = rejected(call, cloned, "doctor", "--json")  # by any command, because the file is not valid
    assert f"edgewright.toml: {key}" in result
    assert "docs/configuration.md" in result


def test_what_it_may_set(call: Call, cloned: Path) -> None:
    (cloned / "inside").symlink_to("sub")
    write(
        cloned,
        f'[evaluate]\ntask = "task.toml"\ndata = "{cloned}/heldout.npz"\nsamples = 20\nruntime = "onnxruntime"\n'
        '[compile]\noutput = "inside/made"\noption = "litert.io=source"\n[distil]\nstudent = "auto:5x"\n'
        '[ui]\nwork_folder = "."\n',
    )
    result = call("evaluate", "digits.onnx", "--json")
    assert result.code == 0, result.err
    assert result.json()["samples"] == 20


# Code


CODE: Mapping[str, tuple[str, tuple[object, ...]]] = {
    '[evaluate]\ndata = "evil.py:make"': ("[evaluate] data", ("evaluate", MODEL)),
    '[evaluate]\ndata = "os.path:sep"': ("[evaluate] data", ("evaluate", MODEL, "--task", TASK)),
    '[quantize]\neval_data = "evil.py:make"': ("[quantize] eval_data", ("quantize", MODEL, "--task", TASK)),
    '[prune]\nval = "evil.py:make"': ("[prune] val", ("prune", MODEL, "--task", TASK)),
    '[distil]\nteacher = "evil.py:build"': ("[distill] teacher", ("distil",)),
    '[distil]\nstudent = "evil.pt2"': ("[distill] student", ("distil", "--teacher", MODEL)),
}


@pytest.mark.parametrize("text", CODE)
def test_code_that_it_names_does_not_run(call: Call, cloned: Path, text: str) -> None:
    key, words = CODE[text]
    write(cloned, text)
    result = rejected(call, cloned, *words)
    assert f"edgewright.toml: {key} names code" in result
    assert "--allow-code" in result


@pytest.mark.parametrize("chosen_by", ["project file", "command line"])
@pytest.mark.parametrize("command", ["evaluate", "quantize", "prune", "distil"])
def test_a_metric_of_a_task_does_not_run(call: Call, cloned: Path, command: str, chosen_by: str) -> None:
    own_metric(cloned)
    words: list[object] = {"distil": ["--teacher", MODEL, "--student", "auto:5x"]}.get(command, [MODEL])
    if command == "evaluate":
        words += ["--data", "heldout.npz"]
    elif command == "quantize":
        words += ["--data", "heldout.npz", "--dry-run"]
    else:
        words += ["--val", "heldout.npz", "--dry-run"] + (["--data", "heldout.npz"] if command == "distil" else [])
    if chosen_by == "project file":
        write(cloned, f'[{command}]\ntask = "own.toml"\n')
    else:
        words += ["--task", "own.toml"]
    result = rejected(call, cloned, command, *words)
    assert "own.toml: metric names code" in result
    assert "evil.py:f" in result
    assert "--allow-code" in result


def evaluated(call: Call, *words: object) -> Any:
    result = call("evaluate", MODEL, "--samples", 4, "--json", *words)
    assert result.code == 0, result.err
    return result.json()


def test_code_that_the_user_allows(call: Call, cloned: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(cloned, '[evaluate]\ndata = "evil.py:make"\n')
    own = own_metric(cloned)
    assert evaluated(call, "--task", own, "--allow-code")["results"][0]["metric"]["value"] == 1.0
    assert (cloned / "it-ran").exists()
    monkeypatch.setenv("EDGEWRIGHT_EVALUATE_ALLOW_CODE", "1")
    assert evaluated(call, "--task", own)
    monkeypatch.delenv("EDGEWRIGHT_EVALUATE_ALLOW_CODE")
    file = own_home.with_name("own-config") / "edgewright" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text("[evaluate]\nallow_code = true\n")
    assert evaluated(call, "--task", own)


def test_code_that_the_user_typed(call: Call, cloned: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert evaluated(call, "--task", TASK, "--data", "evil.py:make")
    monkeypatch.setenv("EDGEWRIGHT_EVALUATE_DATA", "evil.py:make")
    assert evaluated(call, "--task", TASK)
    monkeypatch.delenv("EDGEWRIGHT_EVALUATE_DATA")
    file = own_home.with_name("own-config") / "edgewright" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text('[evaluate]\ndata = "evil.py:make"\n')
    assert evaluated(call, "--task", TASK)
    write(cloned, '[evaluate]\ndata = "evil.py:f"\n')  # the same key from the project file
    assert call("evaluate", MODEL, "--task", TASK).code == 2


def test_a_task_that_runs_nothing_is_shown(call: Call, cloned: Path) -> None:
    own = own_metric(cloned)
    assert "evil.py:f" in call("task", "show", own).out
    assert not (cloned / "it-ran").exists()


# Links in a task or dataset of the folder


def test_links_of_a_dataset_stay_in_the_folder(call: Call, cloned: Path) -> None:
    (cloned / "data" / "3").mkdir(parents=True)
    (cloned / "data" / "3" / "a.png").symlink_to("/etc/hostname")
    write(cloned, '[evaluate]\ndata = "data"\n')
    result = rejected(call, cloned, "evaluate", MODEL, "--task", TASK)
    assert "a.png cannot be used" in result
    assert "outside of the folder that may contain the data" in result
    assert "--data on the command line" in result


def test_labels_stay_in_the_folder(call: Call, cloned: Path) -> None:
    outside = cloned.parent / "names.txt"
    outside.write_text("\n".join("abcdefghij"))
    task = cloned / "own.toml"
    task.write_text(TASK.read_text() + f'labels = "{outside}"\n')
    write(cloned, '[compile]\ntask = "own.toml"\n[evaluate]\ntask = "own.toml"\n')
    for words in (("compile", MODEL, "--dry-run"), ("evaluate", MODEL, "--data", "heldout.npz")):
        assert "the labels file is outside" in rejected(call, cloned, *words)
    assert call("evaluate", MODEL, "--data", "heldout.npz", "--task", task, "--samples", 4).code == 0
    assert read_task(task)  # Python callers may read any task
    assert list(cloned.glob("*artifacts")) == []
