"""Pages of the jobs: start form, queue, one job with its log, upload of model files."""

from collections.abc import Sequence
from pathlib import Path
from shutil import rmtree
from statistics import median
from tempfile import mkdtemp
from typing import Any

from anyio import to_thread
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from edgewright.errors import EdgewrightError, ModelUnreadable, RunNotFound, UsageError
from edgewright.flows.benchmark.rerun import load_recorded_plan
from edgewright.formats.files import sniff
from edgewright.report.charts.run import draw_strip_plot
from edgewright.store.runs.ids import new_run_id
from edgewright.store.runs.queries import RunFilter, RunSummary
from edgewright.store.store import Store
from edgewright.web.jobs.form import CheckedForm, check_form, list_offered, make_job
from edgewright.web.jobs.kinds import JOB_KINDS, Form, list_field_choices
from edgewright.web.jobs.queue import QueuedJob
from edgewright.web.jobs.signatures import read_uploaded
from edgewright.web.pages.comparison import MAX_RUNS, make_compare_context
from edgewright.web.pages.filters import HEADLINE_METRICS
from edgewright.web.server.access import get_form
from edgewright.web.server.links import add_query
from edgewright.web.server.responses import make_json_response, make_page_response, sanitize_file_name, wants_fragment
from edgewright.web.server.state import get_app_state

MAX_UPLOAD_BYTES = 2 << 30
MAX_LISTED = 200
UPLOAD_FORMATS = ("onnx", "tflite")


def work_page(request: Request) -> Response:
    """Return the page of a new job with the queue; `part=form` is the form alone, for the drawer."""
    return _show_form(request, _check(request, _read_query(request)))


def _read_query(request: Request) -> Form:
    """Return the form in an address; an address without one has the switches that are on by default."""
    query = request.query_params
    form = {name: query.getlist(name) for name in query}
    kind = JOB_KINDS.get(query.get("kind", ""), next(iter(JOB_KINDS.values())))
    if not query.get("filled"):
        form |= {field.name: ["on"] for field in kind.fields if field.takes == "switch" and field.default == "on"}
    return form


def _check(request: Request, form: Form) -> CheckedForm:
    requested = (form.get("kind") or [""])[0]
    kind = JOB_KINDS.get(requested, next(iter(JOB_KINDS.values())))
    return check_form(kind, form, get_app_state(request))


def _show_form(request: Request, checked: CheckedForm, *, shows_errors: bool = False) -> Response:
    app_state = get_app_state(request)
    jobs = app_state.jobs.list()
    if wants_fragment(request):
        return make_page_response(request, "job_list.html", "work", dict, {"jobs": jobs})
    offered = list_offered(app_state)
    models = [model for model in app_state.store.list_models() if model.has_file][:MAX_LISTED]
    context = {
        "jobs": jobs,
        "kinds": list(JOB_KINDS.values()),
        "kind": checked.kind,
        "new": checked,
        "errors": checked.errors if shows_errors else {},
        "choices": {field.name: list_field_choices(field, offered) for field in checked.kind.fields if field.choices},
        "has_folder": bool(app_state.work_folders),
        "models": sorted(models, key=lambda model: model.id not in checked.chosen),
        "uploads": [(name, model.name) for name, model in app_state.uploads.items()],
    }
    template = "new_form.html" if request.query_params.get("part") == "form" else "work.html"
    answer = make_page_response(request, template, "work", lambda: {"jobs": [job.facts() for job in jobs]}, context)
    answer.status_code = 400 if shows_errors else 200
    return answer


def preview(request: Request) -> Response:
    """Return the command of a form, its estimated time, and the errors by field, as JSON."""
    checked = _check(request, _read_query(request))
    errors = {name: f"{error.what}: {error.why}" for name, error in checked.errors.items()}
    return make_json_response({"command": checked.command, "estimate": checked.estimate, "errors": errors})


def job_page(request: Request) -> Response:
    """Return the page of a job: its processes while it runs, the comparison of its runs at the end."""
    job, store = _find_job(request), get_app_state(request).store
    wanted = RunFilter(ids=job.run_ids, sort="started", ascending=True, metrics=HEADLINE_METRICS)
    rows = store.list_runs(wanted) if job.run_ids else []

    def facts() -> dict[str, Any]:
        return {"job": job.facts(), "log": list(job.lines), "medians": job.processes.medians}

    context = {"job": job, "rows": rows, "strips": _draw_strips(job), "again": _make_address(job)}
    if wants_fragment(request):
        return make_page_response(request, "job_strips.html", "work", facts, context)
    return make_page_response(request, "job.html", "work", facts, context | _load_comparison(job, rows, store))


def _draw_strips(job: QueuedJob) -> Markup:
    """Draw a row per candidate with a dot per finished process, and the median of those."""
    known = job.processes.medians.items()
    return draw_strip_plot([(name, dots, median(dots) if dots else None, None, None) for name, dots in known], "us")


def _load_comparison(job: QueuedJob, rows: Sequence[RunSummary], store: Store) -> dict[str, Any]:
    """Return the variables of the comparison of a finished job's benchmarks, if it has several."""
    ids = [row.id for row in rows if row.kind == "benchmark" and row.state == "done"][:MAX_RUNS]
    if job.state != "done" or len(ids) < 2:
        return {"comparison": None}
    return {**make_compare_context([store.load(run_id) for run_id in ids]), "comparison": ids, "run_ids": ids}


def _make_address(job: QueuedJob) -> str:
    """Return the address of the form as it was, to change it and try again."""
    fields = [(name, word) for name, words in job.form.items() if name != "csrf" for word in words]
    return add_query("/work", fields) if fields else ""


def _find_job(request: Request) -> QueuedJob:
    job = get_app_state(request).jobs.find(str(request.path_params["job_id"]))
    if job is None:
        raise RunNotFound(
            "job not found", "the server keeps jobs only while it runs", "look for its runs in the list of runs"
        )
    return job


def start(request: Request) -> Response:
    """Add the job of a form to the queue; show the form with its errors if it has some."""
    app_state, form = get_app_state(request), get_form(request)
    if (form.get("kind") or [""])[0] not in JOB_KINDS:
        raise UsageError("unknown kind of job", "the form is not valid", f"use one of {', '.join(JOB_KINDS)}")
    checked = _check(request, form)
    if checked.kind.needs_folder and not app_state.work_folders:
        raise UsageError(
            f"{checked.kind.name} needs files of a work folder",
            "the server has no work folder",
            "edgewright ui --work-folder DIR",
        )
    if checked.errors:
        return _show_form(request, checked, shows_errors=True)
    job = app_state.jobs.add(make_job(checked, app_state))
    return RedirectResponse(f"/work/{job.id}", 303)


def start_rerun(request: Request) -> Response:
    """Start `runs rerun` for a run."""
    app_state = get_app_state(request)
    run = app_state.store.load(str(request.path_params["run_id"]))
    load_recorded_plan(run)
    words = ("runs", "rerun", run.id)
    title = f"Repeat {run.model.name if run.model else run.id}"
    job = QueuedJob(kind="rerun", title=title, shown=" ".join(("edgewright", *words)), prepare=lambda folder: words)
    return RedirectResponse(f"/work/{app_state.jobs.add(job).id}", 303)


def cancel(request: Request) -> Response:
    job = _find_job(request)
    get_app_state(request).jobs.cancel(job.id)
    return RedirectResponse(f"/work/{job.id}", 303)


async def upload(request: Request) -> Response:
    """Save an uploaded model file, with a size limit, a check of its first bytes and a sanitized name."""
    app_state = get_app_state(request)
    folder = Path(mkdtemp(dir=app_state.upload_folder))
    name = sanitize_file_name(request.query_params.get("name", "")) or "model"
    path = folder / ("model" + name if name.startswith(".") else name)
    is_saved = False
    try:
        size = await _save_upload(request, path)
        _check_upload(path)
        model = await to_thread.run_sync(read_uploaded, path)
        is_saved = True
    except EdgewrightError as error:
        fields = {"what": error.what.replace(str(path), name), "why": error.why.replace(str(path), name)}
        return make_json_response({"error": fields | {"try_this": error.try_this}})
    finally:
        if not is_saved:  # also if the browser disconnects during the upload
            rmtree(folder, ignore_errors=True)
    word = f"upload-{new_run_id()}"
    app_state.uploads[word] = model
    inputs = [{"name": one.name, "dtype": one.dtype, "shape": one.shape} for one in model.signature.inputs]
    return make_json_response({"upload": word, "name": path.name, "bytes": size, "inputs": inputs})


async def _save_upload(request: Request, path: Path) -> int:
    """Write the request's body to a file, and return its size; raise EdgewrightError if it is too large or fails."""
    size = 0
    try:
        with path.open("wb") as file:
            async for piece in request.stream():
                size += len(piece)
                if size > MAX_UPLOAD_BYTES:
                    raise UsageError(
                        "the file is too large",
                        f"the maximum is {MAX_UPLOAD_BYTES >> 30} GiB",
                        "use the command line: edgewright benchmark FILE",
                    )
                await to_thread.run_sync(file.write, piece)
    except OSError as error:
        why = error.strerror or str(error)
        raise EdgewrightError("the file cannot be saved", why, "check that the disk is not full") from None
    return size


def _check_upload(path: Path) -> None:
    """Raise ModelUnreadable for a file whose first bytes are neither ONNX nor TFLite."""
    kind = sniff(path)
    if kind not in UPLOAD_FORMATS:
        raise ModelUnreadable(
            f"{path.name} is not supported here", f"its format is {kind}", "upload an ONNX or TFLite file"
        )
