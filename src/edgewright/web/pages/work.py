"""Pages of the jobs: start form, queue, one job with its log, upload of model files."""

from collections.abc import Sequence
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from edgewright.errors import EdgewrightError, ModelUnreadable, RunNotFound, StoreError, UsageError
from edgewright.flows.benchmark.rerun import load_recorded_plan
from edgewright.flows.devices.names import DEVICES
from edgewright.flows.stored_model import fetch_model, get_stored_model
from edgewright.formats.files import sniff
from edgewright.schema.run import Run
from edgewright.store.runs.browse import ModelRow
from edgewright.store.runs.ids import new_run_id
from edgewright.store.runs.queries import RunFilter
from edgewright.store.store import Store
from edgewright.web.jobs.choices import FormChoice, check_links, list_offers
from edgewright.web.jobs.kinds import JOB_FOLDER, JOB_KINDS, Form, JobKind, list_field_choices, parse_form_options
from edgewright.web.jobs.queue import QueuedJob
from edgewright.web.pages.filters import HEADLINE_METRICS
from edgewright.web.server.access import get_form
from edgewright.web.server.responses import make_json_response, make_page_response, sanitize_file_name, wants_fragment
from edgewright.web.server.state import AppState, get_app_state

MAX_UPLOAD_BYTES = 2 << 30
MAX_MODELS = 8
MAX_LISTED = 200
UPLOAD_FORMATS = ("onnx", "tflite")


def work_page(request: Request) -> Response:
    app_state = get_app_state(request)
    jobs = app_state.jobs.list()
    requested = request.query_params.get("kind", "")
    kind = JOB_KINDS.get(requested, next(iter(JOB_KINDS.values())))
    offered = _list_offered(app_state)
    models = [model for model in app_state.store.list_models() if model.has_file][:MAX_LISTED]
    context = {
        "jobs": jobs,
        "kinds": list(JOB_KINDS.values()),
        "kind": kind,
        "choices": {field.name: list_field_choices(field, offered) for field in kind.fields if field.choices},
        "has_folder": bool(app_state.work_folders),
        "models": models,
        "uploads": [(name, path.name) for name, path in app_state.uploads.items()],
        "chosen": request.query_params.getlist("model"),
    }
    if wants_fragment(request):
        return make_page_response(request, "job_list.html", "work", dict, context)
    return make_page_response(request, "work.html", "work", lambda: {"jobs": [job.facts() for job in jobs]}, context)


def _list_offered(app_state: AppState) -> dict[str, list[FormChoice]]:
    """Return the choices of the forms: devices (the test device only if it has runs), and files of work folders."""
    known = {one.kind for one in app_state.store.list_devices()} | {"local"}
    devices = [FormChoice(word, title, word) for word, title in DEVICES.items() if word in known]
    return {"devices": devices, **list_offers(app_state.work_folders)}


def job_page(request: Request) -> Response:
    job = _find_job(request)
    wanted = RunFilter(ids=job.run_ids, sort="started", ascending=True, metrics=HEADLINE_METRICS)
    rows = get_app_state(request).store.list_runs(wanted) if job.run_ids else []

    def facts() -> dict[str, Any]:
        return {"job": job.facts(), "log": list(job.lines)}

    return make_page_response(request, "job.html", "work", facts, {"job": job, "rows": rows})


def _find_job(request: Request) -> QueuedJob:
    job = get_app_state(request).jobs.find(str(request.path_params["job_id"]))
    if job is None:
        raise RunNotFound(
            "job not found", "the server keeps jobs only while it runs", "look for its runs in the list of runs"
        )
    return job


def start(request: Request) -> Response:
    """Add the job of a form to the queue."""
    app_state, form = get_app_state(request), get_form(request)
    kind = JOB_KINDS.get((form.get("kind") or [""])[0])
    if kind is None:
        raise UsageError("unknown kind of job", "the form is not valid", f"use one of {', '.join(JOB_KINDS)}")
    job = app_state.jobs.add(_make_job(kind, form, app_state))
    return RedirectResponse(f"/work/{job.id}", 303)


def _make_job(kind: JobKind, form: Form, app_state: AppState) -> QueuedJob:
    """Return the job of a form; raise UsageError if the form is not valid."""
    chosen = list(dict.fromkeys(form.get("model", ())))
    if not chosen:
        raise UsageError("no model is selected", "a job needs a model", "select a model or upload a file")
    most = MAX_MODELS if kind.several else 1
    if len(chosen) > most:
        raise UsageError("too many models", f"{len(chosen)} are selected", f"select at most {most}")
    if kind.needs_folder and not app_state.work_folders:
        raise UsageError(
            f"{kind.name} needs files of a work folder",
            "the server has no work folder",
            "edgewright ui --work-folder DIR",
        )
    options = parse_form_options(kind, form, _list_offered(app_state))
    sources = [_resolve_source(word, app_state) for word in chosen]
    names = [name for name, _ in sources]
    fixed = ["artifacts" if word == JOB_FOLDER else word for word in kind.fixed]

    def prepare(folder: Path) -> Sequence[str]:
        paths = [fetch(folder / str(index)) for index, (_, fetch) in enumerate(sources)]
        own = [str(folder / "artifacts") if word == JOB_FOLDER else word for word in kind.fixed]
        given = [one.word for one in options]
        for path in (Path(word) for word in given if Path(word).is_absolute()):
            check_links(path, app_state.work_folders)
        return [kind.name, *map(str, paths), *own, *given]

    title = f"{kind.title} {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
    return QueuedJob(
        kind=kind.name,
        title=title,
        shown=" ".join(["edgewright", kind.name, *names, *fixed, *(one.title for one in options)]),
        prepare=prepare,
    )


def _resolve_source(word: str, app_state: AppState) -> tuple[str, Any]:
    """Return the name of a model, and a function that fetches its file: from the store, or an uploaded file."""
    if path := app_state.uploads.get(word):
        return path.name, lambda folder: path
    known: dict[str, ModelRow] = {model.id: model for model in app_state.store.list_models()}
    if word not in known:
        raise UsageError("the model does not exist", "it was deleted in the meantime", "reload the page")
    run = find_run_with_file(word, app_state.store)

    def fetch(folder: Path) -> Path:
        folder.mkdir(parents=True)
        return fetch_model(app_state.store.load(run.id), app_state.store, folder)

    return known[word].name, fetch


def find_run_with_file(model_id: str, store: Store) -> Run:
    """Return the newest run that stores the model's file; local runs before imported ones.

    Raises:
        UsageError: no run stores the file.
        StoreError: the stored files are not usable.
    """
    rejection: EdgewrightError = UsageError(
        "this model's file is not in the store", "it was imported without its file", "upload the file"
    )
    for run_id in store.list_runs_with_file(model_id, MAX_LISTED):
        run = store.load(run_id)
        try:
            get_stored_model(run)
        except StoreError as error:
            rejection = error
            continue
        return run
    raise rejection


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
        is_saved = True
    except EdgewrightError as error:
        fields = {"what": error.what.replace(str(path), name), "why": error.why.replace(str(path), name)}
        return make_json_response({"error": fields | {"try_this": error.try_this}})
    finally:
        if not is_saved:  # also if the browser disconnects during the upload
            rmtree(folder, ignore_errors=True)
    word = f"upload-{new_run_id()}"
    app_state.uploads[word] = path
    return make_json_response({"upload": word, "name": path.name, "bytes": size})


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
    """Raise ModelUnreadable for a file whose first bytes are neither ONNX nor TFLite; the job reads it in full."""
    kind = sniff(path)
    if kind not in UPLOAD_FORMATS:
        raise ModelUnreadable(
            f"{path.name} is not supported here", f"its format is {kind}", "upload an ONNX or TFLite file"
        )
