"""`edgewright doctor`: installed runtimes, and conditions that make measurements less reliable."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgewright.cli.help.pages import HelpedCommand

if TYPE_CHECKING:
    from edgewright.flows.doctor.flow import Diagnosis, EnvironmentState, RuntimeState, TelemetryState
    from edgewright.kernels.library import KernelStatus

HEADERS = ("name", "state", "detail", "fix")


@click.command(cls=HelpedCommand)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (edgewright.doctor/1).")
def doctor(as_json: bool) -> None:
    """Check the runtimes, and find what makes measurements on this machine less reliable.

    Nothing is started or changed. The exit code is 5 if no runtime works, and 1 if runs cannot be stored.
    """
    import os
    from pathlib import Path

    from edgewright.api.settings import load_store_settings
    from edgewright.cli.rendering.output import print_json
    from edgewright.errors import RuntimeMissing, StoreError
    from edgewright.flows.doctor.flow import diagnose, has_usable_runtime
    from edgewright.runtimes.environments import FOLDER
    from edgewright.store.location import find_home

    home = find_home(load_store_settings(os.environ).get("home", ""))
    diagnosis = diagnose(Path("/"), os.environ, home, find_home() / FOLDER)
    if as_json:
        print_json(diagnosis)
    else:
        _print_diagnosis(diagnosis)
    if not has_usable_runtime(diagnosis):
        remedy = next((runtime.remedy for runtime in diagnosis.runtimes if runtime.remedy), "")
        raise RuntimeMissing("no runtime works on this machine", "no runtime has all of its packages installed", remedy)
    for found in diagnosis.findings:
        if found.severity == "error":
            raise StoreError(found.text, "", found.advice)


def _print_diagnosis(diagnosis: Diagnosis) -> None:
    """Print up to five tables with the same columns, so that a script can read them as one."""
    from edgewright.cli.rendering.output import print_message, print_table

    only_paths = all(runtime.usable for runtime in diagnosis.runtimes)
    droppable = ("detail",) if only_paths else ()  # problems must be shown on narrow terminals too
    print_table(HEADERS, [make_runtime_row(runtime) for runtime in diagnosis.runtimes], "Runtimes", droppable=droppable)
    if diagnosis.environments:
        print_table(HEADERS, [_make_environment_row(one) for one in diagnosis.environments], "Isolated environments")
    print_table(HEADERS, [_make_telemetry_row(one) for one in diagnosis.telemetry], "Telemetry of dependencies")
    if diagnosis.kernels is not None:
        print_table(HEADERS, [_make_kernel_row(diagnosis.kernels)], "Kernels")
    if not diagnosis.findings:
        print_message("No problem was found that makes measurements less reliable.")
        return
    rows = [(found.code, found.severity, found.text, found.advice) for found in diagnosis.findings]
    print_table(HEADERS, rows, f"Problems for measurements on {name_machine(diagnosis)}")


def make_runtime_row(runtime: RuntimeState) -> tuple[str, str, str, str]:
    """Return a row; the state is one word and the version, with a note for runtimes that are for tests."""
    state = " ".join(word for word in ("works" if runtime.usable else "missing", runtime.version) if word)
    detail = runtime.file if runtime.usable and runtime.file else runtime.problem
    if runtime.environment:
        state += " (isolated)"
    return (runtime.name, f"{state} (for tests)" if runtime.for_tests else state, detail, runtime.remedy)


def _make_environment_row(environment: EnvironmentState) -> tuple[str, str, str, str]:
    from edgewright.schema.units import show_bytes

    size = "" if environment.bytes is None else f" {show_bytes(environment.bytes)}"
    return (environment.name, f"{environment.state}{size}", environment.path, environment.remedy)


def _make_telemetry_row(switch: TelemetryState) -> tuple[str, str, str, str]:
    """Return a row; the state is `off` or `on`, the detail names the switch."""
    detail = f"{switch.variable}={switch.value}" if switch.variable else switch.barrier
    advice = "" if switch.set else f"import edgewright before {switch.package}"
    return (f"{switch.package} telemetry", "off" if switch.set else "on", detail, advice)


def _make_kernel_row(kernels: KernelStatus) -> tuple[str, str, str, str]:
    from edgewright.kernels.library import NUMPY, VARIABLE

    advice = "install a C compiler: cc, gcc or clang, or pip install ziglang"
    missing = kernels.source == NUMPY and not kernels.detail.startswith(VARIABLE)
    return (
        "kernels",
        f"{kernels.isa or 'not built yet'} ({kernels.source})",
        kernels.detail,
        advice if missing else "",
    )


def name_machine(diagnosis: Diagnosis) -> str:
    processor = diagnosis.environment.get("processor", {})
    parts = [processor.get("board"), processor.get("model"), diagnosis.environment.get("system")]
    return ", ".join(part for part in parts if part) or "this machine"
