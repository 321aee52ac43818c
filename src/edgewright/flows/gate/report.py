"""The result of a gate: its JSON, JUnit XML for CI systems, and a Markdown summary."""

import re
from pathlib import Path
from xml.etree import ElementTree

from msgspec import Struct

from edgewright.flows.gate.baseline import BaselineFigure
from edgewright.schema.goals import GoalState
from edgewright.schema.text import printable
from edgewright.schema.units import UNKNOWN, show_number
from edgewright.system.files import write_atomically

SCHEMA = "edgewright.gate/1"
NEEDS_ESCAPE = re.compile(r"([\\`*_{}\[\]<>|#])")


class GateCheck(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One goal. `value` and its interval are in the goal's unit: a ratio for `x`.

    Attributes:
        confidence: of the interval; None without one.
        method: `interleaved`, `sessions`, `paired samples`, `same model`, `samples`, `processes` or `exact`; empty
            without a value.
        reason: why the goal is not shown.
    """

    goal: str
    metric: str
    state: GoalState
    value: float | None
    low: float | None
    high: float | None
    unit: str
    confidence: float | None
    method: str = ""
    reason: str = ""


class GateReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The JSON of `edgewright gate --json`.

    Attributes:
        undecided: whether the gate passes if a goal is not shown.
        written: whether the baseline was written; then there are no checks.
        figures: of the model, by metric.
        run_id: of the gate; empty if the baseline was written.
        runs: of the measurements, with the tag `gate`; that of the baseline's model first if it was at hand.
    """

    schema: str = SCHEMA
    passed: bool
    checks: tuple[GateCheck, ...]
    undecided: str
    model: str
    model_sha256: str
    runtime: str
    precision: str
    device: str
    baseline: str
    written: bool
    figures: dict[str, BaselineFigure]
    notes: tuple[str, ...]
    run_id: str
    runs: tuple[str, ...]


def show_value(check: GateCheck, value: float | None) -> str:
    """Return a value in the goal's unit."""
    return UNKNOWN if value is None else f"{show_number(value)}{f' {check.unit}'.replace(' x', '×')}".strip()


def show_interval(check: GateCheck) -> str:
    """Return the interval; empty for an exact value or without one."""
    if check.low is None or check.high is None or check.low == check.high:
        return ""
    return f"{show_number(check.low)}–{show_number(check.high)}"


def describe_check(check: GateCheck) -> str:
    """Return a goal's result in one line."""
    interval = show_interval(check)
    text = f"{show_value(check, check.value)}{f' ({interval})' if interval else ''}"
    return f"{check.state}: {text}{f'; {check.reason}' if check.reason else ''}"


def write_junit(report: GateReport, path: Path) -> None:
    """Write JUnit XML with a test case per goal. A goal that is not shown is skipped, unless `undecided` is `fail`.

    Raises OutputError.
    """
    failing = [check for check in report.checks if _is_failure(check, report)]
    skipped = [check for check in report.checks if check.state == "not shown" and check not in failing]
    counts = {"tests": len(report.checks), "failures": len(failing), "skipped": len(skipped), "errors": 0}
    attributes = {name: str(count) for name, count in counts.items()}
    suites = ElementTree.Element("testsuites", attributes)
    suite = ElementTree.SubElement(suites, "testsuite", {"name": "edgewright gate", **attributes})
    for check in report.checks:
        name = printable(f"{report.model} in {report.runtime}")
        case = ElementTree.SubElement(suite, "testcase", {"classname": name, "name": check.goal})
        text = describe_check(check)
        if check in failing:
            ElementTree.SubElement(case, "failure", {"message": text}).text = text
        elif check in skipped:
            ElementTree.SubElement(case, "skipped", {"message": text})
        ElementTree.SubElement(case, "system-out").text = text
    ElementTree.indent(suites)
    write_atomically(path, ElementTree.tostring(suites, "utf-8", xml_declaration=True) + b"\n", follow=True)


def _is_failure(check: GateCheck, report: GateReport) -> bool:
    return check.state == "missed" or (check.state == "not shown" and report.undecided == "fail")


def write_summary(report: GateReport, path: Path) -> None:
    """Write the result as Markdown. Raises OutputError."""
    write_atomically(path, _make_summary(report), follow=True)


def _make_summary(report: GateReport) -> str:
    """Return the result as Markdown with one row per goal."""
    verdict = "passed" if report.passed else "failed"
    title = f"### Gate {verdict}: {_escape(report.model)} in {_escape(report.runtime)}"
    rows = [
        (f"`{one.goal}`", f"**{one.state}**", show_value(one, one.value), show_interval(one), one.method)
        for one in report.checks
    ]
    lines = ["| goal | state | value | interval | method |", "|---|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    notes = [f"- {_escape(one.goal)}: {_escape(one.reason)}" for one in report.checks if one.reason]
    notes += [f"- {_escape(note)}" for note in report.notes]
    return "\n".join([title, "", *lines, *(["", *notes] if notes else []), ""])


def _escape(text: str) -> str:
    """Return text from a file so that it is shown as it is, in one line."""
    return NEEDS_ESCAPE.sub(r"\\\1", printable(" ".join(text.split())))
