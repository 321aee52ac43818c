"""Common behavior of all commands: exit codes, errors, help, settings, pipes and terminals."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import click
import msgspec
import pytest

from edgewright import __version__
from edgewright.cli import app
from edgewright.cli.app import edgewright, run
from edgewright.cli.registry import ALIASES, COMMANDS, find_command, list_options
from edgewright.errors import EdgewrightError, UsageError
from edgewright.schema.plan import BenchmarkPlan, CompilePlan, DistillPlan, EvaluatePlan, PrunePlan, QuantizePlan
from tests.cli.calling import QUICK, Call
from tests.error_classes import OURS

SCRIPT = "import sys; from edgewright.cli.app import run; sys.exit(run(sys.argv[1:]))"
COMMAND = [sys.executable, "-c", SCRIPT]


def all_commands(command: click.Command = edgewright, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from all_commands(found, (*path, name))


# Exit codes and errors


def raiser(error: BaseException) -> object:
    def raise_it(*_: object, **__: object) -> NoReturn:
        raise error

    return raise_it


@pytest.mark.parametrize("kind", OURS)
def test_every_error_has_its_code_and_three_lines(
    kind: type[EdgewrightError], call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.edgewright, "main", raiser(kind("it broke", "first\nsecond", "do this")))
    result = call("doctor")
    assert result.code == kind.exit_code
    assert result.out == ""
    assert result.err == "Error: it broke\n  Why: first\n       second\n  Try: do this\n"


def test_an_error_without_a_cause(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.edgewright, "main", raiser(UsageError("it broke")))
    assert call("doctor").err == "Error: it broke\n  Try: edgewright COMMAND --help lists a command's options\n"


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_an_encoding_without_a_character_replaces_it_and_json_escapes_it(folder: Path, encoding: str) -> None:
    environ = {**os.environ, "PYTHONIOENCODING": encoding}
    tagged = ("benchmark", "m.pretend", *map(str, QUICK), "--tag", "é–=1", "--json")
    done = subprocess.run([*COMMAND, *tagged], cwd=folder, env=environ, capture_output=True)
    assert done.returncode == 0, done.stderr
    listed = subprocess.run([*COMMAND, "runs", "list", "--json"], cwd=folder, env=environ, capture_output=True)
    assert msgspec.json.decode(listed.stdout)["runs"][0]["tags"]["é–"] == "1"
    shown = subprocess.run([*COMMAND, "runs", "list"], cwd=folder, env=environ, capture_output=True)
    assert (shown.returncode, shown.stderr) == (0, b"")


def test_a_file_that_may_not_be_accessed(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    denied = PermissionError(13, "Permission denied", "/root/.config/edgewright/config.toml")
    monkeypatch.setattr(app.edgewright, "main", raiser(denied))
    result = call("doctor")
    assert result.code == 1
    assert result.error()[:2] == ("/root/.config/edgewright/config.toml cannot be used", "Permission denied")


def test_an_internal_error(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.edgewright, "main", raiser(ZeroDivisionError("by zero")))
    result = call("doctor")
    assert result.code == 1
    what, why, try_this = result.error()
    assert "internal error" in what
    assert why == "ZeroDivisionError: by zero"
    assert "--debug" in try_this


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_ctrl_c_anywhere(call: Call, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    monkeypatch.setattr(app.edgewright, "main", raiser(error))
    assert call("doctor").code == 130


def test_debug_shows_the_traceback(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("benchmark", "absent.onnx")
    assert "Traceback" not in call(*words).err
    for result in (call("--debug", *words), call(*words, "--debug")):
        assert "Traceback" in result.err
        assert "ModelNotFound" in result.err
        assert result.code == 2
    monkeypatch.setenv("EDGEWRIGHT_DEBUG", "1")
    assert "Traceback" in call(*words).err
    monkeypatch.setenv("EDGEWRIGHT_DEBUG", "0")
    assert "Traceback" not in call(*words).err


@pytest.mark.parametrize(
    ("words", "what", "why"),
    [
        (["nope"], "nope", "benchmark"),
        (["runs", "nope"], "nope", "export"),
        (["benchmark", "m.pretend", "--nope"], "--nope", "edgewright benchmark"),
        (["benchmark", "m.pretend", "--threads", "two"], "two", "edgewright benchmark"),
        (["benchmark", "m.pretend", "--threads"], "--threads", ""),
        (["benchmark", "m.pretend", "--shape", "x=0"], "x=0", "edgewright benchmark"),
        (["benchmark", "m.pretend", "--affinity", "3-1"], "3-1", "edgewright benchmark"),
        (["benchmark", "m.pretend", "--tag", "x"], "NAME=VALUE", "edgewright benchmark"),
        (["compare"], "A B", "edgewright compare"),
        (["runs", "show"], "ID", "edgewright runs show"),
        (["runs", "list", "--state", "lost"], "lost", "edgewright runs list"),
        (["runs", "list", "--limit", "0"], "0", "edgewright runs list"),
        (["runs", "list", "--limit", "9" * 30], "999", "edgewright runs list"),
    ],
)
def test_a_wrong_command_line_has_three_lines_too(call: Call, words: list[str], what: str, why: str) -> None:
    result = call(*words)
    assert result.code == 2
    assert result.out == ""
    said, because, try_this = result.error()
    assert what in said
    assert why in because
    assert "--help" in try_this


# Help and names


@pytest.mark.parametrize("path", list(all_commands()), ids=" ".join)
def test_help_of_every_command(call: Call, path: tuple[str, ...]) -> None:
    short, long = call(*path, "-h"), call(*path, "--help")
    assert (short.code, short.err) == (0, "")
    assert short == long
    assert f"Usage: {' '.join(['edgewright', *path])}" in short.out


def test_every_option_has_a_help_text() -> None:
    context = click.Context(edgewright)
    for path in all_commands():
        command: click.Command = edgewright
        for name in path:
            assert isinstance(command, click.Group)
            found = command.get_command(context, name)
            assert found is not None
            command = found
        assert all(option.help for option in list_options(command).values()), path
        assert command.help, path


def test_commands_are_listed_in_order_of_use(call: Call) -> None:
    out = call("--help").out
    places = [out.index(f"\n  {name} ") for name in COMMANDS]
    assert places == sorted(places)


def test_nothing_given_is_a_question(call: Call) -> None:
    result = call("runs")
    assert (result.code, result.out) == (2, "")
    assert "Usage: edgewright runs" in result.err


def test_version(call: Call) -> None:
    assert call("--version").out == f"edgewright, version {__version__}\n"


@pytest.mark.parametrize("alias", [alias for alias, name in ALIASES.items() if name == "benchmark"])
def test_aliases(call: Call, alias: str) -> None:
    assert call(alias, "m.pretend", "--dry-run").out == call("benchmark", "m.pretend", "--dry-run").out
    assert "Usage: edgewright benchmark" in call(alias, "-h").out


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_every_alias_is_its_command(call: Call, alias: str, name: str) -> None:
    assert f"Usage: edgewright {name}" in call(alias, "--help").out


def test_underscores_do_for_hyphens(call: Call) -> None:
    plain = call("benchmark", "m.pretend", "--dry-run", "--warmup-seconds", "3", "--no-layers")
    assert plain.code == 0
    assert call("benchmark", "m.pretend", "--dry_run", "--warmup_seconds", "3", "--no_layers") == plain


# Pipes and terminals


def test_a_reader_that_has_enough(folder: Path) -> None:
    process = subprocess.Popen([*COMMAND, "runs", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()  # before anything is written
    assert process.stderr is not None
    said = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait() == 0
    assert "Traceback" not in said
    assert "BrokenPipe" not in said


def test_a_reader_that_has_enough_does_not_open_a_gate(folder: Path) -> None:
    words = ("benchmark", "m.pretend", *QUICK[:-1], "-p", "fallback=0.5", "--fail-on-fallback", "0")
    process = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    said = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait() == 3, said
    assert "Broken" not in said


def read_terminal(*words: str, columns: int = 250, **environ: str) -> str:
    """Return the output of a command in a terminal."""
    import fcntl
    import struct
    import termios

    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    ours_only = {"COLUMNS", "LINES"}  # pytest-xdist sets them, and they take precedence over the size of the terminal
    inherited = {name: value for name, value in os.environ.items() if name not in ours_only}
    environment = {**inherited, "TERM": "xterm-256color", **environ}
    process = subprocess.Popen([*COMMAND, *words], stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    said = b""
    try:
        while piece := os.read(ours, 4096):
            said += piece
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert process.wait() == 0
    return said.decode()


def test_a_terminal_gets_a_table_without_unwanted_colors(call: Call) -> None:
    quick = ("--on", "pretend", "--processes", "1", "--runs", "3", "--no-layers", "--tag", "note=a[b]c")
    assert call("benchmark", "m.pretend", *quick).code == 0
    said = read_terminal("runs", "list", NO_COLOR="1")
    assert "m.pretend" in said
    assert "\t" not in said
    colors = [f"\x1b[{number}" for number in (*range(30, 38), *range(90, 98))]
    assert not any(color in said for color in colors)
    assert "a[b]c" in "".join(said.split())


def test_a_narrow_terminal_gets_no_paths_it_has_no_space_for(call: Call) -> None:
    rows = {row["name"]: row for row in call("doctor").rows()}
    if any(row["state"].startswith("missing") for row in rows.values()):
        pytest.skip("a runtime is missing here, and the reason is shown on any terminal")
    path = rows["onnxruntime"]["detail"]
    runtimes = read_terminal("doctor", columns=40).split("Problems for")[0]
    assert "onnxruntime" in runtimes
    assert "Hidden columns: detail." in runtimes
    assert "onnxruntime/" not in runtimes
    assert path in read_terminal("doctor", columns=len(path) + 120).split("Problems for")[0]


def test_names_of_a_model_cannot_speak_to_the_terminal(call: Call) -> None:
    Path("\x1b]0;mine\x07\x9b2J.onnx").write_bytes(b"no model")
    result = call("benchmark", "\x1b]0;mine\x07\x9b2J.onnx")
    assert result.code == 6
    assert "\ufffd]0;mine\ufffd\ufffd2J.onnx" in result.err
    assert not {"\x1b", "\x07", "\x9b"} & set(result.err)


def test_every_command_is_in_its_module() -> None:
    assert run(["--version"]) == 0
    for name, module in COMMANDS.items():
        folders = ("", "setup.", "field.")
        places = [f"edgewright.cli.commands.{folder}{name}" for folder in folders]
        assert module in [*places, f"edgewright.cli.commands.{name}.group"]


# Invalid paths


@pytest.mark.parametrize(
    "words", [("analyze", "m\udcff.onnx"), ("compile", "m.onnx", "-o", "a\udcff/b"), ("runs", "show", "\udcff")]
)
def test_words_that_are_not_utf_8(call: Call, words: tuple[str, ...]) -> None:
    result = call(*words)
    assert result.code == 2
    assert "is not UTF-8: " in result.error()[0]


def test_a_place_that_is_not_utf_8(call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEWRIGHT_HOME", f"{folder}/\udcff")
    assert "EDGEWRIGHT_HOME is not UTF-8" in call("runs", "list").error()[0]
    monkeypatch.delenv("EDGEWRIGHT_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", f"{folder}/\udcff")
    assert "the folder of the store is not UTF-8" in call("runs", "list").error()[0]
    odd = folder / "\udcff"
    odd.mkdir()
    monkeypatch.chdir(odd)
    assert "the current folder is not UTF-8" in call("runs", "list").error()[0]


@pytest.mark.parametrize(
    "words",
    [
        ("compile", "m.onnx", "-o", ""),
        ("compile", "m.onnx", "--inputs", ""),
        ("compile", "m.onnx", "--task", ""),
        ("quantize", "m.onnx", "--recipe", ""),
        ("benchmark", "m.pretend", "--plan", ""),
        ("analyze", ""),
        ("ui", "--work-folder", ""),
    ],
)
def test_an_empty_path(call: Call, words: tuple[str, ...]) -> None:
    result = call(*words)
    assert result.code == 2
    assert "is empty" in result.error()[0]


@pytest.mark.parametrize("plan", [BenchmarkPlan, CompilePlan, EvaluatePlan, QuantizePlan, PrunePlan, DistillPlan])
def test_an_option_has_the_default_of_its_plan(plan: type[msgspec.Struct]) -> None:
    command = find_command(plan.__name__.removesuffix("Plan").lower())
    assert command is not None
    defaults = {field.name: field.default for field in msgspec.structs.fields(plan)}
    options = {one.name: one.default for one in command.params if type(one.default) in (bool, int, float, str)}
    shared = options.keys() & defaults.keys()
    assert len(shared) >= 3
    assert {name: options[name] for name in shared} == {name: defaults[name] for name in shared}
