"""`edgewright init`, `edgewright completion`, and `edgewright` without arguments."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgewright.cli.completion import SHELLS
from edgewright.flows.demo.flow import get_digits_folder
from edgewright.flows.tasks.project import SETTINGS, TASK, TEMPLATE
from tests.cli.calling import QUICK, Call
from tests.models.onnx_files import write_conv_net


def test_init_writes_a_project_that_every_command_reads(call: Call, folder: Path) -> None:
    write_conv_net(folder / "m.onnx", batch="n")
    result = call("init", "m.onnx")
    assert (result.code, result.out) == (0, f"{SETTINGS}\n{TASK}\n")
    assert "Check: mean, std, color" in result.err
    settings = (folder / SETTINGS).read_text()
    assert settings.count('# shape = ["x=1,3,8,8"]') == 2
    used = re.sub(r"^# (?=[a-z_]+ = )", "", settings, flags=re.MULTILINE)
    assert used.count("\n") == TEMPLATE.count("\n")
    (folder / SETTINGS).write_text(used)
    assert call("task", "show", TASK, "--model", "m.onnx").code == 0  # every setting is known and has the right type
    again = call("init", "m.onnx")
    assert again.code == 2
    assert again.error()[0] == "edgewright.toml and task.toml already exist"
    assert (folder / SETTINGS).read_text() == used
    assert call("init", "m.onnx", "--force").code == 0
    assert (folder / SETTINGS).read_text() == settings


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_prints_the_script_of_a_shell(call: Call, shell: str) -> None:
    result = call("completion", shell)
    assert result.code == 0
    assert f"_EDGEWRIGHT_COMPLETE={shell}_complete" in result.out


def complete(folder: Path, *words: str) -> list[str]:
    """Return what bash gets for the last word."""
    environ = {**os.environ, "_EDGEWRIGHT_COMPLETE": "bash_complete", "COMP_CWORD": str(len(words))}
    environ["COMP_WORDS"] = " ".join(["edgewright", *words])
    code = "import sys; from edgewright.cli.app import run; sys.exit(run([]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_runtimes_run_ids_and_files_complete(call: Call, folder: Path) -> None:
    assert call("benchmark", "m.pretend", *QUICK).code == 0
    (run,) = call("runs", "list", "--json").json()["runs"]
    assert complete(folder, "benchmark", "m", "--runtime", "ncnn,lit") == ["plain,ncnn,litert"]
    assert complete(folder, "runs", "show", run["id"][:4]) == [f"plain,{run['id']}"]
    assert complete(folder, "compare", "m") == ["file,m"]
    assert complete(folder, "quantize", "d") == ["file,d"]


def test_the_next_command_is_quoted_for_the_shell(call: Call, folder: Path) -> None:
    name = "$(touch pwned).onnx"
    shutil.copy(get_digits_folder() / "digits.onnx", folder / name)
    result = call("init", name)
    assert f"Next: edgewright compile '{name}'\n" in result.out + result.err
    assert call("compile", name, "--runtime", "onnxruntime", "--no-check").code == 0
    assert call().rows()[1]["command"] == f"edgewright compile '{name}'"


def test_without_arguments_the_next_step_is_shown(call: Call, folder: Path) -> None:
    model = get_digits_folder() / "digits.onnx"
    first = call()
    assert first.code == 0
    assert "Next: edgewright init MODEL\n" in first.out
    assert call("init", model).code == 0
    assert "Next: edgewright compile MODEL\n" in call().out
    assert call("compile", model, "--runtime", "onnxruntime", "--no-check").code == 0
    assert [path.name for path in folder.glob("digits-artifacts/*.onnx")] == ["digits-onnxruntime-fp32.onnx"]
    then = call()
    assert "Next: edgewright benchmark digits-artifacts\n" in then.out
    assert then.rows()[3]["command"] == "edgewright quantize digits.onnx --task task.toml --data DATA"
    assert then.rows()[1]["last run"].endswith(" digits.onnx")


@pytest.mark.parametrize(
    ("words", "what", "hint"),
    [
        (("analyse",), "No such command 'analyse'. Did you mean 'analyze'?", "edgewright analyze --help"),
        (("runs", "lst"), "No such command 'lst'. Did you mean 'list'?", "edgewright runs list --help"),
        (("zzz",), "No such command 'zzz'", "edgewright --help"),
    ],
)
def test_similar_commands_are_suggested(call: Call, words: tuple[str, ...], what: str, hint: str) -> None:
    result = call(*words)
    assert result.code == 2
    assert (result.error()[0], result.error()[2]) == (what, hint)


def test_steps_of_other_runs_are_no_models_of_the_user(call: Call, folder: Path) -> None:
    shutil.copy(get_digits_folder() / "digits.onnx", folder / "own.onnx")
    words = ("--task", get_digits_folder() / "task.toml", "--data", get_digits_folder() / "heldout.npz")
    assert call("quantize", "own.onnx", *words, "--runtime", "onnxruntime", "--samples", 20, "--no-measure").code == 0
    rows = call().rows()
    assert rows[1]["command"] == "edgewright compile own.onnx"
    assert rows[3]["last run"].endswith(" own.onnx")
