"""LiteRT files of three converters: cost of the conversion, content, correctness and speed.

Edgewright's writer (from ONNX, with and without its check), onnx2tf (from ONNX) and litert-torch (from the torch
module) alternate, each in a fresh process of its own environment. Seconds and memory are those after the imports. An
environment is given by an option, or is the one of `edgewright runtimes setup`; a converter without one is omitted. The
output is Markdown. Time ratios are against the writer's file: of p50, or with `--cpu` of CPU time, which depends less
on other load. With `--out` every conversion is kept, and a second start resumes.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from shutil import copyfile, rmtree
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.examine_tflite import Facts, examine
from benchmarks.matrix import REAL, Subject, find_real, find_suite_model, make_table, shorten
from benchmarks.measuring import describe_machine
from benchmarks.product import NoAnswerError, measure_files, ratios_by_file, run_edgewright
from benchmarks.suite.table import ENTRIES
from benchmarks.turns import Share, take_turns
from edgewright.bench.statistics import median_interval

CONVERTERS = ("writer", "writer-unchecked", "onnx2tf", "litert-torch")
ROOT = Path(__file__).parents[1]
DEFAULT = ("real_mobilenet_v2", *(entry.name for entry in ENTRIES))
HEADS = (
    "model", "converter", "s", "CPU s", "MB above imports", "peak MB", "file MB", "operators", "TRANSPOSE",
    "partitions", "dB", "time ratio",
)  # fmt: skip


@dataclass(kw_only=True)
class Conversion:
    """One converter on one model: the reports of its rounds, its file if there is one, and facts of that file."""

    converter: str
    reports: list[Mapping[str, float]] = field(default_factory=list)
    file: Path | None = None
    facts: Facts | None = None
    speed: Share | None = None
    reason: str = ""


def main() -> None:
    arguments = parse_arguments()
    pythons = find_pythons(arguments)
    print(describe_machine())
    print(f"converters: {', '.join(pythons)}; {arguments.rounds} rounds, medians with their intervals", flush=True)
    reasons: list[str] = []
    print(f"\n{make_table(HEADS, [])}", flush=True)
    for name in arguments.models:
        with TemporaryDirectory() as folder:
            out = (arguments.out or Path(folder)).absolute()
            conversions = try_converters(name, pythons, arguments, out / name)
        for conversion in conversions:
            print(f"| {' | '.join(make_row(name, conversion, reasons))} |", flush=True)
            if conversion.reason:
                print(f"{name}, {conversion.converter}: {conversion.reason}", file=sys.stderr)
    for number, reason in enumerate(reasons, 1):
        print(f"{'' if number > 1 else chr(10)}{number}. {reason}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=DEFAULT, metavar="NAME")
    parser.add_argument("--suite", type=Path, metavar="FOLDER", help="where the suite lies; made anew by default")
    parser.add_argument("--onnx2tf", type=Path, metavar="FOLDER", help="a virtual environment that has onnx2tf")
    parser.add_argument("--litert-torch", type=Path, metavar="FOLDER", help="one that has litert-torch")
    parser.add_argument("--rounds", type=int, default=5, help="conversions of each model by each converter")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="keep the conversions here, and go on from them")
    parser.add_argument("--limit", type=float, default=900, metavar="S", help="longest conversion")
    parser.add_argument("--processes", type=int, default=15, help="fresh processes per file, for the speed")
    parser.add_argument("--seconds", type=float, default=0.2, help="steady time per process, for the speed")
    parser.add_argument("--cpu", action="store_true", help="compare processor times instead of p50: on a busy machine")
    parser.add_argument("--no-speed", dest="speed", action="store_false", help="convert and compare numbers only")
    return parser.parse_args()


def find_pythons(arguments: argparse.Namespace) -> dict[str, Path]:
    """Return the interpreter of each available converter."""
    try:
        listed = run_edgewright(["runtimes", "list"], None, 120)["environments"]
    except NoAnswerError:
        listed = []
    ready = {one["name"]: Path(one["path"]) for one in listed if one["state"] == "ready"}
    given = {"onnx2tf": arguments.onnx2tf, "litert-torch": arguments.litert_torch}
    folders = {**ready, **{name: folder for name, folder in given.items() if folder}}
    own = dict.fromkeys(("writer", "writer-unchecked"), Path(sys.executable))
    return own | {name: folders[name].absolute() / "bin" / "python" for name in CONVERTERS if name in folders}


def try_converters(
    name: str, pythons: Mapping[str, Path], arguments: argparse.Namespace, folder: Path
) -> list[Conversion]:
    folder.mkdir(parents=True, exist_ok=True)
    subject = find_subject(name, arguments.suite or folder / "suite")
    conversions = [Conversion(converter=converter) for converter in pythons]
    for turn in range(arguments.rounds):
        for conversion in conversions:
            place = folder / f"{conversion.converter}-{turn}"
            if not conversion.reason and not find_kept(conversion, subject, place):
                convert(conversion, pythons[conversion.converter], subject, place, arguments.limit)
    for conversion in conversions:
        examine_conversion(conversion, subject)
    if arguments.speed:
        measure(conversions, folder / "home", arguments)
    return conversions


def find_subject(name: str, suite: Path) -> Subject:
    if name.removeprefix("real_") not in REAL or not name.startswith("real_"):
        return Subject(name=name, path=find_suite_model(name, suite))
    for subject in find_real(name):
        return subject
    raise SystemExit(f"{name} is not here")


def find_kept(conversion: Conversion, subject: Subject, folder: Path) -> bool:
    """Return the results of an earlier start; remove interrupted ones."""
    report, target, reason = folder / "report.json", folder / name_file(subject, conversion), folder / "reason.txt"
    if reason.is_file():
        conversion.reason = reason.read_text()
    elif report.is_file() and target.is_file():
        conversion.reports.append(json.loads(report.read_text()))
        conversion.file = target
    else:
        rmtree(folder, ignore_errors=True)
        return False
    return True


def name_file(subject: Subject, conversion: Conversion) -> str:
    return f"{subject.name}-{conversion.converter}.tflite"


def convert(conversion: Conversion, python: Path, subject: Subject, folder: Path, limit: float) -> None:
    """Run one conversion in its own folder; return its report, or the reason for a failure.

    It gets a copy of the source: onnx2tf writes what onnxsim made of it over the file that it was given.
    """
    folder.mkdir()
    copyfile(subject.path, folder / subject.path.name)
    target, report = folder / name_file(subject, conversion), folder / "report.json"
    task = make_task(conversion.converter, subject, folder, target, report)
    (folder / "task.json").write_text(json.dumps(task))
    environ = {**os.environ, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    command = [str(python), "-m", "benchmarks.convert_once", "task.json"]
    try:
        done = subprocess.run(
            command, cwd=folder, env=environ, capture_output=True, text=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        conversion.reason = f"not done within {limit:.0f} s"
    else:
        if not report.is_file() or not target.is_file():
            conversion.reason = last_words(done.stderr or done.stdout) or f"exit code {done.returncode}"
    if conversion.reason:
        (folder / "reason.txt").write_text(conversion.reason)
        return
    conversion.reports.append(json.loads(report.read_text()))
    conversion.file = target


def make_task(converter: str, subject: Subject, folder: Path, target: Path, report: Path) -> dict[str, Any]:
    weights = ""
    if converter == "litert-torch" and subject.name.startswith("real_"):
        from benchmarks.suite.given import save_weights

        weights = str(folder / "weights.npz")
        save_weights(subject.path, Path(weights))
    return {
        "converter": converter,
        "source": str(folder / subject.path.name),
        "entry": subject.name.removeprefix("real_"),
        "weights": weights,
        "shapes": list(subject.shapes),
        "target": str(target),
        "report": str(report),
    }


def last_words(text: str) -> str:
    """Return the last line with text; converters end with rules, colors and blank lines."""
    lines = [line.strip() for line in text.splitlines() if any(sign.isalnum() for sign in line)]
    return lines[-1] if lines else ""


def examine_conversion(conversion: Conversion, subject: Subject) -> None:
    """Examine the file in a separate process: a crash of LiteRT must not end the benchmark."""
    if conversion.file is None:
        return
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            conversion.facts = pool.submit(examine, conversion.file, subject.path, subject.shapes).result()
        except Exception as error:
            conversion.reason = f"{type(error).__name__}: {last_words(str(error))}"


def measure(conversions: Sequence[Conversion], home: Path, arguments: argparse.Namespace) -> None:
    """Time all files that run, alternating. The reference is the first one: the writer's if there is one.

    The check changes nothing of the file, so the unchecked one is not run again.
    """
    measured = [
        conversion
        for conversion in conversions
        if conversion.file and conversion.facts and conversion.converter != "writer-unchecked"
    ]
    files = [conversion.file for conversion in measured if conversion.file]
    if len(files) < 2:
        return
    try:
        shares = (time_turns if arguments.cpu else time_sessions)(files, home, arguments)
    except (NoAnswerError, BrokenProcessPool) as error:
        for conversion in measured:
            conversion.reason = str(error)
        return
    for conversion, share in zip(measured, shares, strict=True):
        conversion.speed = share


def time_turns(files: Sequence[Path], home: Path, arguments: argparse.Namespace) -> list[Share]:
    return take_turns(files, processes=arguments.processes, seconds=arguments.seconds)


def time_sessions(files: Sequence[Path], home: Path, arguments: argparse.Namespace) -> list[Share]:
    """Time the files with `edgewright benchmark`."""
    answer = measure_files(files, home, processes=arguments.processes, seconds=arguments.seconds)
    return [make_share(row) for row in ratios_by_file(answer, files).values()]


def make_share(row: Mapping[str, Any]) -> Share:
    found = row["comparison"] or {"ratio": 1.0, "low": None, "high": None}
    return Share(row["latency_us"]["p50"] / 1e3, found["ratio"], found["low"], found["high"])


def make_row(model: str, conversion: Conversion, reasons: list[str]) -> list[str]:
    if conversion.reason and (reason := shorten(conversion.reason)) not in reasons:
        reasons.append(reason)
    mark = f" [{reasons.index(shorten(conversion.reason)) + 1}]" if conversion.reason else ""
    if conversion.file is None:
        return [model, conversion.converter, f"no{mark}", *["–"] * (len(HEADS) - 3)]
    costs = [format_median(conversion, name) for name in ("seconds", "cpu_seconds")]
    memory = [format_megabytes(conversion, name) for name in ("grown_bytes", "peak_bytes")]
    return [model, conversion.converter, *costs, *memory, *format_file(conversion, mark)]


def format_median(conversion: Conversion, name: str) -> str:
    found = median_interval([report[name] for report in conversion.reports])
    interval = f" ({found.low:.3g}–{found.high:.3g})" if found.low is not None and found.high is not None else ""
    return f"{found.value:.3g}{interval}"


def format_megabytes(conversion: Conversion, name: str) -> str:
    known = [report[name] for report in conversion.reports if report[name] is not None]
    return f"{median_interval(known).value / 1e6:.0f}" if known else "–"


def format_file(conversion: Conversion, mark: str) -> list[str]:
    if conversion.facts is None:
        return ["–"] * 4 + [f"no{mark}", "–"]
    facts = conversion.facts
    counts = [str(count) for count in (facts.operators, facts.transposes, facts.partitions)]
    return [f"{facts.bytes / 1e6:.2f}", *counts, f"{facts.sqnr_db:.0f}", format_ratio(conversion) + mark]


def format_ratio(conversion: Conversion) -> str:
    if conversion.speed is None:
        return "–"
    time_ms, ratio, low, high = conversion.speed
    interval = "" if low is None or low == high else f" ({low:.2f}–{high:.2f})"
    return f"{ratio:.2f}{interval}, {time_ms:.3g} ms"


if __name__ == "__main__":
    main()
