"""Help texts: every option is shown once, every example is one of the command, and the manual page has all of them."""

import shlex
import subprocess
from shutil import which

import click
import pytest

from edgewright.cli.help.pages import find_examples
from edgewright.cli.help.sections import EXAMPLES, SECTION_OF, SECTIONS
from edgewright.cli.registry import COMMANDS, list_options
from tests.cli.calling import Call
from tests.test_docs import commands

PATHS = {path: command for path, command in commands().items() if not isinstance(command, click.Group)}


@pytest.mark.parametrize("path", PATHS)
def test_every_option_is_shown_once(path: str, call: Call) -> None:
    shown = call(*path.split()[1:], "--help").out
    lines = [line.strip() for line in shown.splitlines()]
    for option in list_options(PATHS[path]).values():
        name = next(one for one in option.opts if one.startswith("--"))
        assert len([line for line in lines if f"{name} " in f"{line.split('  ')[0]} "]) >= 1, name
    assert len([line for line in lines if line.startswith("-h, --help")]) == 1


def test_options_of_long_commands_are_in_sections(call: Call) -> None:
    lines = call("prune", "--help").out.splitlines()
    titles = [line.rstrip(":") for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert titles == ["Options", *SECTIONS, "Examples"]
    assert [line for line in call("doctor", "--help").out.splitlines() if line.endswith(":")] == ["Options:"]


def test_sections_name_only_options_that_exist() -> None:
    known = {key for command in PATHS.values() for key in list_options(command)}
    assert set(SECTION_OF) - known == set()
    assert len(SECTION_OF) == sum(len(keys.split()) for keys in SECTIONS.values())


def test_examples_are_calls_of_their_command() -> None:
    assert {f"edgewright {path}".replace("edgewright edgewright", "edgewright") for path in EXAMPLES} <= set(commands())
    for path, command in PATHS.items():
        for example in find_examples(path):
            words = shlex.split(example.removeprefix('eval "$(').removesuffix(')"').partition(" > ")[0])
            assert words[: len(path.split())] == path.split()
            command.make_context(path, words[len(path.split()) :])


def test_the_list_of_commands_is_not_cut_short(call: Call) -> None:
    shown = call("--help").out
    assert "..." not in shown.partition("Commands:")[2]
    assert all(f"\n  {name} " in shown for name in COMMANDS)


def test_the_manual_page_has_all_commands_and_options(call: Call) -> None:
    page = call("completion", "man").out
    assert page.isascii()
    for path, command in PATHS.items():
        _, found, rest = page.partition(f'.SS "{path} ')
        assert found, path
        own = rest.partition(".SS ")[0]
        for option in list_options(command).values():
            assert option.opts[-1].replace("-", "\\-") in own, (path, option.opts)
    if which("groff"):
        done = subprocess.run(["groff", "-man", "-ww", "-z"], input=page, capture_output=True, text=True, check=True)
        assert done.stderr == ""


def test_help_is_a_command(call: Call) -> None:
    assert call("help", "runs", "list").out == call("runs", "list", "--help").out
    assert call("help").out == call("--help").out
