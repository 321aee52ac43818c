"""`edgewright invoke`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgewright.cli.parse import PATH
from edgewright.cli.rendering.output import print_json, print_message, print_table, show_progress

if TYPE_CHECKING:
    from pathlib import Path

    from edgewright.bench.feeds import Array


@click.command()
@click.argument("artifact", type=PATH, metavar="ARTIFACT")
@click.option(
    "--inputs",
    type=PATH,
    required=True,
    metavar="FILE.npz",
    help="Input file with one array per input of the source model.",
)
@click.option("-o", "--output", type=PATH, required=True, metavar="FILE.npz", help="Output file.")
@click.option("--runtime", help="Runtime that reads the format; default: the default runtime of the format.")
@click.option("-p", "--option", "options", multiple=True, metavar="KEY=VALUE", help="Runtime option.")
@click.option("--timeout", "timeout_s", default=120.0, help="Timeout for a response, in seconds.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.invocation/1).")
def invoke(
    artifact: str,
    inputs: str,
    output: str,
    runtime: str | None,
    options: tuple[str, ...],
    timeout_s: float,
    as_json: bool,
) -> None:
    """Run a model once on your inputs and write its outputs.

    An artifact of `edgewright compile` has the same inputs and outputs as its source model: names, shapes and layouts.
    Of a set file, the artifact for the size of the inputs is run.
    """
    from contextlib import closing
    from pathlib import Path

    from edgewright.flows.candidates import check_number, choose_runtime, split_options
    from edgewright.flows.device_names import open_device
    from edgewright.flows.evaluate.invoke import check_output_path, choose_file, save_outputs
    from edgewright.flows.evaluate.invoke import invoke as run_once

    check_output_path(Path(output))
    check_number("timeout_s", timeout_s)
    model = choose_file(Path(artifact), Path(inputs))
    info = choose_runtime(model, runtime or "")
    runtime_options = split_options(options, [info])[info.name]
    with closing(open_device("local")) as device, show_progress() as progress:
        progress(f"{model.name} in {info.name}: running")
        outputs, notes = run_once(
            model, Path(inputs), device, runtime=info.name, options=runtime_options, timeout_s=timeout_s
        )
    save_outputs(Path(output), outputs)
    for note in notes:
        print_message(note)
    _show(outputs, Path(output), info.name, model, as_json=as_json)


def _show(outputs: dict[str, Array], path: Path, runtime: str, model: Path, *, as_json: bool) -> None:
    described = [(name, array.dtype.name, list(array.shape)) for name, array in outputs.items()]
    if as_json:
        print_json(
            {
                "schema": "edgewright.invocation/1",
                "runtime": runtime,
                "model": str(model),
                "path": str(path),
                "outputs": [{"name": name, "dtype": dtype, "shape": shape} for name, dtype, shape in described],
            }
        )
        return
    print_table(("output", "type", "shape"), [(name, dtype, str(shape)) for name, dtype, shape in described])
