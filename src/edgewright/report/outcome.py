"""What a quantization, pruning, distillation or evaluation changed, in a few phrases: quality, size, speed, gate.

Pages show the phrases as a header, all others as one line. Each phrase is a template with named placeholders.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from msgspec import Struct

from edgewright.report.numbers import format_value, join_words, name_metric
from edgewright.runtimes.table import TABLE
from edgewright.schema.metrics import is_share
from edgewright.schema.units import format_digits

Mark = Literal["better", "worse", ""]
QUALITY = "{change} {unit} {metric}, {verdict}"
QUALITY_INTERVAL = "{change} {unit} {metric} ({low} to {high}), {verdict}"
VERDICTS: dict[Mark, str] = {"": "no difference shown", "better": "shown to be better", "worse": "shown to be worse"}
UNPAIRED = "not compared sample by sample"
SMALLER, LARGER = "{ratio}× smaller ({before} → {after})", "{ratio}× larger ({before} → {after})"
SAME_SIZE = "same size ({after})"
SPEEDS = {
    "faster": "{ratio}× faster in {runtime}",
    "slower": "{ratio}× slower in {runtime}",
    "no difference": "as fast in {runtime}",
    "inconclusive": "speed in {runtime} inconclusive ({ratio}×)",
}
SPEED_MARKS: dict[str, Mark] = {"faster": "better", "slower": "worse"}
IN_RUNTIMES = "{text} in {runtimes}"
SEPARATOR = " · "


def name_state(state: str) -> str:
    """Return the word of texts for the state of a result, which is `refused` in JSON and tables if a gate failed."""
    return "rejected" if state == "refused" else state


class Change(Struct, frozen=True, kw_only=True):
    """One phrase; `mark` is set only where the difference is shown."""

    what: Literal["quality", "size", "speed", "gate", "value"]
    text: str
    mark: Mark = ""


class Outcome(Struct, frozen=True, kw_only=True):
    """The phrases in the order quality, size, speed, gate."""

    changes: tuple[Change, ...]

    @property
    def answer(self) -> str:
        """Return the phrases in one line; empty without any."""
        return SEPARATOR.join(one.text for one in self.changes) + "." if self.changes else ""


class Difference(NamedTuple):
    """A metric minus that of a reference, with its interval; `unit` is `points` of a share, or empty."""

    metric: str
    value: float
    low: float | None
    high: float | None
    better: str
    unit: str


def describe_difference(one: Difference, against: str = "") -> Change:
    """Return the change of a metric with its verdict: it is shown if the interval excludes zero.

    Args:
        against: words for the reference where it is not the source, as in `against the control`.
    """
    mark: Mark = ""
    if one.low is not None and one.high is not None and (one.low > 0 or one.high < 0):
        mark = "better" if (one.low > 0) == (one.better == "higher") else "worse"
    known = one.low is not None and one.high is not None
    digits = "{:+.2f}" if one.unit else "{:+.4g}"
    low, high = (digits.format(bound or 0.0).replace("-", "−") for bound in (one.low, one.high))
    text = (QUALITY_INTERVAL if known else QUALITY).format(
        change=digits.format(one.value).replace("-", "−"), unit=one.unit,
        metric=" ".join(filter(None, (name_metric(one.metric), against))), low=low, high=high,
        verdict=VERDICTS[mark] if known else UNPAIRED,
    )  # fmt: skip
    return Change(what="quality", text=" ".join(text.split()), mark=mark)


def describe_size(before: float, after: float) -> Change:
    """Return the change of a size in bytes, which is exact."""
    ratio = before / after if after else 1.0
    shown = {"before": format_value(before, "bytes"), "after": format_value(after, "bytes")}
    if before == after:
        return Change(what="size", text=SAME_SIZE.format(**shown))
    if ratio > 1:
        return Change(what="size", text=SMALLER.format(ratio=format_digits(ratio), **shown), mark="better")
    return Change(what="size", text=LARGER.format(ratio=format_digits(1 / ratio), **shown), mark="worse")


def describe_speed(ratio: float, verdict: str, runtime: str) -> Change:
    """Return the speed against the original in the same runtime; `ratio` is the original's time over the new one's."""
    shown = 1 / ratio if verdict == "slower" and ratio else ratio
    text = SPEEDS[verdict].format(ratio=f"{shown:.2f}", runtime=name_runtime(runtime))
    return Change(what="speed", text=text, mark=SPEED_MARKS.get(verdict, ""))


def merge_changes(changes: Iterable[tuple[str, Change]]) -> list[Change]:
    """Return each different phrase once, with the runtimes that it holds in unless it holds in all."""
    found: dict[Change, list[str]] = {}
    for runtime, change in changes:
        found.setdefault(change, []).append(name_runtime(runtime))
    if len(found) <= 1:
        return list(found)
    return [
        Change(what=one.what, text=IN_RUNTIMES.format(text=one.text, runtimes=join_words(names)), mark=one.mark)
        for one, names in found.items()
    ]


def name_runtime(runtime: str) -> str:
    """Return the title of a runtime, or its name if it is not in the table."""
    return TABLE[runtime].title if runtime in TABLE else runtime


def join_changes(*groups: Sequence[Change]) -> Outcome:
    return Outcome(changes=tuple(change for group in groups for change in group))


def show_value(metric: str, value: float, low: float | None, high: float | None) -> str:
    """Return a metric with its title and interval: `98.9% top-1 accuracy (97.6%–99.5%)`."""
    unit = "share" if is_share(metric) else ""
    bounds = "" if low is None or high is None else f" ({format_value(low, unit)}–{format_value(high, unit)})"
    return f"{format_value(value, unit)} {name_metric(metric)}{bounds}"
