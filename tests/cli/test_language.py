"""Errors and answers in the language of the terminal."""

import pytest

from edgewright.cli.app import run


@pytest.mark.parametrize(("name", "value", "first"), [
    ("EDGEWRIGHT_LANGUAGE", "zh-CN", "错误："), ("LC_ALL", "zh_CN.UTF-8", "错误："), ("LC_ALL", "C", "Error:"),
])  # fmt: skip
def test_an_error_in_the_language_of_the_terminal(
    name: str, value: str, first: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    assert run(["analyze", "absent.onnx"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith(first)]
    assert "absent.onnx" in line
