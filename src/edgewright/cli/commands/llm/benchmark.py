"""`edgewright llm benchmark`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgewright.cli.help.pages import HelpedCommand
from edgewright.cli.parse import PATH, Parsed
from edgewright.cli.rendering.output import localize, print_json, print_line, print_message, print_table, show_progress
from edgewright.schema.units import UNKNOWN, show_bytes

if TYPE_CHECKING:
    from edgewright.flows.llm.benchmark import LlmBenchmarkReport


def _parse_lengths(text: str) -> tuple[int, ...]:
    """Return lengths in tokens, each once; ValueError says what is wrong."""
    words = [one.strip() for one in text.split(",")]
    if not all(one.isdecimal() and 0 < int(one[:9]) < 10_000_000 for one in words):
        raise ValueError(f"'{text}' are no lengths; write --prompt 64,256")
    return tuple(dict.fromkeys(map(int, words)))


LENGTHS = Parsed("lengths", _parse_lengths)


@click.command(cls=HelpedCommand)
@click.argument("artifacts", type=PATH, nargs=-1, required=True, metavar="ARTIFACT...")
@click.option("--prompt", type=LENGTHS, default="64", metavar="TOKENS,…", help="Lengths of the prompts; default: 64.")
@click.option("--generate", type=int, default=64, help="Tokens to generate; default: 64.")
@click.option("--kv-precision", default="fp16", metavar="KV", help="Format of the keys and values; default: fp16.")
@click.option("--processes", type=int, default=8, help="Fresh processes per artifact; default: 8.")
@click.option("--repeats", type=int, default=3, help="Generations per process and prompt; default: 3.")
@click.option("--threads", type=int, default=1, help="Threads of an engine; default: 1.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.llm-benchmark/1).")
def benchmark(as_json: bool, prompt: tuple[int, ...], **given: Any) -> None:
    """Measure language models: time to first token, prefill and decode speed, and peak memory.

    Fresh processes of all artifacts alternate. The figures are medians of the processes with their intervals; a
    verdict compares the artifacts within the rounds.
    """
    from edgewright.flows.llm.benchmark import BenchmarkRequest, benchmark_artifacts

    request = BenchmarkRequest(prompts=prompt, **given)
    with show_progress() as progress:
        report, error = benchmark_artifacts(request, progress)
    if as_json:
        print_json(report)
    else:
        _show(report)
    if error is not None:
        raise error


def _show(report: LlmBenchmarkReport) -> None:
    print_line(localize(report.answer))
    rows = [
        (
            one.runtime,
            one.precision,
            str(one.prompt),
            *(UNKNOWN if value is None else f"{value:.0f}" for value in (one.ttft_us, one.prefill_tokens_s)),
            UNKNOWN if one.decode_tokens_s is None else f"{one.decode_tokens_s:.0f}",
            show_bytes(one.peak_bytes),
            one.state,
            one.reason or "",
        )
        for one in report.rows
    ]
    columns = ("runtime", "precision", "prompt", "ttft µs", "prefill t/s", "decode t/s", "peak", "state", "reason")
    print_table(columns, rows, droppable=("reason",))
    decided = [one for one in report.verdicts if one.verdict != "inconclusive"]
    if decided:
        verdicts = [(one.metric, str(one.prompt), one.a, one.b, f"{one.ratio:.2f}", one.verdict) for one in decided]
        print_table(("metric", "prompt", "a", "b", "b/a", "verdict"), verdicts)
    if left := len(report.verdicts) - len(decided):
        print_message(f"{left} of {len(report.verdicts)} comparisons are inconclusive.")
