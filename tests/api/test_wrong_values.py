"""Values of a wrong type, options without effect, and a cancel event that is set before the call."""

from pathlib import Path
from threading import Event
from typing import Any

import pytest

import edgewright
from edgewright.errors import Cancelled, UsageError
from edgewright.store.location import find_home
from tests.api.conftest import DIGITS

MODEL = str(DIGITS / "digits.onnx")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"processes": "2"}, "processes"),
        ({"seconds": "x"}, "seconds"),
        ({"shape": {"image": (0, 1, 8, 8)}}, "0 is not a size"),
    ],
)
def test_a_value_of_a_wrong_type_is_named(folder: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        edgewright.benchmark("m.pretend", **options)


def test_an_option_without_effect_is_an_error(folder: Path) -> None:
    data = str(DIGITS / "heldout.npz")
    with pytest.raises(UsageError, match="no effect"):
        edgewright.quantize(MODEL, task=str(DIGITS / "task.toml"), data=data, output="q", epochs=5)
    assert list(folder.glob("q")) == []


def test_an_event_that_is_set_already_cancels(folder: Path) -> None:
    event = Event()
    event.set()
    with pytest.raises(Cancelled):
        edgewright.compile(MODEL, runtime="onnxruntime", output="c", cancel=event)


def test_a_blank_home_counts_as_unset(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEWRIGHT_HOME", " ")
    monkeypatch.setenv("XDG_DATA_HOME", str(folder / "data"))
    assert find_home().is_absolute()
    assert edgewright.list_runs(limit=1) is not None
    assert not Path(" ").exists()


@pytest.mark.parametrize(
    ("name", "args", "keywords", "what"),
    [
        ("load", [3], {}, "path=3 has the wrong type"),
        ("load", [], {}, r"load\(\): missing a required argument: 'path'"),
        ("load", ["a\0b"], {}, "null byte"),
        ("analyze", ["a\0b"], {}, "null byte"),
        ("load", [MODEL], {"option": [1, 2]}, "option: 1 is not KEY=VALUE"),
        ("analyze", [MODEL], {"shape": {3: (1,)}}, "shape: 3 is not a name"),
        ("analyze", [MODEL], {"shape": f"image={2**63},1,8,8"}, "too large for a size"),
        ("analyze", [MODEL, MODEL], {}, "too many positional arguments"),
        ("quantize", [MODEL], {}, "task= is missing"),
        ("benchmark", [MODEL], {"cancel": True}, "cancel=True has the wrong type"),
        ("load_run", [5], {}, "run_id=5 has the wrong type"),
    ],
)
def test_no_builtin_error_leaves_a_function(
    folder: Path, name: str, args: list[Any], keywords: dict[str, Any], what: str
) -> None:
    with pytest.raises(UsageError, match=what):
        getattr(edgewright, name)(*args, **keywords)


def test_the_former_name_of_a_keyword_is_read(folder: Path) -> None:
    task, data = str(DIGITS / "task.toml"), str(DIGITS / "heldout.npz")
    with pytest.raises(UsageError, match="distill=True has no effect here"):
        edgewright.prune(MODEL, task=task, val=data, teach=False)  # type: ignore[call-arg]


@pytest.mark.parametrize("name", ["digits.onnx", "r", "r.json", "a\0.html", 3, None])
def test_a_report_replaces_no_other_file(folder: Path, name: Any) -> None:
    (folder / "digits.onnx").write_bytes(b"model")
    result = edgewright.list_runs()
    with pytest.raises(UsageError, match="report cannot be saved"):
        result.save(name)
    assert (folder / "digits.onnx").read_bytes() == b"model"
    assert result.save("r.html").read_text().lower().startswith("<!doctype html>")


@pytest.mark.parametrize("value", [None, object(), [None]])
def test_inputs_that_are_no_numbers(value: Any) -> None:
    with pytest.raises(UsageError, match="no array of numbers"):
        edgewright.benchmark(MODEL, inputs={"image": value})


def test_a_name_that_is_too_long() -> None:
    with pytest.raises(UsageError, match="too long"):
        edgewright.benchmark("a" * 300 + ".onnx")
