"""`edgewright kernels`: kernels for the edges of a model's graph."""

import click
import msgspec

from edgewright.cli.help.pages import HelpedGroup
from edgewright.cli.parse import DURATION
from edgewright.cli.rendering.output import print_json, print_message, print_table


@click.group(cls=HelpedGroup)
def kernels() -> None:
    """List, check and tune the kernels for preprocessing, postprocessing and missing operators: list, check, tune."""


@kernels.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.kernels/1).")
def list_command(as_json: bool) -> None:
    """List the kernels with their instruction sets, and which of them are used."""
    from edgewright.kernels.catalog import list_variants
    from edgewright.kernels.library import load_library, read_status

    _, why = load_library()
    variants = list_variants()
    if as_json:
        print_json({"schema": "edgewright.kernels/1", "kernels": variants, "library": read_status()})
        return
    rows = [(one.name, one.isa, _name_state(one.selected, one.usable), one.purpose) for one in variants]
    print_table(("name", "isa", "state", "purpose"), rows, droppable=("purpose",))
    if why:
        print_message(f"numpy is used: {why}.")


def _name_state(selected: bool, usable: bool) -> str:
    return "selected" if selected else "usable" if usable else "not usable here"


@kernels.command()
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of the random shapes and values.")
@click.option("--shapes", type=click.IntRange(min=1), default=200, help="Random shapes of each variant.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.kernels-check/1).")
def check(seed: int, shapes: int, as_json: bool) -> None:
    """Compare every kernel with numpy, in every instruction set of this processor, on random shapes.

    The exit code is 1 if one differs.
    """
    from edgewright.errors import KernelsDiffer
    from edgewright.kernels.checks.run import check_kernels

    done = check_kernels(seed, shapes)
    if as_json:
        print_json(done)
    else:
        rows = [(one.kernel, one.isa, str(one.shape), one.why) for one in done.failures]
        if rows:
            print_table(("kernel", "isa", "shape", "difference"), rows)
        print_message(f"{done.checked} cases checked, {done.failed} failed.")
    if done.failed:
        first = done.failures[0]
        raise KernelsDiffer(f"{done.failed} of {done.checked} cases differ from numpy", f"{first.kernel}: {first.why}")


@kernels.command()
@click.argument("kernel", type=click.Choice(["conv2d"]), metavar="conv2d")
@click.option("--device", type=click.Choice(["opencl", "cpu"]), default="opencl", help="opencl, or cpu: C variants.")
@click.option("--budget", type=DURATION, default="60s", metavar="TIME", help="Time for the search, as 60s or 5m.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of the order of variants.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.kernels-tune/1).")
def tune(kernel: str, device: str, budget: float, seed: int, as_json: bool) -> None:
    """Find the fastest variant of a kernel on this device; wrong ones are rejected.

    Measured variants are kept for the device: an interrupted or repeated search goes on. The exit code is 5 without an
    OpenCL device, or without a C compiler for cpu.
    """
    from edgewright.cli.rendering.output import show_progress
    from edgewright.kernels.tuning.tuner import tune_conv2d

    with show_progress() as progress:
        found = tune_conv2d(budget, seed, progress, device)
    if as_json:
        print_json(found)
        return
    rows = [("default", f"{found.default_us:.0f}"), ("best", f"{found.best_us:.0f}"), ("ratio", f"{found.ratio:.2f}")]
    params = [(name, str(value)) for name, value in msgspec.structs.asdict(found.params).items()]
    print_table(("what", "µs"), [*rows, *params], f"{kernel} on {found.device}")
    if found.stand_in:
        print_message("PoCL runs the kernel on the CPU: a stand-in, whose times say nothing about a GPU.")
