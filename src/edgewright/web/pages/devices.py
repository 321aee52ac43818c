"""Page of the devices: facts, state, last runs, and latency of each model on every device."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from edgewright.bench.trust import LATENCY_METRICS
from edgewright.store.runs.browse import DeviceRow
from edgewright.store.runs.queries import RunFilter, RunSummary
from edgewright.store.store import Store
from edgewright.web.pages.run_detail import flatten
from edgewright.web.server.responses import make_csv_response, make_page_response
from edgewright.web.server.state import get_app_state

LAST_RUNS = 6
MAX_RUNS = 2_000  # newest runs for the matrix of models
MAX_MODELS = 40


def devices_page(request: Request) -> Response:
    store = get_app_state(request).store
    devices = store.list_devices()
    context = make_devices_context(devices, store)

    def facts() -> dict[str, Any]:
        return {"devices": devices, "matrix": context["matrix"], "registered": context["registered"]}

    return make_page_response(request, "devices.html", "devices", facts, context)


def devices_csv(request: Request) -> Response:
    """Return the median latency in microseconds by model and runtime as CSV, with a column for each device."""
    store = get_app_state(request).store
    devices = store.list_devices()
    rows = [
        (row["model"], row["precision"], row["runtime"], *(_get_p50(run) for run in row["runs"]))
        for row in _make_matrix(store, devices)
    ]
    return make_csv_response(
        ("model", "precision", "runtime", *(device.name for device in devices)), rows, "devices.csv"
    )


def _get_p50(row: RunSummary | None) -> float | None:
    metric = row.metrics.get("latency.p50") if row else None
    return metric.value if metric else None


def make_devices_context(devices: Sequence[DeviceRow], store: Store) -> dict[str, Any]:
    def last(device: DeviceRow) -> list[RunSummary]:
        return store.list_runs(RunFilter(device=device.id, limit=LAST_RUNS, metrics=LATENCY_METRICS))

    return {
        "devices": [(device, last(device), flatten(device.facts)) for device in devices],
        "matrix": _make_matrix(store, devices),
        "registered": store.list_registered_devices(),
    }


def _make_matrix(store: Store, devices: Sequence[DeviceRow]) -> list[dict[str, Any]]:
    """Return the newest finished run by model and runtime, with a column for each device."""
    wanted = RunFilter(kind="benchmark", state="done", limit=MAX_RUNS, metrics=LATENCY_METRICS)
    found: dict[tuple[str, str, str], dict[str, RunSummary]] = {}
    for row in store.list_runs(wanted):
        key = (row.model_name or "", row.precision or "", row.runtime)
        found.setdefault(key, {}).setdefault(row.device_id or "", row)
    newest: dict[str, str] = {}  # the session by device that measured most of the rows; the newest of equals
    for device in devices:
        sessions = Counter(runs[device.id].session_id for runs in found.values() if device.id in runs)
        newest[device.id] = max(sessions, key=lambda one: sessions[one], default="")
    rows = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))[:MAX_MODELS]
    return [
        {
            "model": model,
            "precision": precision,
            "runtime": runtime,
            "runs": [by_device.get(device.id) for device in devices],
            "stale": [
                device.id in by_device and by_device[device.id].session_id != newest[device.id] for device in devices
            ],
        }
        for (model, precision, runtime), by_device in rows
    ]
