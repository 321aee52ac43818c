"""The tree at the top of errors.py is the truth."""

import re
from pathlib import Path

import pytest

from edgewright import errors
from edgewright.errors import EdgewrightError, RuntimeMissing, name_installer
from tests.error_classes import OURS, all_classes

LINE = re.compile(r"^(?P<indent>[ │├└─]*)(?P<name>[A-Z]\w+) +(?P<code>\d+|exit)(?: |$)")


def drawn_tree() -> dict[str, tuple[str, int]]:
    """Name to parent's name and exit code, as the docstring draws them."""
    tree: dict[str, tuple[str, int]] = {}
    path: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        if (match := LINE.match(line)) is None:
            continue
        depth, name = len(match["indent"]), match["name"]
        path = [(at, other) for at, other in path if at < depth]
        code = 1 if match["code"] == "exit" else int(match["code"])
        tree[name] = (path[-1][1] if path else "Exception", code)
        path.append((depth, name))
    return tree


def test_the_drawn_tree_is_the_real_one() -> None:
    assert drawn_tree() == {kind.__name__: (kind.__mro__[1].__name__, kind.exit_code) for kind in OURS}


def test_no_error_is_defined_elsewhere() -> None:
    import edgewright.cli.app
    import edgewright.cli.commands.benchmark
    import edgewright.flows.benchmark.rerun
    import edgewright.store.store  # noqa: F401

    elsewhere = [kind for kind in all_classes() if kind.__module__.startswith("edgewright.") and kind not in OURS]
    assert elsewhere == []


@pytest.mark.parametrize("kind", OURS)
def test_every_class_has_an_exit_code_and_a_hint(kind: type[EdgewrightError]) -> None:
    assert 0 < kind.exit_code < 256
    assert kind.__doc__
    error = kind("the thing broke")
    assert error.try_this == kind.default_hint != ""
    assert str(error) == "the thing broke"
    assert str(kind("the thing broke", "it was old", "buy another")) == "the thing broke: it was old"


@pytest.mark.parametrize(
    ("marker", "expected"),
    [("pipx_metadata.json", "pipx runpip edgewright install ncnn"), ("uv-receipt.toml", "uv pip install --python ")],
)
def test_advice_names_the_installer_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, marker: str, expected: str
) -> None:
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    assert RuntimeMissing("a", "b", "pip install ncnn").try_this == "pip install ncnn"
    (tmp_path / marker).touch()
    assert RuntimeMissing("a", "b", "pip install ncnn").try_this.startswith(expected)
    assert name_installer("pip install ncnn").endswith(" ncnn")
