"""Bundles of variants: what `edgewright bundle` calls."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from edgewright.adaptive.bundle import BUNDLE_FILE, TIERS, Bundle, Variant
from edgewright.api.measure import benchmark, evaluate
from edgewright.errors import OutputError, UsageError
from edgewright.flows.candidates import choose_runtime
from edgewright.flows.evaluate.report import EvaluationRow
from edgewright.formats.artifact_sets import list_files
from edgewright.formats.files import hash_file
from edgewright.system.files import write_atomically


class BundleRequest(Struct, frozen=True, kw_only=True):
    """Artifacts from the fullest to the lightest, and the options of the measurement."""

    artifacts: tuple[str, ...]
    output: str
    task: str = ""
    data: str = ""
    tiers: tuple[str, ...] = ()
    processes: int = 3
    seconds: float = 0.2
    allow_code: bool = False


class BundleReport(Struct, frozen=True, kw_only=True):
    """A written bundle; the keys of edgewright.bundle/1, and where it is."""

    schema: str = "edgewright.bundle/1"
    variants: tuple[Variant, ...]
    task: str | None
    metric: str | None
    measured_on: str
    output: str
    answer: str


def make_bundle(request: BundleRequest, **call: Any) -> BundleReport:
    """Measure the artifacts, interleaved, and write them with the figures into a new folder.

    Args:
        **call: `progress` and `cancel`, as for `benchmark`.

    Raises:
        UsageError: fewer than one artifact, or the tiers do not fit.
        OutputError: the folder has other files, or cannot be written.
        EdgewrightError: an artifact cannot be measured or evaluated.
    """
    tiers = _choose_tiers(request)
    output = Path(request.output)
    _check_output(output)
    metrics = _evaluate(request, call)  # first: its errors come early
    measured = benchmark(
        list(request.artifacts), processes=request.processes, seconds=request.seconds, layers=False, **call
    )
    rows = measured.rows
    variants = tuple(
        _describe(artifact, tier, row, metrics.get(number))
        for number, (artifact, tier, row) in enumerate(zip(request.artifacts, tiers, rows, strict=True))
    )
    name = next((row.metric.name for row in metrics.values() if row.metric), None)
    bundle = Bundle(
        variants=variants,
        task=Path(request.task).name if request.task else None,
        metric=name,
        measured_on=rows[0].device,
    )
    _write(output, request, bundle)
    return BundleReport(
        **{key: getattr(bundle, key) for key in ("variants", "task", "metric", "measured_on")},
        output=str(output),
        answer=_answer(variants),
    )


def _choose_tiers(request: BundleRequest) -> Sequence[str]:
    count = len(request.artifacts)
    stems = [Path(one).name for one in request.artifacts]
    if len(set(stems)) < count:
        raise UsageError("two artifacts have the same name", ", ".join(stems), "rename one of them")
    tiers = request.tiers or tuple(TIERS[min(number, len(TIERS) - 1)] for number in range(count))
    if len(tiers) != count or any(one not in TIERS for one in tiers):
        why = f"there are {count} artifacts, and tiers are {', '.join(TIERS)}"
        raise UsageError(f"--tiers {','.join(tiers)} does not fit", why, "--tiers high,low")
    return tiers


def _check_output(output: Path) -> None:
    if output.exists() and not (output.is_dir() and (not any(output.iterdir()) or (output / BUNDLE_FILE).is_file())):
        raise OutputError(f"{output} has other files", "it is not a bundle", "choose a new folder with --output")


def _evaluate(request: BundleRequest, call: Mapping[str, Any]) -> dict[int, EvaluationRow]:
    """Return the evaluation of each artifact by number; none without data."""
    if not request.data:
        return {}
    if not request.task:
        raise UsageError("--data needs a task", "the task has the metric", "--task task.toml")
    options: dict[str, Any] = {"task": request.task, "data": request.data, "allow_code": request.allow_code, **call}
    result = evaluate(list(request.artifacts), **options)
    return dict(enumerate(result.rows))


def _describe(artifact: str, tier: str, row: Any, evaluated: EvaluationRow | None) -> Variant:
    path = Path(artifact)
    return Variant(
        name=path.stem,
        path=path.name,
        sha256=hash_file(path) if path.is_file() else row.model_sha256,
        tier=tier,
        runtime=choose_runtime(path, "").name,
        bytes=sum(file.stat().st_size for file in _list_files(path)),
        p50_us=row.latency_us.p50 if row.latency_us else None,
        peak_bytes=None if row.memory_bytes.peak is None else int(row.memory_bytes.peak),
        metric=evaluated.metric.value if evaluated and evaluated.metric else None,
        run_id=row.run_id,
    )


def _list_files(artifact: Path) -> Sequence[Path]:
    return tuple(dict.fromkeys(list_files(artifact)))


def _write(output: Path, request: BundleRequest, bundle: Bundle) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
        for artifact in map(Path, request.artifacts):
            for file in _list_files(artifact):
                target = output / file.relative_to(artifact.parent)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
        if request.task:
            shutil.copyfile(request.task, output / Path(request.task).name)
    except OSError as error:
        raise OutputError(
            f"{output} cannot be written", error.strerror or str(error), "choose another --output"
        ) from None
    text = msgspec.json.format(msgspec.json.encode(bundle), indent=2)
    write_atomically(output / BUNDLE_FILE, text, follow=False)


def _answer(variants: Sequence[Variant]) -> str:
    first, last = variants[0], variants[-1]
    if len(variants) < 2 or not first.p50_us or not last.p50_us:
        return f"{len(variants)} variant: {first.name}." if len(variants) == 1 else f"{len(variants)} variants."
    worse = ""
    if first.metric is not None and last.metric is not None:
        worse = f", metric {last.metric:.4g} against {first.metric:.4g}"
    return f"{last.name} takes {last.p50_us / first.p50_us:.2f} times as long as {first.name}{worse}."
