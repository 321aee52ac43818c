"""Benchmark of policies: rounds of one stream each, in alternating order, recorded as a run per policy."""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from edgewright.adaptive.bundle import BUNDLE_FILE, Bundle, read_bundle
from edgewright.adaptive.policy import Policy
from edgewright.bench.verdict import compare_paired
from edgewright.errors import UsageError, WorkerCrashed
from edgewright.flows.candidates import read_models
from edgewright.flows.policies import find_policy
from edgewright.flows.policy_trials.plan import PolicyTrialPlan, StreamCounts, StreamJob
from edgewright.flows.policy_trials.report import Evidence, PolicyRow, PolicyTrialReport, make_answer
from edgewright.flows.policy_trials.surroundings import open_limited_group, run_competitors
from edgewright.flows.workspace import Workspace
from edgewright.formats.files import hash_file
from edgewright.schema.plan import THRESHOLD
from edgewright.schema.run import Metric, Series
from edgewright.store.recording import utc_now
from edgewright.system.temporary import TemporaryFolder

SIMULATED = ("hot", "low-battery")
REFERENCE = "none"  # the policy without anything adaptive
SHORTEST_S, LONGEST_S = 6.0, 24 * 3600.0
START_S = 60.0  # for a process to load beside its frames
MOST_KILLS = 10  # of one round
NEED_S = 1.0
SIMULATED_NOTE = (
    "simulated phone (flagship): the full variant takes 90% of a frame's interval at full speed, and half an hour"
    " passes in each round"
)
LOG_BYTES = 2000


class PolicyRounds(Struct):
    """What the rounds of one policy gave."""

    policy: Policy
    counts: list[StreamCounts] = []
    kills: int = 0


def resolve_trial(plan: PolicyTrialPlan) -> tuple[PolicyTrialPlan, Bundle, list[Policy]]:
    """Return the plan with hashes, the bundle and the policies. Raises UsageError or ConfigError."""
    if sys.platform != "linux":
        raise UsageError("policies cannot be benchmarked here", "settings and signals are those of Linux", "use Linux")
    bundle = read_bundle(Path(plan.bundle))
    if not plan.policies or len(set(plan.policies)) < len(plan.policies):
        raise UsageError(
            f"--policy {','.join(plan.policies)} does not fit", "names must differ", "--policy none,governor"
        )
    if not SHORTEST_S <= plan.seconds <= LONGEST_S:
        why = f"a policy needs {SHORTEST_S:g} to {LONGEST_S:g} seconds for {plan.rounds} rounds"
        raise UsageError(f"--seconds {plan.seconds:g} is not possible", why, "--seconds 60")
    policies = [find_policy(one) for one in plan.policies]
    resolved = msgspec.structs.replace(plan, bundle_sha256=hash_file(Path(plan.bundle) / BUNDLE_FILE))
    return resolved, bundle, policies


def run_policy_trials(plan: PolicyTrialPlan, workspace: Workspace) -> PolicyTrialReport:
    """Run the streams, record a run per policy, and return the report.

    Raises:
        UsageError, ConfigError: before anything is run; also if a scenario is not possible here.
        WorkerCrashed: a stream ended with an error.
    """
    plan, bundle, policies = resolve_trial(plan)
    started = utc_now()
    found = [PolicyRounds(policy, []) for policy in policies]
    with TemporaryFolder() as folder:
        notes = list(_run_rounds(plan, found, folder, workspace))
    rows = _record(plan, found, workspace, started)
    medians = [[[_find_us_per_frame(plan, one)] for one in rounds.counts] for rounds in found]
    comparisons = tuple(
        compare_paired(rows[0].run_id, row.run_id, medians[0], own, THRESHOLD)
        for row, own in zip(rows[1:], medians[1:], strict=True)
    )
    return PolicyTrialReport(
        bundle=Path(plan.bundle).name,
        scenario=plan.scenario,
        seconds=plan.seconds,
        rounds=plan.rounds,
        rate=plan.rate,
        policies=rows,
        comparisons=comparisons,
        notes=(*notes, *_list_notes(plan, bundle)),
        answer=make_answer(plan.scenario, rows, comparisons),
    )


def _run_rounds(
    plan: PolicyTrialPlan, found: Sequence[PolicyRounds], folder: Path, workspace: Workspace
) -> Iterator[str]:
    with _surround(plan, folder) as (group, note):
        if note:
            yield note
        for number in range(plan.rounds):
            order = found if number % 2 == 0 else found[::-1]
            for rounds in order:
                workspace.progress(f"{plan.scenario}, round {number + 1} of {plan.rounds}: {rounds.policy.name}")
                own = folder / f"{number}-{found.index(rounds)}"
                own.mkdir()
                _run_round(plan, rounds, own, group)


@contextmanager
def _surround(plan: PolicyTrialPlan, folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the group that streams join, and a note, inside the surroundings of the scenario."""
    with ExitStack() as stack:
        if plan.scenario == "busy":
            stack.enter_context(run_competitors())
        if plan.scenario != "low-memory":
            yield "", ""
            return
        need = _measure_need(plan, folder)
        _save_mapped(plan, folder)
        group = stack.enter_context(open_limited_group(need))
        limit = f"memory limit: 60% of {need / 1e6:.0f} MB, which the full variant needs beside the program"
        yield str(group), f"{limit}; weights that are mapped were saved before, without the limit"


def _measure_need(plan: PolicyTrialPlan, folder: Path) -> int:
    """Return the bytes that the full variant with copied weights takes beside the program."""
    own = folder / "need"
    own.mkdir()
    job = msgspec.structs.replace(_make_job(plan, find_policy(REFERENCE), own, ""), seconds=NEED_S)
    counts = _run_stream(job, own)[0]
    return max(0, (counts.peak_bytes or 0) - (counts.start_bytes or 0))


def _save_mapped(plan: PolicyTrialPlan, folder: Path) -> None:
    """Start each variant once without a limit, as an app does when it is installed: the first start copies weights."""
    for variant in read_bundle(Path(plan.bundle), check=False).variants:
        own = folder / f"saved-{variant.name}"
        own.mkdir()
        job = _make_job(plan, find_policy(REFERENCE), own, "")
        _run_stream(msgspec.structs.replace(job, adaptive=True, variant=variant.name, seconds=NEED_S), own)


def _run_round(plan: PolicyTrialPlan, rounds: PolicyRounds, folder: Path, group: str) -> None:
    """Run one stream; a process that the system ends is started again for the rest of the time."""
    start, parts, kills = time.monotonic(), list[StreamCounts](), 0
    left = plan.seconds / plan.rounds
    while left > 1 / plan.rate and kills <= MOST_KILLS:
        job = msgspec.structs.replace(_make_job(plan, rounds.policy, folder, group), seconds=left)
        counts, killed = _run_stream(job, folder)
        parts.append(counts)
        kills += killed
        left = plan.seconds / plan.rounds - (time.monotonic() - start) if killed else 0.0
    rounds.kills += kills
    rounds.counts.append(_join(plan, parts))


def _join(plan: PolicyTrialPlan, parts: Sequence[StreamCounts]) -> StreamCounts:
    """Return the counts of a round; frames that no process took count as offered."""
    expected = round(plan.seconds / plan.rounds * plan.rate)
    return StreamCounts(
        frames=max(expected, sum(one.frames for one in parts)),
        on_time=sum(one.on_time for one in parts),
        skipped=sum(one.skipped for one in parts),
        switches=sum(one.switches for one in parts),
        peak_c=max((one.peak_c for one in parts if one.peak_c is not None), default=None),
        battery_pct=parts[-1].battery_pct,
        peak_bytes=max((one.peak_bytes for one in parts if one.peak_bytes is not None), default=None),
        events=_add_events(parts),
    )


def _add_events(parts: Sequence[StreamCounts]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in parts:
        total.update(one.events)
    return dict(total)


def _make_job(plan: PolicyTrialPlan, policy: Policy, folder: Path, group: str) -> StreamJob:
    table = folder / "policy.json"
    table.write_bytes(msgspec.json.encode(policy))
    return StreamJob(
        bundle=str(Path(plan.bundle).absolute()),
        policy=str(table),
        adaptive=policy.name != REFERENCE,
        scenario=plan.scenario,
        start_s=time.monotonic() if plan.scenario == "cold-start" else None,
        seconds=plan.seconds / plan.rounds,
        rate=plan.rate,
        threads=plan.threads,
        result=str(folder / "counts.json"),
        folder=str(folder),
        group=group,
        simulated=plan.scenario in SIMULATED,
    )


def _run_stream(job: StreamJob, folder: Path) -> tuple[StreamCounts, bool]:
    """Return the counts of a stream, and whether the system ended it. Raises WorkerCrashed for any other failure."""
    path, log, result = folder / "job.json", folder / "log.txt", Path(job.result)
    path.write_bytes(msgspec.json.encode(job))
    result.unlink(missing_ok=True)
    command = [sys.executable, "-P", "-m", "edgewright.flows.policy_trials.worker", str(path)]
    with log.open("wb") as errors, subprocess.Popen(command, stdout=errors, stderr=errors) as process:  # noqa: S603 - our own module
        try:
            process.wait(job.seconds * 2 + START_S)
        except subprocess.TimeoutExpired:
            raise WorkerCrashed("a stream did not end", f"it had {job.seconds:g} s of frames") from None
        finally:
            process.kill()
    killed = process.returncode == -9
    if process.returncode and not killed:
        tail = log.read_bytes()[-LOG_BYTES:].decode(errors="replace").strip()
        raise WorkerCrashed("a stream ended with an error", tail.splitlines()[-1] if tail else "no output")
    counts = msgspec.json.decode(result.read_bytes(), type=StreamCounts) if result.is_file() else StreamCounts()
    return counts, killed


def _find_us_per_frame(plan: PolicyTrialPlan, counts: StreamCounts) -> float:
    return plan.seconds / plan.rounds * 1e6 / max(counts.on_time, 0.5)


def _record(
    plan: PolicyTrialPlan, found: Sequence[PolicyRounds], workspace: Workspace, started: str
) -> tuple[PolicyRow, ...]:
    rows, parent = list[PolicyRow](), ""
    full = Path(plan.bundle) / read_bundle(Path(plan.bundle), check=False).variants[0].path
    model = read_models([str(full)])[str(full)]
    for rounds in found:
        own = msgspec.structs.replace(plan, policies=(rounds.policy.name,))
        evidence: Evidence = "simulated" if plan.scenario in SIMULATED else "real"
        tags = {"policy": rounds.policy.name, "scenario": plan.scenario, "evidence": evidence}
        with workspace.recording(
            "policy", own, model=model, tags=tags, parent_id=parent or None, started_at=started
        ) as run:
            row = _make_row(rounds, run.id, evidence)
            shares = Series(name="policy.on_time", unit="1", data=tuple(map(_find_share, rounds.counts)))
            run.add(metrics=tuple(_list_metrics(row)), series=(shares,))
            run.put_bytes(msgspec.json.encode(rounds.policy), role="policy")
        parent = parent or run.id
        rows.append(row)
    return tuple(rows)


def _make_row(rounds: PolicyRounds, run_id: str, evidence: Evidence) -> PolicyRow:
    counts = rounds.counts
    frames, on_time = sum(one.frames for one in counts), sum(one.on_time for one in counts)
    skipped = sum(one.skipped for one in counts)
    return PolicyRow(
        name=rounds.policy.name,
        run_id=run_id,
        frames=frames,
        on_time=on_time,
        missed=frames - on_time - skipped,
        skipped=skipped,
        switches=sum(one.switches for one in counts),
        kills=rounds.kills,
        evidence=evidence,
        peak_c=max((one.peak_c for one in counts if one.peak_c is not None), default=None),
        battery_pct=min((one.battery_pct for one in counts if one.battery_pct is not None), default=None),
        peak_bytes=max((one.peak_bytes for one in counts if one.peak_bytes is not None), default=None),
        events=_add_events(counts),
    )


def _find_share(counts: StreamCounts) -> float:
    return counts.on_time / counts.frames if counts.frames else 0.0


def _list_metrics(row: PolicyRow) -> Iterator[Metric]:
    for name, part in (("on_time", row.on_time), ("missed", row.missed), ("skipped", row.skipped)):
        yield Metric(name=f"policy.{name}", unit="share", value=part / row.frames if row.frames else None, n=row.frames)
    yield Metric(name="policy.switches", unit="1", value=float(row.switches))
    yield Metric(name="policy.kills", unit="1", value=float(row.kills))
    if row.peak_c is not None:
        yield Metric(name="policy.temperature", unit="C", value=row.peak_c)


def _list_notes(plan: PolicyTrialPlan, bundle: Bundle) -> Iterator[str]:
    if plan.scenario in SIMULATED:
        yield SIMULATED_NOTE
        if any(one.p50_us is None for one in bundle.variants):
            yield "a variant has no measured time: half of the full one's is assumed"
    if len(bundle.variants) == 1:
        yield "the bundle has one variant: a policy can only leave out frames"
    if REFERENCE in plan.policies:
        yield "none is the full variant with copied weights, without a budget"
