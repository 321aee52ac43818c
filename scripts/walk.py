"""The functions that a plan passes through, from the command to the record: `python scripts/walk.py compile`.

It runs the command on the demo's model with a profile function, and lists each function of the package, once and in the
order of the first call, that receives a plan, or an object with the attribute `plan`. Processes that the command starts
are not followed.
"""

import argparse
import inspect
import json
import os
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any

MODEL, TASK, DATA, HELD_OUT = "digits.onnx", "task.toml", "calib.npz", "heldout.npz"
COMMANDS: dict[str, list[str]] = {
    "compile": ["compile", MODEL, "--runtime", "onnxruntime", "-o", "out"],
    "quantize": [
        *("quantize", MODEL, "--task", TASK, "--data", DATA, "--eval-data", HELD_OUT, "--samples", "20"),
        *("--runtime", "onnxruntime", "--no-measure", "-o", "out"),
    ],
    "prune": [
        *("prune", MODEL, "--task", TASK, "--val", HELD_OUT, "--method", "unstructured", "--sparsity", "0.5"),
        *("--max-drop", "50", "-o", "out"),
    ],
    "evaluate": ["evaluate", MODEL, "--task", TASK, "--data", HELD_OUT],
    "benchmark": ["benchmark", MODEL, "--processes", "1", "--seconds", "0.05"],
}


def main() -> None:
    """Print the functions, or with --json their number and names."""
    parser = argparse.ArgumentParser(description="List the functions that a plan passes through.")
    parser.add_argument("command", choices=sorted(COMMANDS))
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args()
    names = walk(COMMANDS[asked.command])
    if asked.json:
        print(json.dumps({"command": asked.command, "count": len(names), "functions": names}, indent=1))
    else:
        print("\n".join((*names, f"{len(names)} functions")))


def walk(words: list[str]) -> list[str]:
    """Run the command in a folder of its own, and return the functions that receive its plan."""
    from edgewright.cli.app import run

    names: dict[str, None] = {}

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event != "call" or "/edgewright/" not in code.co_filename:
            return
        if any(has_plan(frame.f_locals.get(name)) for name in inspect.getargs(code).args):
            module = code.co_filename.rpartition("/edgewright/")[2].removesuffix(".py").replace("/", ".")
            names.setdefault(f"{module}.{code.co_qualname}")

    with tempfile.TemporaryDirectory() as folder:
        os.environ["EDGEWRIGHT_HOME"] = str(Path(folder) / "home")
        digits = next(Path(sys.modules["edgewright"].__path__[0]).rglob(MODEL)).parent
        for name in (MODEL, TASK, DATA, HELD_OUT):
            (Path(folder) / name).write_bytes((digits / name).read_bytes())
        os.chdir(folder)
        output, sys.stdout = sys.stdout, sys.stderr
        sys.setprofile(note)
        try:
            code = run(words)
        finally:
            sys.setprofile(None)
            sys.stdout = output
            os.chdir("/")
    if code:
        sys.exit(f"{' '.join(words)} ended with {code}")
    return list(names)


def has_plan(value: object) -> bool:
    """Return whether the value is a plan, or an object of the package with a plan."""
    kind = type(value)
    if not kind.__module__.startswith("edgewright."):
        return False
    if kind.__name__.endswith("Plan"):
        return True
    names = [name for name in ("plan", "_plan") if inspect.getattr_static(value, name, None) is not None]
    return any(type(getattr(value, name)).__name__.endswith("Plan") for name in names)


if __name__ == "__main__":
    main()
