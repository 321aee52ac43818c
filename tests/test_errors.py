"""The tree at the top of errors.py is the truth."""

import re

import pytest

from edgewright import errors
from edgewright.errors import EdgewrightError

DOCUMENTED_CODES = {0, 1, 2, 3, 4, 5, 6, 124, 130}
LINE = re.compile(r"^(?P<indent>[ │├└─]*)(?P<name>[A-Z]\w+) +(?P<code>\d+|exit)(?: |$)")


def all_classes(top: type[EdgewrightError] = EdgewrightError) -> list[type[EdgewrightError]]:
    return [top, *(found for child in top.__subclasses__() for found in all_classes(child))]


OURS = [kind for kind in all_classes() if kind.__module__ == errors.__name__]


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
def test_every_class_has_a_documented_code_and_a_hint(kind: type[EdgewrightError]) -> None:
    assert kind.exit_code in DOCUMENTED_CODES - {0}
    assert kind.__doc__
    error = kind("the thing broke")
    assert error.try_this == kind.default_hint != ""
    assert str(error) == "the thing broke"
    assert str(kind("the thing broke", "it was old", "buy another")) == "the thing broke: it was old"


def test_the_help_lists_the_exit_codes() -> None:
    from edgewright.cli.app import edgewright

    documented = {int(code) for code in re.findall(r"\d+", edgewright.epilog or "")}
    assert documented == DOCUMENTED_CODES | {129, 143}  # stopped by SIGHUP and by SIGTERM: no error class has these
