"""Every model of the suite, and the real ones, in every runtime: conversion, equality of outputs, speed.

Models are converted by `edgewright compile` and measured by `edgewright benchmark`, all runtimes of one model
interleaved. ONNX Runtime is the reference of outputs and speed. The output is Markdown. With `--out` each model's
result is kept, and a second start resumes.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import exp, log
from pathlib import Path
from shutil import rmtree
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.measuring import MOBILENET, describe_machine
from benchmarks.product import NoAnswerError, measure_files, ratios_by_file, run_edgewright
from benchmarks.suite.table import ENTRIES
from edgewright.runtimes.table import TABLE

REFERENCE = "onnxruntime"
RUNTIMES = tuple(info.name for info in TABLE.values() if info.writes and info.needs and info.reads)
REAL: dict[str, tuple[str, ...]] = {
    "mobilenet_v2": ("x=1,3,224,224",),
    "resnet8_cifar10": ("x=1,3,32,32",),
    "dscnn_kws": ("x=1,1,49,10",),
}
EXACT_DB = 200.0
REASON = 200  # characters of a reason in the markdown; the kept results have it whole


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One model in one runtime. `ratio` is its time over that of the reference; unknown values are None or empty."""

    runtime: str
    state: str
    reason: str = ""
    bytes: int | None = None
    seconds: float | None = None
    cosine: float | None = None
    sqnr_db: float | None = None
    max_abs: float | None = None
    p50_us: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    verdict: str = ""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model: its name in the table, its file (created when first used), and sizes of its dynamic inputs."""

    name: str
    path: Path
    shapes: tuple[str, ...] = ()


Results = dict[str, list[Cell]]


def main() -> None:
    arguments = parse_arguments()
    with TemporaryDirectory() as name:
        out = arguments.out or Path(name)
        out.mkdir(parents=True, exist_ok=True)
        results = read_results(out)
        for subject in list_subjects(arguments, out):
            if subject.name not in results:
                results[subject.name] = try_model(subject, arguments, out)
                keep_results(results, out)
                print(f"{subject.name}: {', '.join(map(format_cell, results[subject.name]))}", file=sys.stderr)
    print(describe_machine())
    print(make_markdown(results, arguments.runtimes))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", metavar="NAME", help="names of the table, or ONNX files; default: all")
    parser.add_argument("--runtimes", nargs="+", default=RUNTIMES, choices=RUNTIMES, metavar="NAME")
    parser.add_argument("--suite", type=Path, metavar="FOLDER", help="where the suite lies; made anew by default")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="keep the results here, and go on from them")
    parser.add_argument("--processes", type=int, default=9, help="fresh processes per candidate")
    parser.add_argument("--seconds", type=float, default=0.2, help="steady time per process")
    parser.add_argument("--no-speed", dest="speed", action="store_false", help="numbers only")
    return parser.parse_args()


def list_subjects(arguments: argparse.Namespace, out: Path) -> Iterable[Subject]:
    """Yield the requested models, each made when it is needed. Absent real ones are omitted with a message."""
    for name in arguments.models or [*(f"real_{name}" for name in REAL), *(entry.name for entry in ENTRIES)]:
        if name.endswith(".onnx"):
            yield Subject(name=Path(name).stem, path=Path(name))
        elif name.startswith("real_"):
            yield from find_real(name)
        else:
            yield Subject(name=name, path=find_suite_model(name, arguments.suite or out / "suite"))


def find_real(name: str) -> Iterable[Subject]:
    stem = name.removeprefix("real_")
    path = MOBILENET.parent / f"{stem}.onnx"
    if path.is_file():
        yield Subject(name=name, path=path, shapes=REAL[stem])
    else:
        print(f"{name}: {path.name} is not here", file=sys.stderr)


def find_suite_model(name: str, folder: Path) -> Path:
    path = folder / f"{name}.onnx"
    if not path.is_file():
        subprocess.run([sys.executable, "-m", "benchmarks.suite", "--out", str(folder), "--only", name], check=True)
    return path


def try_model(subject: Subject, arguments: argparse.Namespace, out: Path) -> list[Cell]:
    """Compile for all runtimes, then measure all artifacts, interleaved."""
    folder, home = out / "artifacts", out / "home"
    sizes = [word for shape in subject.shapes for word in ("--shape", shape)]
    wanted = ["--runtime", ",".join(arguments.runtimes), "--precision", "fp32", "-o", str(folder)]
    try:
        report = run_edgewright(["compile", str(subject.path), *wanted, *sizes], home, 1800)
    except NoAnswerError as error:
        return [Cell(runtime=runtime, state="failed", reason=str(error)) for runtime in arguments.runtimes]
    speeds: Mapping[str, Mapping[str, Any]] = {}
    if arguments.speed:
        speeds = measure(subject, report["artifacts"], home, arguments)
    cells = [make_cell(artifact, speeds) for artifact in report["artifacts"]]
    rmtree(folder, ignore_errors=True)
    return cells


def measure(
    subject: Subject, artifacts: Sequence[Mapping[str, Any]], home: Path, arguments: argparse.Namespace
) -> dict[str, Mapping[str, Any]]:
    """Return rows by runtime; a runtime that cannot run here has none."""
    runnable = {a["runtime"]: Path(a["path"]) for a in artifacts if a["state"] == "ok" and a["numerics"]}
    reference = runnable.pop(REFERENCE, subject.path)
    files = [reference, *runnable.values()]
    try:
        answer = measure_files(
            files, home, processes=arguments.processes, seconds=arguments.seconds, shapes=subject.shapes
        )
    except NoAnswerError as error:
        return {name: {"error": str(error)} for name in (REFERENCE, *runnable)}
    rows = ratios_by_file(answer, files)
    return {name: rows[file] for name, file in zip((REFERENCE, *runnable), files, strict=True) if file in rows}


def make_cell(artifact: Mapping[str, Any], speeds: Mapping[str, Mapping[str, Any]]) -> Cell:
    numerics = artifact["numerics"] or {}
    row = speeds.get(artifact["runtime"], {})
    comparison = row.get("comparison") or {}
    return Cell(
        runtime=artifact["runtime"],
        state=artifact["state"],
        reason=artifact["reason"] or row.get("error") or "",
        bytes=artifact["bytes"],
        seconds=artifact["seconds"],
        cosine=numerics.get("cosine"),
        sqnr_db=numerics.get("sqnr_db"),
        max_abs=numerics.get("max_abs"),
        p50_us=(row.get("latency_us") or {}).get("p50"),
        ratio=comparison.get("ratio"),
        low=comparison.get("low"),
        high=comparison.get("high"),
        verdict=comparison.get("verdict", ""),
    )


def read_results(out: Path) -> Results:
    path = out / "results.json"
    kept = json.loads(path.read_text()) if path.is_file() else {}
    return {model: [Cell(**cell) for cell in cells] for model, cells in kept.items()}


def keep_results(results: Results, out: Path) -> None:
    plain = {model: [asdict(cell) for cell in cells] for model, cells in results.items()}
    (out / "results.json").write_text(json.dumps(plain, indent=1))


def make_markdown(results: Results, runtimes: Sequence[str]) -> str:
    """Print the matrix, the sums per runtime, and the reasons that the matrix refers to."""
    reasons: list[str] = []

    def point_to(cell: Cell) -> str:
        reason = shorten(cell.reason)
        if reason not in reasons:
            reasons.append(reason)
        return f" [{reasons.index(reason) + 1}]"

    rows = [[model, *make_row(cells, runtimes, point_to)] for model, cells in results.items()]
    sums = [sum_up(runtime, [pick(cells, runtime) for cells in results.values()]) for runtime in runtimes]
    heads = (
        "runtime",
        "converted",
        "same outputs",
        "lowest dB",
        "lowest cosine",
        "time ratio, mean (range)",
        "faster / slower",
    )
    listed = "\n".join(f"{number}. {reason}" for number, reason in enumerate(reasons, 1))
    return "\n\n".join((make_table(("model", *runtimes), rows), make_table(heads, sums), listed))


def make_row(cells: Sequence[Cell], runtimes: Sequence[str], point_to: Callable[[Cell], str]) -> list[str]:
    found = [pick(cells, runtime) for runtime in runtimes]
    return ["–" if cell is None else format_cell(cell) + (point_to(cell) if cell.reason else "") for cell in found]


def pick(cells: Sequence[Cell], runtime: str) -> Cell | None:
    return next((cell for cell in cells if cell.runtime == runtime), None)


def format_cell(cell: Cell) -> str:
    """Format a cell: `no` is not convertible, `wrong` has other outputs, `failed` is any other failure."""
    if cell.state != "ok":
        known = f"wrong, {cell.sqnr_db:.0f} dB" if cell.sqnr_db is not None else "failed"
        return "no" if cell.state == "unsupported" else known
    if cell.sqnr_db is None:
        return "converted, not run"
    numbers = "exact" if cell.sqnr_db >= EXACT_DB else f"{cell.sqnr_db:.0f} dB"
    return f"{numbers}{format_speed(cell)}"


def format_speed(cell: Cell) -> str:
    if cell.ratio is not None:
        interval = f" ({cell.low:.2f}–{cell.high:.2f})" if cell.low is not None and cell.high is not None else ""
        return f", {cell.ratio:.2f}×{interval}"
    return "" if cell.p50_us is None else f", {cell.p50_us / 1e3:.2f} ms"


def shorten(reason: str) -> str:
    """Return the first and the last line without the machine's folders; a traceback has its message at the end."""
    lines = [line.strip() for line in reason.splitlines() if line.strip()] or [""]
    text = lines[0] if len(lines) == 1 else f"{lines[0]} … {lines[-1]}"
    text = re.sub(r"(/[\w.+-]+)+/", "", text)
    return text if len(text) <= REASON else f"{text[: REASON - 1]}…"


def sum_up(runtime: str, cells: Sequence[Cell | None]) -> list[str]:
    known = [cell for cell in cells if cell is not None]
    equal = [cell for cell in known if cell.state == "ok" and cell.sqnr_db is not None]
    made = [cell for cell in known if cell.state == "ok" or cell.sqnr_db is not None]
    ratios = [cell.ratio for cell in equal if cell.ratio is not None]
    mean = f"{exp(fmean(map(log, ratios))):.2f}× ({min(ratios):.2f}–{max(ratios):.2f})" if ratios else "–"
    verdicts = [cell.verdict for cell in equal]
    return [
        runtime,
        f"{len(made)} of {len(known)}",
        f"{len(equal)} of {len(known)}",
        f"{min(cell.sqnr_db or 0.0 for cell in equal):.0f}" if equal else "–",
        f"{min(cell.cosine or 0.0 for cell in equal):.7f}" if equal else "–",
        mean,
        f"{verdicts.count('faster')} / {verdicts.count('slower')}",
    ]


def make_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
