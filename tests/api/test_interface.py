"""The public names, their keywords, and what an import of the package costs."""

import doctest
import inspect
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from shutil import copytree

import pytest

import edgewright
from edgewright.api.options import CallOptions
from edgewright.api.results.base import Result
from edgewright.cli.calls import OUTPUT_OPTIONS
from edgewright.cli.registry import find_command, list_options
from tests.api.conftest import DIGITS, starts_program
from tests.paths import ROOT

MODULES = re.compile(r"\b(?:[a-z_]+\.)+(?=[A-Z])")  # of the classes in annotations
SNAPSHOT = Path(__file__).with_name("public_api.txt")
VERBS = ("analyze", "benchmark", "compare", "compile", "distill", "evaluate", "gate", "invoke", "prune", "quantize")
# Keywords without an option: inputs in memory of a torch module.
ONLY_API = {*CallOptions.__annotations__, "inputs"}
# An option of `analyze` says what is printed; that of `benchmark` what is measured. A bundle is measured by
# `api.field.policies`.
PRINTED = {"analyze": {"layers"}, "benchmark": {"policy", "scenario"}}


def list_attributes(result: type) -> set[str]:
    """Return the attributes that the docstrings of a class and its bases describe."""
    texts = [inspect.cleandoc(one.__doc__ or "").partition("Attributes:\n")[2] for one in result.__mro__[:-1]]
    found = [re.findall(r"^    (\w+(?:, \w+)*):", text, re.MULTILINE) for text in texts]
    return {name for names in found for one in names for name in one.split(", ")}


def describe(name: str) -> list[str]:
    """Return the lines of the snapshot for one public name: its parameters, and the members of its result."""
    found = getattr(edgewright, name)
    if inspect.isclass(found):
        return [f"class {name}"]
    signature = inspect.signature(found)
    lines = [name, *(f"    {MODULES.sub('', str(one))}" for one in signature.parameters.values())]
    result = signature.return_annotation
    if inspect.isclass(result) and result.__module__.startswith("edgewright.api"):
        members = {member for member in dir(result) if not member.startswith("_")} | list_attributes(result)
        return [*lines, f"    -> {result.__name__}: {', '.join(sorted(members))}"]
    return [*lines, f"    -> {MODULES.sub('', str(result))}"]


def test_the_public_interface_is_the_one_of_the_snapshot() -> None:
    lines = [line for name in sorted(edgewright.__all__) for line in describe(name)]
    text = "\n".join(lines) + "\n"
    assert text == SNAPSHOT.read_text(encoding="utf-8"), f"if the change is meant, write {SNAPSHOT} anew:\n{text}"


def test_no_name_is_that_of_a_package() -> None:
    modules = {path.stem for path in (ROOT / "src" / "edgewright").iterdir()}
    assert not modules & {*edgewright.__all__}
    assert {"benchmark", "load", "Task"} <= {*dir(edgewright)}


@pytest.mark.parametrize("verb", VERBS)
def test_keywords_are_the_options_of_the_command(verb: str) -> None:
    command = find_command(verb)
    assert command is not None
    options = set(list_options(command)) - {*OUTPUT_OPTIONS} - PRINTED.get(verb, set())
    parameters = inspect.signature(getattr(edgewright, verb)).parameters
    keywords = {name for name, one in parameters.items() if one.kind is inspect.Parameter.KEYWORD_ONLY}
    assert options <= keywords
    assert keywords - options <= ONLY_API


def test_the_import_loads_nothing_of_the_functions() -> None:
    code = "import sys, edgewright; dir(edgewright); print([n for n in sys.modules if n.startswith('edgewright.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['edgewright.telemetry']"


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = edgewright.nothing


@pytest.mark.parametrize("module", ["convert", "gate", "load", "measure", "records"])
def test_the_examples_of_the_docstrings(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copytree(DIGITS, tmp_path / "digits")
    monkeypatch.chdir(tmp_path / "digits")
    failed, tried = doctest.testmod(import_module(f"edgewright.api.{module}"), optionflags=doctest.ELLIPSIS)
    assert tried > 0
    assert failed == 0


def test_every_result_has_the_common_part() -> None:
    for verb in VERBS:
        result = inspect.signature(getattr(edgewright, verb)).return_annotation
        assert issubclass(result, Result), verb


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["python", "-P", "-m", "edgewright.runtimes.worker", "litert"], False),
        (["python", "-m", "edgewright", "benchmark"], True),
        (["/usr/bin/edgewright", "benchmark"], True),
        (["python", "-m", "edgewright.cli"], True),
    ],
)
def test_a_start_of_the_program_is_noticed(words: list[str], expected: bool) -> None:
    assert starts_program(words) is expected


def test_the_reference_is_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "python_reference.py"), "--check"]
    assert subprocess.run(command).returncode == 0, "run python scripts/python_reference.py"
