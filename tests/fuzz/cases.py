"""Fuzz cases: `make_case("onnx", 123)` gives the same files and commands every time, on every machine.

A case is a set of files in an otherwise empty current folder and the commands that are run there. The mutations are
seeded by the kind and the number; the files that are mutated (the seeds) are written by the tests' own model writers.
"""

import random
from dataclasses import dataclass, field
from pathlib import Path

KINDS = ("onnx", "tflite", "export", "settings")
# How many of 16 cases are of each kind: the 16,000 of a long run are 10,000 models, 5,000 exports and 1,000 settings.
SHARES = {"onnx": 7, "tflite": 3, "export": 5, "settings": 1}


@dataclass
class Case:
    """One case.

    Attributes:
        label: the seed and the mutations, for the report.
        files: content by path, relative to the current folder.
        commands: words of the command line; `{out}` in a word stands for the output folder, `{run}` for the id of the
            run that was imported before. A word that begins with `:` names a check of `checks.py` instead.
    """

    kind: str
    number: int
    label: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    commands: list[list[str]] = field(default_factory=list)


def make_case(kind: str, number: int, seeds: Path) -> Case:
    """Return a case; `seeds` is the folder that `seeds.write_seeds` filled."""
    from tests.fuzz import export_cases, onnx_cases, settings_cases, tflite_cases

    makers = {
        "onnx": onnx_cases.fill,
        "tflite": tflite_cases.fill,
        "export": export_cases.fill,
        "settings": settings_cases.fill,
    }
    case = Case(kind, number)
    makers[kind](case, random.Random(f"{kind}:{number}"), seeds)
    return case


def choose_cases(count: int, start: int = 0) -> list[tuple[str, int]]:
    """Return `count` kinds and numbers, mixed by `SHARES`; those of each kind are numbered from `start` on."""
    pattern = sorted(((place + 0.5) / share, kind) for kind, share in SHARES.items() for place in range(share))
    numbers = dict.fromkeys(KINDS, start)
    chosen = []
    for place in range(count):
        kind = pattern[place % len(pattern)][1]
        chosen.append((kind, numbers[kind]))
        numbers[kind] += 1
    return chosen
