"""Run ONNX's node tests through the LiteRT writer and write docs/litert-coverage.md from what came out.

    python scripts/litert_coverage.py [--check]

With --check nothing is written, and the exit code says whether the page is what a run gives.
"""

import sys
from collections import Counter, defaultdict
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.runtimes.litert.writer.node_tests import Case, Outcome, is_outside, list_cases, run_case  # noqa: E402 - the path is set above

PAGE = ROOT / "docs" / "litert-coverage.md"
HEAD = """# What the LiteRT writer covers

Written by `scripts/litert_coverage.py`; do not edit it by hand. ONNX's own node tests (`onnx` {onnx}) run through
`onnx_to_litert` and LiteRT (`ai-edge-litert` {litert}), each as the package gives it and once more with all inputs
but the first as constants of the model. *Passed*: equal within 1e-3 (relative) or 1e-5 (absolute) one way and wrong
in none. *Refused*: an error says why, and no file is written, though LiteRT could express it, if only by a near
relative. *Outside*: refused because LiteRT has no operator for it, or the case is none of the road's (an element type
without kernels, an opset before 11, tensors without elements, training, text). *Wrong*: the numbers differ; the test
suite fails on the first.

| | cases |
|---|---|
| passed | {passed} |
| refused | {refused} |
| outside | {outside} |
| wrong | {wrong} |
| passed, of those that are not outside | {share:.1f} % |

A case belongs to the operator that it is named for; cases whose name ends with `_expanded` are ONNX's definition
of an operator in terms of others.
"""


def main() -> int:
    results = [(case, run_case(case)) for case in list_cases()]
    text = write_page(results)
    if "--check" in sys.argv:
        return int(not PAGE.is_file() or PAGE.read_text() != text)
    PAGE.write_text(text)
    print(count(results))
    return 0


def count(results: list[tuple[Case, Outcome]]) -> Counter[str]:
    return Counter("outside" if is_outside(outcome) else outcome.state for _, outcome in results)


def write_page(results: list[tuple[Case, Outcome]]) -> str:
    states = count(results)
    within = states["passed"] + states["refused"] + states["wrong"]
    head = HEAD.format(
        onnx=version("onnx"),
        litert=version("ai-edge-litert"),
        passed=states["passed"],
        refused=states["refused"],
        outside=states["outside"],
        wrong=states["wrong"],
        share=100 * states["passed"] / within,
    )
    return "\n".join([head, *write_operators(results), "", *write_reasons(results), ""])


def write_operators(results: list[tuple[Case, Outcome]]) -> list[str]:
    """One row per operator with a case that is not outside."""
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    for case, outcome in results:
        rows[name_operator(case)]["outside" if is_outside(outcome) else outcome.state] += 1
    lines = ["## By operator", "", "| operator | passed | refused | outside | wrong |", "|---|---|---|---|---|"]
    for name, states in sorted(rows.items()):
        if states["passed"] + states["refused"] + states["wrong"]:
            numbers = (states[state] for state in ("passed", "refused", "outside", "wrong"))
            lines.append(f"| {name} | {' | '.join(map(str, numbers))} |")
    return lines


def name_operator(case: Case) -> str:
    """The operator of a case with one node, else "several"."""
    return next(iter(case.operators)) if len(case.operators) == 1 else "several operators"


def write_reasons(results: list[tuple[Case, Outcome]]) -> list[str]:
    """Why variants were refused, the most frequent first."""
    reasons: Counter[str] = Counter()
    for case, outcome in results:
        if outcome.state == "refused" and not is_outside(outcome):
            reasons[f"{name_operator(case)}: {shorten(outcome.why)}"] += 1
    lines = ["## Why variants are refused", "", "| cases | reason |", "|---|---|"]
    ordered = sorted(reasons.items(), key=lambda entry: (-entry[1], entry[0]))
    return [*lines, *(f"| {number} | {reason} |" for reason, number in ordered)]


def shorten(why: str) -> str:
    """The reason alone, without the node's name, on one line of a table."""
    text = why.split("LiteRT: ", 1)[-1].splitlines()[0]
    text = text.split("': ", 1)[-1] if "': " in text else text
    return text.replace("|", "\\|")[:140]


if __name__ == "__main__":
    sys.exit(main())
