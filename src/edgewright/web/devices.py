"""The devices on record: facts, state, last runs, and the same model across them."""

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from edgewright.store.browse import DeviceRow
from edgewright.store.queries import RunFilter, RunRow
from edgewright.store.store import Store
from edgewright.web.answers import answer, csv_answer
from edgewright.web.run_detail import flatten
from edgewright.web.state import desk_of

LAST_RUNS = 6
MOST_RUNS = 2_000  # the newest that the matrix of models is made from
MOST_MODELS = 40


def devices_page(request: Request) -> Response:
    store = desk_of(request).store
    devices = store.list_devices()
    context = devices_context(devices, store)
    return answer(
        request, "devices.html", "devices", lambda: {"devices": devices, "matrix": context["matrix"]}, context
    )


def devices_csv(request: Request) -> Response:
    """Median latency, microseconds, by model and runtime, a column for each device."""
    store = desk_of(request).store
    devices = store.list_devices()
    rows = [
        (row["model"], row["precision"], row["runtime"], *(p50_of(run) for run in row["runs"]))
        for row in matrix(store, devices)
    ]
    return csv_answer(("model", "precision", "runtime", *(device.name for device in devices)), rows, "devices.csv")


def p50_of(row: RunRow | None) -> float | None:
    metric = row.metrics.get("latency.p50") if row else None
    return metric.value if metric else None


def devices_context(devices: Sequence[DeviceRow], store: Store) -> dict[str, Any]:
    def last(device: DeviceRow) -> list[RunRow]:
        return store.list_runs(RunFilter(device=device.id, limit=LAST_RUNS, metrics=("latency.p50",)))

    return {
        "devices": [(device, last(device), flatten(device.facts)) for device in devices],
        "matrix": matrix(store, devices),
    }


def matrix(store: Store, devices: Sequence[DeviceRow]) -> list[dict[str, Any]]:
    """Median latency by model and runtime, a column for each device: the newest finished run counts."""
    wanted = RunFilter(kind="benchmark", state="done", limit=MOST_RUNS, metrics=("latency.p50",))
    found: dict[tuple[str, str, str], dict[str, RunRow]] = {}
    for row in store.list_runs(wanted):
        key = (row.model_name or "", row.precision or "", row.runtime)
        found.setdefault(key, {}).setdefault(row.device_id or "", row)
    rows = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))[:MOST_MODELS]
    return [
        {
            "model": model,
            "precision": precision,
            "runtime": runtime,
            "runs": [by_device.get(device.id) for device in devices],
        }
        for (model, precision, runtime), by_device in rows
    ]
