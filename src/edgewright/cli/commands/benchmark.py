"""`edgewright benchmark`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from edgewright.cli.calls import call_api, make_keywords, read_given
from edgewright.cli.code import check_code
from edgewright.cli.help.pages import HelpedCommand
from edgewright.cli.parse import AFFINITY, DURATION, FIXED, PATH, PERCENT, SHAPE, TAG, THREADS, WORDS
from edgewright.cli.rendering.output import print_json, print_message

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgewright.api.results.measurement import BenchmarkResult
    from edgewright.flows.policy_trials.plan import Scenario
    from edgewright.flows.policy_trials.report import PolicyTrialReport

SCENARIOS = ("hot", "low-battery", "low-memory", "busy", "cold-start", "30fps-10min")
WITH_POLICIES = ("models", "policies", "scenario", "seconds", "threads", "rate", "as_json")
POLICY_SECONDS = {"30fps-10min": 600.0}
ALLOWED_WITH_PLAN = ("plan_file", "fail_on_fallback", "tags", "dry_run", "as_json")


@click.command(cls=HelpedCommand)
@click.argument("models", nargs=-1, metavar="MODEL...")
@click.option(
    "--runtime",
    type=WORDS,
    multiple=True,
    help="Runtimes, comma-separated; default: the default runtime of the format.",
)
@click.option(
    "--precision",
    type=WORDS,
    multiple=True,
    help="Precisions to which MODEL is compiled or quantized before, such as fp32,w8a8; default: as it is.",
)
@click.option(
    "--task", "task_file", type=PATH, metavar="FILE.toml", help="Task of the model, for --precision and --phases."
)
@click.option("--data", metavar="DATA", help="Data for --precision (calibration and test) and --phases.")
@click.option("--allow-code", is_flag=True, help="Allow code that is named by data or task.")
@click.option("--threads", type=THREADS, default=1, help="Threads per inference, or several as 1,2,4.")
@click.option(
    "--affinity", type=AFFINITY, metavar="CPUS", help="Former name of --cores, for processors such as 0,1 or 0-3."
)
@click.option("--cores", default="", metavar="CORES", help="Cores: big, little, all, or processors such as 0-3.")
@click.option("--sustain", type=DURATION, metavar="TIME", help="Sustained load after it, such as 10m.")
@click.option("--rate", type=float, metavar="FPS", help="Inferences per second of the sustained load.")
@click.option("--cool-below", type=float, metavar="CELSIUS", help="Temperature that the device must be below before.")
@click.option("--runs", type=int, help="Timed inferences per process; default: enough to fill --seconds.")
@click.option("--seconds", default=0.2, help="Steady-state time per process, if --runs is not given.")
@click.option("--processes", default=15, help="Number of fresh processes per candidate.")
@click.option(
    "--interleave",
    type=click.Choice(["chunks", "processes"]),
    default="chunks",
    help="Order of measurement: alternate short chunks of samples, or whole processes.",
)
@click.option(
    "--inputs", type=PATH, metavar="FILE.npz", help="Input file with one array per model input; default: random inputs."
)
@click.option(
    "--shape",
    "shapes",
    type=SHAPE,
    multiple=True,
    metavar="NAME=SIZES",
    help="Shape of a dynamic input, such as x=1,3,224,224.",
)
@FIXED
@click.option("--seed", default=0, help="Seed of the random inputs.")
@click.option(
    "-p",
    "--option",
    "options",
    multiple=True,
    metavar="KEY=VALUE",
    help="Runtime option, such as optimization=basic or litert.delegate=none.",
)
@click.option("--warmup-seconds", default=2.0, help="Maximum warm-up time per process.")
@click.option("--timeout", "timeout_s", default=120.0, help="Timeout for a response of a worker, in seconds.")
@click.option("--layers/--no-layers", default=True, help="Time the layers in a separate pass.")
@click.option("--layer-runs", default=30, help="Number of profiled inferences.")
@click.option("--threshold", default=0.02, help="Smallest relative difference that is reported as one.")
@click.option("--power-w", type=float, help="Device power in watts, for an energy estimate without a sensor.")
@click.option(
    "--fail-on-fallback",
    type=PERCENT,
    metavar="PCT",
    help="Maximum share of layer time in fallbacks, in percent; above it, exit code 3.",
)
@click.option("--phases", is_flag=True, help="Also time decoding to post-processing of samples of --data, by --task.")
@click.option("--policy", "policies", type=WORDS, metavar="POLICY,…", help="Execution policies of a bundle.")
@click.option("--scenario", type=click.Choice(SCENARIOS), help="Scenario of the policies.")
@click.option("--on", "device", default="local", help="Devices: names, any:N, or conditions on their facts.")
@click.option("--tag", "tags", type=TAG, multiple=True, metavar="NAME=VALUE", help="Tag for the runs; may be repeated.")
@click.option("--plan", "plan_file", type=PATH, metavar="FILE", help="Plan file that replaces the options.")
@click.option("--dry-run", is_flag=True, help="Print the resolved plan without measuring.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.benchmark/1).")
@click.pass_context
def benchmark(ctx: click.Context, /, **given: Any) -> None:
    """Measure models, interleaved, each in fresh processes.

    A folder or a set file means all artifacts in it (see `edgewright compile`). The first row is the reference of the
    verdicts. Every run is stored: see `edgewright runs`.
    """
    from edgewright.api.measure import benchmark as measure
    from edgewright.api.plans import plan_benchmark
    from edgewright.bench.feeds import describe_batch
    from edgewright.flows.benchmark.flow import resolve_plan

    check_code(given)
    policies, scenario = given["policies"], given["scenario"]
    if policies or scenario:
        _run_policies(ctx, policies or ["none", "governor"], scenario, given)
        return
    if given["plan_file"] is not None:
        _reject_beside_plan(ctx)
    if given["dry_run"]:
        print_json(resolve_plan(plan_benchmark(given["models"], read_given(given)))[0])
        return
    result, error = call_api(measure, given["models"], **make_keywords(given))
    _show(result, as_json=given["as_json"])
    if given["plan_file"] is None and result.runs:
        for name in sorted(set(result.runs[0].plan["shapes"]) - {one for one, _ in given["shapes"]}):
            print_message(f"Note: {describe_batch(name)}.")
    if error is not None:
        raise error


def _reject_beside_plan(ctx: click.Context) -> None:
    """Raise UsageError for an option that a plan file sets."""
    from edgewright.errors import UsageError

    for name in _list_typed(ctx, ALLOWED_WITH_PLAN):
        raise UsageError(
            f"--plan and {name} cannot be combined", f"the plan file sets {name}", "change it in the plan file"
        )


def _list_typed(ctx: click.Context, allowed: Sequence[str]) -> list[str]:
    """Return the options and arguments of the command line that are not among the allowed ones."""
    typed = [name for name in ctx.params if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    found = [param for param in ctx.command.params if param.name in typed and param.name not in allowed]
    return [param.opts[-1] if isinstance(param, click.Option) else "MODEL" for param in found]


def _run_policies(
    ctx: click.Context, policies: Sequence[str], scenario: Scenario | None, given: Mapping[str, Any]
) -> None:
    from edgewright.api.field.policies import benchmark_policies
    from edgewright.cli.rendering.output import show_progress
    from edgewright.errors import UsageError
    from edgewright.flows.policy_trials.plan import RATE, PolicyTrialPlan

    if scenario is None:
        raise UsageError("--scenario is missing", f"it is one of {', '.join(SCENARIOS)}", "--scenario busy")
    if len(given["models"]) != 1:
        raise UsageError(
            "--policy needs one bundle", f"{len(given['models'])} are given", "edgewright bundle writes one"
        )
    for name in _list_typed(ctx, WITH_POLICIES):
        raise UsageError(f"--policy and {name} cannot be combined", f"a bundle has no {name}", f"leave out {name}")
    typed = ctx.get_parameter_source("seconds") is ParameterSource.COMMANDLINE
    threads = given["threads"] if ctx.get_parameter_source("threads") is ParameterSource.COMMANDLINE else None
    plan = PolicyTrialPlan(
        bundle=given["models"][0],
        policies=tuple(policies),
        scenario=scenario,
        seconds=given["seconds"] if typed else POLICY_SECONDS.get(scenario, 60.0),
        rate=given["rate"] or RATE,
        threads=threads,
    )
    with show_progress() as progress:
        report = benchmark_policies(plan, progress=progress)
    _show_policies(report, as_json=given["as_json"])


def _show_policies(report: PolicyTrialReport, *, as_json: bool) -> None:
    from edgewright.cli.rendering.output import localize, print_line, print_table

    if as_json:
        print_json(report)
        return
    print_line(localize(report.answer))
    rows = [
        (one.name, *map(str, (one.frames, one.on_time, one.missed, one.skipped, one.switches, one.kills)), one.evidence)
        for one in report.policies
    ]
    print_table(("policy", "frames", "on time", "missed", "left out", "switches", "kills", "evidence"), rows)
    for note in report.notes:
        print_message(f"Note: {note}.")


def _show(result: BenchmarkResult, *, as_json: bool) -> None:
    from edgewright.cli.rendering.tables import print_warnings, show_benchmark

    if as_json:
        print_json(result.report)
    else:
        show_benchmark(result)
        for one in result.report.failed_devices:
            print_message(f"Nothing was measured on {one.name} ({one.state}): {one.error}.")
    print_warnings(result.rows)
