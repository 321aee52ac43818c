"""One stream of frames in a process of its own: `python -m edgewright.flows.policy_trials.worker JOB.json`."""

import sys
import time
from functools import partial
from pathlib import Path

import msgspec

from edgewright.adaptive.budgets import Budget
from edgewright.adaptive.bundle import read_bundle
from edgewright.adaptive.pipeline import StreamSettings
from edgewright.adaptive.policy import read_policy
from edgewright.adaptive.session import AdaptiveSession, SessionSettings
from edgewright.adaptive.sources import SystemSignals
from edgewright.adaptive.variants import LoadedVariant
from edgewright.flows.policy_trials.plan import DEADLINE_FRAMES, StreamCounts, StreamJob
from edgewright.flows.policy_trials.simulated import SimulatedPhone, SimulatedVariant
from edgewright.runtimes.memory import read_resident_memory
from edgewright.system.files import write_atomically
from edgewright.system.parent import die_with_parent

if sys.platform != "linux":
    raise ImportError("a stream under a policy needs Linux")

REPORT_S = 0.5
DRAIN_S = 0.2


def main() -> None:
    """Run the job of the file that is named."""
    die_with_parent()
    start_bytes = _read_peak()
    job = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=StreamJob)
    if job.group:
        Path(job.group, "cgroup.procs").write_text("0")
    phone = SimulatedPhone(job, Path(job.folder)) if job.simulated else None
    try:
        with AdaptiveSession(job.bundle, _make_budget(job), settings=_make_settings(job, phone)) as session:
            _offer(session, job, session.make_inputs(), _Reporter(session, job, phone, start_bytes))
    finally:
        if phone is not None:
            phone.close()


def _make_budget(job: StreamJob) -> Budget:
    return Budget(latency_ms=DEADLINE_FRAMES / job.rate * 1e3) if job.adaptive and not job.simulated else Budget()


def _make_settings(job: StreamJob, phone: SimulatedPhone | None) -> SessionSettings:
    bundle, root = read_bundle(Path(job.bundle), check=False), Path(job.folder) if phone else Path("/")
    full = bundle.variants[0]
    return SessionSettings(
        policy=read_policy(Path(job.policy).read_bytes(), job.policy),
        variant=job.variant or ("" if job.adaptive and phone is None else full.name),
        threads=job.threads,
        spread=job.adaptive and phone is None,
        mapped=job.adaptive,
        stream=StreamSettings(deadline_s=DEADLINE_FRAMES / job.rate),
        signals=SystemSignals(root),
        cache=Path(job.folder) / "cache",
        open_variant=partial(SimulatedVariant, phone, full) if phone else LoadedVariant,
        clock=phone.clock if phone else time.monotonic,
        period_s=1.0 / phone.speedup if phone else 1.0,
    )


class _Reporter:
    """Writes the counts of a stream to the job's file."""

    def __init__(self, session: AdaptiveSession, job: StreamJob, phone: SimulatedPhone | None, start: int) -> None:
        self._session, self._job, self._phone, self._start_bytes = session, job, phone, start
        self.missed, self._reported = 0, 0.0

    def begin(self) -> None:
        """Begin the time of the simulated phone."""
        if self._phone is not None:
            self._phone.start()

    def report(self, *, now: bool = False) -> None:
        """Write the counts, at most twice a second."""
        if not now and time.monotonic() - self._reported < REPORT_S:
            return
        self._reported = time.monotonic()
        found, phone = self._session.monitor.summarize(), self._phone
        counts = StreamCounts(
            frames=found.frames + self.missed,
            on_time=found.on_time,
            skipped=found.skipped,
            switches=found.switches,
            peak_c=round(phone.peak_c, 2) if phone else None,
            battery_pct=round(phone.battery_pct, 2) if phone else None,
            start_bytes=self._start_bytes,
            peak_bytes=_read_peak(),
            events=found.events,
        )
        write_atomically(Path(self._job.result), msgspec.json.encode(counts))


def _offer(session: AdaptiveSession, job: StreamJob, frame: object, reporter: _Reporter) -> None:
    """Offer frames at the rate for the time of the job; a camera does not wait."""
    reporter.begin()
    start = time.monotonic() if job.start_s is None else job.start_s
    for number in range(round(job.seconds * job.rate)):
        due = start + number / job.rate
        now = time.monotonic()
        if job.start_s is not None and due + DEADLINE_FRAMES / job.rate < now:
            reporter.missed += 1  # before the session was ready
            continue
        time.sleep(max(0.0, due - now))
        session.offer(frame, due)
        reporter.report()
    time.sleep(DRAIN_S)
    reporter.report(now=True)


def _read_peak() -> int:
    return read_resident_memory().peak or 0


if __name__ == "__main__":
    main()
