"""The documented JSON of a benchmark of policies."""

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from edgewright.schema.run import Comparison

Evidence = Literal["real", "simulated"]


class PolicyRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One policy over all rounds.

    Attributes:
        run_id: of its stored run.
        frames: offered; each is on time, missed, or left out by the policy (`skipped`).
        kills: how often the system ended the process.
        evidence: `simulated` if heat, battery and speed are those of a simulated phone.
        peak_c, battery_pct: highest temperature and last level of the simulated phone; None on a real device.
        peak_bytes: largest memory of its processes; None if unknown.
        events: kinds of events of the monitor with their numbers.
    """

    name: str
    run_id: str
    frames: int
    on_time: int
    missed: int
    skipped: int
    switches: int
    kills: int
    evidence: Evidence
    peak_c: float | None
    battery_pct: float | None
    peak_bytes: int | None
    events: dict[str, int]


class PolicyTrialReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The JSON of `edgewright benchmark BUNDLE --policy …`.

    The ratio of a comparison is seconds per frame on time of `b` over those of `a`, from the pairs of rounds.
    """

    schema: str = "edgewright.policy-trial/1"
    bundle: str
    scenario: str
    seconds: float
    rounds: int
    rate: float
    policies: tuple[PolicyRow, ...]
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...]
    answer: str


def make_answer(scenario: str, rows: Sequence[PolicyRow], comparisons: Sequence[Comparison]) -> str:
    """Return the result in one sentence."""
    shares = "; ".join(f"{one.name} {one.on_time} of {one.frames} frames on time" for one in rows)
    names = {one.run_id: one.name for one in rows}
    words = {"faster": "more frames on time", "slower": "fewer frames on time"}
    verdicts = [f"{names[one.b]} against {names[one.a]}: {words.get(one.verdict, one.verdict)}" for one in comparisons]
    evidence = "simulated phone" if rows[0].evidence == "simulated" else "this machine"
    return f"{scenario} on {evidence}: {'. '.join([shares, *verdicts])}."
