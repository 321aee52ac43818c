"""The README's commands work, and its links lead somewhere."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ edgewright (.+)$", README, re.MULTILINE)


def test_readme_states_the_two_commands_first() -> None:
    assert README.index("make demo") < README.index("make test") < README.index("$ edgewright")


def test_readme_shows_the_demo_as_it_is() -> None:
    from edgewright.cli.commands.setup.demo import ACCURACY_INTERVAL, HEADERS

    shown = next(line for line in README.splitlines() if line.startswith("runtime "))
    assert re.split(r" {2,}", shown.strip()) == [header for header in HEADERS if header != ACCURACY_INTERVAL]


def test_chinese_readme_has_the_same_commands_outputs_and_links() -> None:
    def read_links(text: str) -> list[str]:
        return sorted(set(re.findall(r"\]\(([^)\s]+)\)", text)) - {"README.md", "README.zh-CN.md"})

    blocks = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
    assert blocks.findall(CHINESE) == blocks.findall(README)
    assert read_links(CHINESE) == read_links(README)


@pytest.mark.slow  # all commands of the README: it compiles, quantizes and benchmarks for a minute
def test_readme_commands_work_in_their_order(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="the README's examples use LiteRT")
    environ = {**os.environ, "EDGEWRIGHT_HOME": str(tmp_path / "home"), "EDGEWRIGHT_BENCHMARK_PROCESSES": "1"}
    assert len(COMMANDS) >= 6
    for command in COMMANDS:
        line = [sys.executable, "-P", "-m", "edgewright", *shlex.split(command)]
        done = subprocess.run(line, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        assert done.stdout, command


def test_links_of_the_documentation_resolve() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert not broken
