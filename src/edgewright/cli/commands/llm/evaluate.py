"""`edgewright llm evaluate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgewright.cli.help.pages import HelpedCommand
from edgewright.cli.parse import PATH
from edgewright.cli.rendering.output import localize, print_json, print_line, print_table, show_progress
from edgewright.schema.units import UNKNOWN

if TYPE_CHECKING:
    from edgewright.flows.llm.evaluate import LlmEvaluationReport


@click.command(cls=HelpedCommand)
@click.argument("artifacts", type=PATH, nargs=-1, required=True, metavar="ARTIFACT...")
@click.option("--text", type=PATH, metavar="FILE", required=True, help="Held-out text, UTF-8.")
@click.option("--kv-precision", default="fp16", metavar="KV,…", help="Formats of the keys and values: fp16, kv8, kv4.")
@click.option("--max-kld", type=float, metavar="NATS", help="Largest mean KL divergence; above it the exit code is 3.")
@click.option("--prompts", type=PATH, metavar="FILE.toml", help="Prompts with expected answers.")
@click.option("--min-passed", type=float, metavar="SHARE", help="Smallest share of right answers; below it, exit 3.")
@click.option("--context", type=int, metavar="TOKENS", help="Tokens of a window; default: the model's context, or 512.")
@click.option("--tokens", type=int, default=8192, help="Most tokens of the text; default: 8192.")
@click.option("--threads", type=int, default=1, help="Threads of an engine; default: 1.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.llm-evaluation/1).")
def evaluate(as_json: bool, **given: Any) -> None:
    """Compare compressed language models with the full-precision one on held-out text.

    NLL is the mean negative log-likelihood per token, KL divergence that from the full-precision distribution of the
    same tokens. The rows of the runtime `reference` are Edgewright's own implementation in numpy. An artifact fails
    with values that are not finite, or if it generates a single token only.
    """
    from edgewright.flows.llm.evaluate import EvaluateRequest, evaluate_artifacts

    request = EvaluateRequest(
        **{
            **{key: value for key, value in given.items() if value is not None},
            "kv_precision": tuple(one.strip() for one in given["kv_precision"].split(",") if one.strip()),
        }
    )
    with show_progress() as progress:
        report, error = evaluate_artifacts(request, progress)
    if as_json:
        print_json(report)
    else:
        _show(report)
    if error is not None:
        raise error


def _show(report: LlmEvaluationReport) -> None:
    print_line(localize(report.answer))
    rows = [
        (
            one.runtime,
            one.precision,
            one.kv,
            UNKNOWN if one.nll is None else f"{one.nll:.4f}",
            UNKNOWN if one.kld is None else f"{one.kld:.4g}",
            UNKNOWN if one.top1_agreement is None else f"{one.top1_agreement:.1%}",
            UNKNOWN if one.prefix is None else f"{one.prefix:.0f}/{one.prefix_of}",
            UNKNOWN if one.passed is None else f"{one.passed}/{one.asked}",
            one.state,
            one.reason or "",
        )
        for one in report.rows
    ]
    columns = ("runtime", "precision", "kv", "NLL", "KLD", "same top-1", "prefix", "prompts", "state", "reason")
    print_table(columns, rows, droppable=("reason", "prompts", "prefix"))
