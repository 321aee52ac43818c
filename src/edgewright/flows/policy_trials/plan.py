"""Plan of a benchmark of policies, and the job of one stream in it."""

from typing import Literal

from msgspec import Struct

Scenario = Literal["hot", "low-battery", "low-memory", "busy", "cold-start", "30fps-10min"]
ROUNDS = 6  # the fewest pairs whose interval has a confidence of 95 %
RATE = 30.0
DEADLINE_FRAMES = 2.0


class PolicyTrialPlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that determines a benchmark of policies.

    Attributes:
        bundle: its folder; `bundle_sha256` is the hash of its description.
        policies: built in, or files; the first is the reference of the verdicts.
        seconds: of each policy, over all rounds.
        rate: offered frames per second.
        threads: of an inference; None for the cores of the fastest cluster, at most 4.
    """

    schema: str = "edgewright.policy-trial/1"
    bundle: str
    bundle_sha256: str = ""
    policies: tuple[str, ...] = ("none", "governor")
    scenario: Scenario
    seconds: float
    rounds: int = ROUNDS
    rate: float = RATE
    threads: int | None = None


class StreamJob(Struct, frozen=True, kw_only=True):
    """One stream in a process of its own.

    Attributes:
        policy: path of the table.
        adaptive: whether the session chooses the variant, maps weights and has a budget; otherwise the full one runs.
        start_s: when the first frame is offered, on the system's monotonic clock; None once the session is ready.
        seconds: of frames, from there.
        result: file that has the counts so far.
        group: cgroup that the process joins; empty for none.
        variant: name of the variant that runs; empty for the session's choice, or the full one.
        simulated: whether the device is simulated: its heat, its battery and its speed.
    """

    bundle: str
    policy: str
    adaptive: bool
    scenario: Scenario
    start_s: float | None
    seconds: float
    rate: float
    threads: int | None
    result: str
    folder: str
    group: str = ""
    variant: str = ""
    simulated: bool = False


class StreamCounts(Struct, frozen=True, kw_only=True):
    """Counts of a stream so far.

    Attributes:
        frames: offered.
        peak_c: highest temperature of the simulated body.
        battery_pct: level of the simulated battery.
        start_bytes, peak_bytes: largest memory of the process before the session and until now.
        events: kinds of events of the monitor with their numbers.
    """

    frames: int = 0
    on_time: int = 0
    skipped: int = 0
    switches: int = 0
    peak_c: float | None = None
    battery_pct: float | None = None
    start_bytes: int | None = None
    peak_bytes: int | None = None
    events: dict[str, int] = {}
