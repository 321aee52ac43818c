"""Compare `analyze` with `compile`: the models for which one says yes and the other no.

    python -m benchmarks.analyze_agreement [--runtimes NAMES] [--every N] [--save FILE] PATH...

PATH is a folder or a file; every ONNX and TFLite file below it is a model, and one with the same bytes is taken once.
`python -m pytest --basetemp=FOLDER -o tmp_path_retention_policy=all tests/…` keeps the models of the tests, and
`--probes FOLDER` writes those of the support tables first. A model is compiled by the runtime's own compiler, in a
process of its own, without the comparison of the outputs. Models that neither command reads are left out.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from edgewright.errors import EdgewrightError
from edgewright.flows.analyze.flow import analyze
from edgewright.flows.compile.cells import read_source_precision
from edgewright.flows.compile.sources import prepare_source
from edgewright.formats.files import read_model
from edgewright.runtimes.table import find_runtime, import_runtime
from edgewright.runtimes.wire import CompileRequest
from edgewright.schema.plan import CompileCell, CompilePlan

RUNTIMES = ("onnxruntime", "litert", "ncnn", "mnn", "openvino")
SECONDS = 60
MOST_BYTES = 30_000_000
UNREADABLE = "unreadable"


class Comparison(NamedTuple):
    """Both verdicts on one model for one runtime."""

    model: str
    runtime: str
    analyzed: str
    reason: str
    compiled: str

    def agrees(self) -> bool:
        return (self.analyzed == "compiles") == (not self.compiled)


def main() -> int:
    if sys.argv[1:2] == ["--compile"]:
        compile_models(sys.argv[2])
        return 0
    parser = argparse.ArgumentParser()
    parser.add_argument("--runtimes", default=",".join(RUNTIMES))
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--probes", type=Path)
    parser.add_argument("--save", type=Path)
    parser.add_argument("--compiled", type=Path, help="verdicts of compile, kept for further runs")
    parser.add_argument("paths", type=Path, nargs="+")
    asked = parser.parse_args()
    if asked.probes:
        write_probes(asked.probes)
    models = find_models(asked.paths)[:: asked.every]
    runtimes = asked.runtimes.split(",")
    found = list(compare(models, runtimes, asked.compiled))
    if asked.save:
        asked.save.write_text(json.dumps([one._asdict() for one in found], indent=1))
    return report(found)


def find_models(paths: Sequence[Path]) -> list[Path]:
    """Return each model once, in the order of the names."""
    files = [file for path in paths for file in ([path] if path.is_file() else sorted(path.rglob("*")))]
    chosen = [file for file in files if file.suffix in (".onnx", ".tflite") and file.is_file()]
    known = {sha256(file.read_bytes()).digest(): file for file in reversed(chosen) if file.stat().st_size < MOST_BYTES}
    return sorted(known.values())


def write_probes(folder: Path) -> None:
    from tests.runtimes.support.models import build
    from tests.runtimes.support.probes import probes

    folder.mkdir(exist_ok=True, parents=True)
    for place, probe in enumerate(probes()):
        (folder / f"{place:04} {probe.name.replace('/', '-')}.onnx").write_bytes(build(probe).SerializeToString())


def compare(models: Sequence[Path], runtimes: Sequence[str], kept: Path | None) -> Iterator[Comparison]:
    compiled = {runtime: compile_all(models, runtime, kept) for runtime in runtimes}
    for model in models:
        readable = [name for name in runtimes if not compiled[name][str(model)].startswith(UNREADABLE)]
        if not readable:
            continue
        try:
            reports = analyze(model, {}, readable, lambda text: None).runtimes
        except EdgewrightError as error:
            for name in readable:
                yield Comparison(str(model), name, type(error).__name__, str(error), compiled[name][str(model)])
            continue
        for one in reports:
            reasons = [f"{finding.op} {finding.node}: {finding.reason}" for finding in one.findings]
            why = "; ".join(reasons)[:300] or one.reason
            yield Comparison(str(model), one.runtime, one.state, why, compiled[one.runtime][str(model)])


def compile_all(models: Sequence[Path], runtime: str, kept: Path | None) -> dict[str, str]:
    """Return why each model does not compile, empty if it does, from the folder `kept` where it is known."""
    file = kept / f"{runtime}.json" if kept else None
    known: dict[str, str] = json.loads(file.read_text()) if file and file.is_file() else {}
    hashes = {model: sha256(model.read_bytes()).hexdigest() for model in models}
    for model, verdict in compile_new([model for model in models if hashes[model] not in known], runtime):
        known[hashes[model]] = verdict
        if file:
            file.parent.mkdir(exist_ok=True, parents=True)
            file.write_text(json.dumps(known, indent=1))
    return {str(model): known[hashes[model]] for model in models}


def compile_new(models: Sequence[Path], runtime: str) -> Iterator[tuple[Path, str]]:
    """Yield the verdict on each model, from a process of its own; a crash ends only its own model."""
    waiting = list(models)
    while waiting:
        command = [sys.executable, "-m", "benchmarks.analyze_agreement", "--compile", runtime]
        child = subprocess.Popen(
            command,
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            line = b"started"
            while waiting and line:
                child.stdin.write(f"{waiting[0]}\n".encode())
                child.stdin.flush()
                line = child.stdout.readline()
                yield waiting.pop(0), json.loads(line) if line else "its process crashes or hangs"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)  # with a converter that hangs
            child.wait()


# In the child


def compile_models(runtime: str) -> None:
    import warnings

    warnings.simplefilter("ignore")
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        channel.write(json.dumps(compile_one(Path(line.rstrip("\n")), runtime)) + "\n")


def compile_one(path: Path, runtime: str) -> str:
    signal.alarm(SECONDS)
    with TemporaryDirectory() as folder:
        try:
            request, unsupported = make_request(path, runtime, Path(folder))
        except EdgewrightError as error:
            return f"{UNREADABLE}: {error}"
        if unsupported or request is None:
            return unsupported
        try:
            import_runtime(find_runtime(runtime)).compile(request)
        except Exception as error:  # the libraries raise classes of their own
            return f"{type(error).__name__}: {error}"[:300]
        finally:
            signal.alarm(0)
    return ""


def make_request(path: Path, runtime: str, folder: Path) -> tuple[CompileRequest | None, str]:
    """Return what `edgewright compile` would ask of the runtime's worker, or why it would ask nothing."""
    info = find_runtime(runtime)
    precision = read_source_precision(str(path))
    cell = CompileCell(runtime=runtime, precision=precision)
    plan = CompilePlan(source=str(path), source_sha256=read_model(path).sha256, cells=(cell,))
    device: Any = None
    prepared = prepare_source(plan, folder, device)
    if precision not in info.precisions:
        return None, f"{runtime} does not support {precision}"
    kind = next((kind for kind in ("tflite", "onnx") if kind in info.compiles and kind in prepared.files), None)
    if kind is None:
        return None, str(prepared.unread or "no form of the source is read")
    (folder / "out").mkdir()
    request = CompileRequest(
        source=prepared.files[kind],
        format=kind,
        precision=precision,
        shapes=prepared.shapes,
        folder=str(folder / "out"),
        stem="m",
        model_bytes=prepared.model.bytes,
    )
    return request, ""


def report(found: Sequence[Comparison]) -> int:
    wrong = [one for one in found if not one.agrees()]
    for one in wrong:
        said = "compiles" if not one.compiled else one.compiled.splitlines()[0][:150]
        shown = Path(*Path(one.model).parts[-2:])
        print(f"{one.runtime}\t{shown}\tanalyze: {one.analyzed} {one.reason[:150]}\tcompile: {said}")
    for runtime in dict.fromkeys(one.runtime for one in found):
        own = [one for one in found if one.runtime == runtime]
        print(f"{runtime}: {len(own)} models, {sum(not one.agrees() for one in own)} contradictions")
    print(f"{len(found)} cells, {len(wrong)} contradictions")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
