"""`edgewright kernels`: kernels for the edges of a model's graph."""

import click

from edgewright.cli.help.pages import HelpedGroup
from edgewright.cli.rendering.output import print_json, print_message, print_table


@click.group(cls=HelpedGroup)
def kernels() -> None:
    """List and check the kernels for preprocessing, postprocessing and missing operators: list, check."""


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
