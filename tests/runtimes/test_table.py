"""The table of runtimes and their options."""

import subprocess
import sys
from importlib import metadata
from typing import Any

import pytest

from edgewright.errors import UsageError
from edgewright.runtimes.table import (
    TABLE,
    Option,
    RuntimeInfo,
    check_options,
    find_runtime,
    import_runtime,
    known_runtimes,
    make_install_command,
)

PLUGIN = RuntimeInfo("mine", "Mine", "mine.runtime", ("mine",), "mine", "", ("mine",), (Option("fast", (), "no", "?"),))


class Point:
    """An entry point that loads what it was given, or fails as a broken plug-in does."""

    def __init__(self, loaded: RuntimeInfo | None) -> None:
        self.loaded = loaded

    def load(self) -> RuntimeInfo:
        if self.loaded is None:
            raise ImportError("a plug-in whose package is broken")
        return self.loaded


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    def entry_points(*, group: str) -> list[Any]:
        return [Point(None), Point(PLUGIN)] if group == "edgewright.runtimes" else []

    monkeypatch.setattr(metadata, "entry_points", entry_points)


@pytest.mark.parametrize(
    ("word", "name"),
    [("onnxruntime", "onnxruntime"), ("ORT", "onnxruntime"), ("onnx", "onnxruntime"), ("TFLite", "litert")],
)
def test_aliases_lead_to_their_runtime(word: str, name: str) -> None:
    assert find_runtime(word) is TABLE[name]


def test_an_unknown_runtime_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="nonsense") as error:
        find_runtime("nonsense")
    assert all(name in error.value.why for name in TABLE)


@pytest.mark.usefixtures("plugins")
def test_a_plug_in_is_found_and_a_broken_one_takes_nothing_with_it() -> None:
    assert find_runtime("Mine") is PLUGIN
    assert known_runtimes() == [*(name for name, info in TABLE.items() if info.reads), "mine"]


@pytest.mark.parametrize("info", TABLE.values(), ids=lambda info: info.name)
def test_every_row_is_whole(info: RuntimeInfo) -> None:
    assert TABLE[info.name] is info
    assert info.reads or info.compiles
    for function in ("version", *(("open_session", "profile", "layers") if info.reads else ("compile",))):
        assert callable(getattr(import_runtime(info), function))
    for option in info.options:
        assert option.name == option.name.lower().replace("_", "-")
        assert option.text
        assert not option.values or option.default in option.values


def test_reading_the_table_imports_no_runtime() -> None:
    script = "import sys; from edgewright.runtimes import table; table.find_runtime('ort'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"onnxruntime", "onnx", "numpy", "ai_edge_litert"} & set(loaded)
    assert not [name for name in loaded if name.startswith("edgewright.runtimes.") and name.count(".") > 2]


def test_an_unknown_option_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="speed") as error:
        check_options(TABLE["onnxruntime"], {"speed": "high"})
    for option in TABLE["onnxruntime"].options:
        assert option.name in error.value.why
        assert f"-p {option.name}={'|'.join(option.values) or option.default} (" in error.value.try_this


def test_an_unknown_value_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="arena=maybe") as error:
        check_options(TABLE["onnxruntime"], {"arena": "maybe"})
    assert error.value.why == "known values: on, off"


def test_known_options_and_free_texts_pass() -> None:
    check_options(TABLE["onnxruntime"], {"arena": "off", "provider": "anything"})
    check_options(PLUGIN, {"fast": "yes"})
    check_options(PLUGIN, {})


def test_a_runtime_has_its_own_command_to_install_or_that_of_its_package() -> None:
    assert make_install_command(PLUGIN) == "pip install mine"
    assert make_install_command(PLUGIN._replace(install="mine setup")) == "mine setup"
