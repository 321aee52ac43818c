"""The command that repeats a run."""

import msgspec
from msgspec.structs import replace

from edgewright.cli.commands.benchmark import benchmark
from edgewright.flows.candidates import get_flag
from edgewright.schema.plan import BenchmarkPlan, Candidate
from edgewright.web.pages.figures import NO_OPTIONS, make_command
from tests.web.records import make_run

PLAN = BenchmarkPlan(candidates=(Candidate(model="net.onnx", runtime="pretend"),))


def test_every_field_of_a_plan_is_an_option() -> None:
    flags = {flag for option in benchmark.params for flag in option.opts}
    assert {get_flag(name) for name in BenchmarkPlan.__struct_fields__ if name not in NO_OPTIONS} <= flags


def command(plan: BenchmarkPlan) -> str:
    return make_command(replace(make_run(), plan=msgspec.to_builtins(plan)))


def test_the_command_has_what_differs_from_the_defaults() -> None:
    assert command(PLAN) == "edgewright benchmark net.onnx --runtime pretend"
    candidate = replace(PLAN.candidates[0], options={"noise": "0", "word": "a b"})
    changed = replace(
        PLAN, candidates=(candidate,), threads=2, affinity=(0, 3), timeout_s=9.0, layers=False, shapes={"x": (1, 4)}
    )
    assert command(changed) == (
        "edgewright benchmark net.onnx --runtime pretend --threads 2 --affinity 0,3 --timeout 9.0 --no-layers "
        "--shape x=1,4 -p noise=0 -p 'word=a b'"
    )


def test_no_command_without_a_valid_plan() -> None:
    assert make_command(replace(make_run(), plan={"threads": "many"})) == ""
    assert make_command(replace(make_run(), kind="compile", plan=msgspec.to_builtins(PLAN))) == ""
