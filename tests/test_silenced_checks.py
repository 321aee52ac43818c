"""Every silenced check of the code says why it is silenced."""

import re

from tests.paths import ROOT

FOLDERS = ("src", "benchmarks", "scripts")
BARE = re.compile(r"#\s*(noqa|type: ?ignore|pragma: no cover)(: ?[A-Z0-9, ]+|\[[a-z, -]+\])?\s*$", re.MULTILINE)


def test_a_bare_comment_is_found() -> None:
    assert BARE.search("run(command)  # noqa: " + "S603")
    assert BARE.search("x = f()  # type: " + "ignore[arg-type]")
    assert not BARE.search("run(command)  # noqa: S603 - our own module")


def test_each_silenced_check_has_its_reason() -> None:
    bare = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        for match in BARE.finditer(path.read_text(encoding="utf-8"))
    ]
    assert bare == []
