"""Work from a page: what can be started, the queue, one job with its log, files of the user's own."""

from collections.abc import Sequence
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from edgewright.errors import EdgewrightError, ModelUnreadable, RunNotFound, StoreError, UsageError
from edgewright.facts.run import Run
from edgewright.flows.device import DEVICES
from edgewright.flows.rerun import recorded_plan
from edgewright.flows.stored_model import fetch_model, stored_model
from edgewright.formats.files import sniff
from edgewright.store.browse import ModelRow
from edgewright.store.ids import new_run_id
from edgewright.store.queries import RunFilter
from edgewright.store.store import Store
from edgewright.web.answers import answer, file_name, json_answer, wants_part
from edgewright.web.filters import HEADLINE
from edgewright.web.guard import form_of
from edgewright.web.jobs import Job
from edgewright.web.kinds import FOLDER, KINDS, Form, Kind, choices_of, options_from
from edgewright.web.offers import Choice, check_links, look
from edgewright.web.state import Desk, desk_of

MOST_UPLOAD_BYTES = 2 << 30
MOST_MODELS = 8
MOST_LISTED = 200
UPLOADED = ("onnx", "tflite")


def work_page(request: Request) -> Response:
    desk = desk_of(request)
    jobs = desk.jobs.list()
    asked = request.query_params.get("kind", "")
    kind = KINDS.get(asked, next(iter(KINDS.values())))
    offered = offered_at(desk)
    models = [model for model in desk.store.list_models() if model.has_file][:MOST_LISTED]
    context = {
        "jobs": jobs,
        "kinds": list(KINDS.values()),
        "kind": kind,
        "choices": {field.name: choices_of(field, offered) for field in kind.fields if field.choices},
        "has_folder": bool(desk.work_folders),
        "models": models,
        "uploads": [(name, path.name) for name, path in desk.uploads.items()],
        "chosen": request.query_params.getlist("model"),
    }
    if wants_part(request):
        return answer(request, "job_list.html", "work", dict, context)
    return answer(request, "work.html", "work", lambda: {"jobs": [job.facts() for job in jobs]}, context)


def offered_at(desk: Desk) -> dict[str, list[Choice]]:
    """What the forms can name: devices (the one for tests where it is on record), and files of the work folders."""
    known = {one.kind for one in desk.store.list_devices()} | {"local"}
    devices = [Choice(word, title, word) for word, title in DEVICES.items() if word in known]
    return {"devices": devices, **look(desk.work_folders)}


def job_page(request: Request) -> Response:
    job = find_job(request)
    wanted = RunFilter(ids=job.run_ids, sort="started", rising=True, metrics=HEADLINE)
    rows = desk_of(request).store.list_runs(wanted) if job.run_ids else []

    def facts() -> dict[str, Any]:
        return {"job": job.facts(), "log": list(job.lines)}

    return answer(request, "job.html", "work", facts, {"job": job, "rows": rows})


def find_job(request: Request) -> Job:
    job = desk_of(request).jobs.find(str(request.path_params["job_id"]))
    if job is None:
        raise RunNotFound("there is no such job", "jobs are kept while the server runs", "its runs are on record")
    return job


def start(request: Request) -> Response:
    """Put what a form says into the queue."""
    desk, form = desk_of(request), form_of(request)
    kind = KINDS.get((form.get("kind") or [""])[0])
    if kind is None:
        raise UsageError("there is no such work", "", f"known are {', '.join(KINDS)}")
    job = desk.jobs.add(make_job(kind, form, desk))
    return RedirectResponse(f"/work/{job.id}", 303)


def make_job(kind: Kind, form: Form, desk: Desk) -> Job:
    """The job that a form asks for; UsageError for what cannot be."""
    chosen = list(dict.fromkeys(form.get("model", ())))
    if not chosen:
        raise UsageError("no model is chosen", "", "tick one, or bring a file")
    most = MOST_MODELS if kind.several else 1
    if len(chosen) > most:
        raise UsageError("too many models", f"{len(chosen)} are chosen", f"at most {most}")
    if kind.needs_folder and not desk.work_folders:
        raise UsageError(
            f"{kind.name} needs files of a work folder", "none is named", "edgewright ui --work-folder DIR"
        )
    options = options_from(kind, form, offered_at(desk))
    sources = [source_of(word, desk) for word in chosen]
    names = [name for name, _ in sources]
    fixed = ["artifacts" if word == FOLDER else word for word in kind.fixed]

    def prepare(folder: Path) -> Sequence[str]:
        paths = [bring(folder / str(place)) for place, (_, bring) in enumerate(sources)]
        own = [str(folder / "artifacts") if word == FOLDER else word for word in kind.fixed]
        given = [one.word for one in options]
        for path in (Path(word) for word in given if Path(word).is_absolute()):
            check_links(path, desk.work_folders)
        return [kind.name, *map(str, paths), *own, *given]

    title = f"{kind.title} {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
    return Job(
        kind=kind.name,
        title=title,
        shown=" ".join(["edgewright", kind.name, *names, *fixed, *(one.title for one in options)]),
        prepare=prepare,
    )


def source_of(word: str, desk: Desk) -> tuple[str, Any]:
    """The name of a model, and what brings its file into a folder: from the record, or from what was uploaded."""
    if path := desk.uploads.get(word):
        return path.name, lambda folder: path
    known: dict[str, ModelRow] = {model.id: model for model in desk.store.list_models()}
    if word not in known:
        raise UsageError("this model is not here", "it was deleted meanwhile", "load the page again")
    run = run_with_file(word, desk.store)

    def bring(folder: Path) -> Path:
        folder.mkdir(parents=True)
        return fetch_model(desk.store.load(run.id), desk.store, folder)

    return known[word].name, bring


def run_with_file(model_id: str, store: Store) -> Run:
    """The newest run that kept the model's own bytes: one that was made here before one that was imported.

    StoreError where there are only bytes that cannot be used.
    """
    refusal: EdgewrightError = UsageError(
        "this model's file is not in the record", "it was imported without it", "bring the file"
    )
    for run_id in store.list_holders(model_id, MOST_LISTED):
        run = store.load(run_id)
        try:
            stored_model(run)
        except StoreError as error:
            refusal = error
            continue
        return run
    raise refusal


def start_rerun(request: Request) -> Response:
    """The button of a run: `runs rerun`."""
    desk = desk_of(request)
    run = desk.store.load(str(request.path_params["run_id"]))
    recorded_plan(run)
    words = ("runs", "rerun", run.id)
    title = f"Repeat {run.model.name if run.model else run.id}"
    job = Job(kind="rerun", title=title, shown=" ".join(("edgewright", *words)), prepare=lambda folder: words)
    return RedirectResponse(f"/work/{desk.jobs.add(job).id}", 303)


def cancel(request: Request) -> Response:
    job = find_job(request)
    desk_of(request).jobs.cancel(job.id)
    return RedirectResponse(f"/work/{job.id}", 303)


async def upload(request: Request) -> Response:
    """Take in a model file: limited in size, known by its bytes, under a name of our own making."""
    desk = desk_of(request)
    folder = Path(mkdtemp(dir=desk.upload_folder))
    name = file_name(request.query_params.get("name", "")) or "model"
    path = folder / ("model" + name if name.startswith(".") else name)
    taken = False
    try:
        size = await take_in(request, path)
        check_upload(path)
        taken = True
    except EdgewrightError as error:
        told = {"what": error.what.replace(str(path), name), "why": error.why.replace(str(path), name)}
        return json_answer({"error": told | {"try_this": error.try_this}})
    finally:
        if not taken:  # also where the browser went away in the middle
            rmtree(folder, ignore_errors=True)
    word = f"upload-{new_run_id()}"
    desk.uploads[word] = path
    return json_answer({"upload": word, "name": path.name, "bytes": size})


async def take_in(request: Request, path: Path) -> int:
    """Write what is sent into the file; its bytes. EdgewrightError for too many, or where the disk is full."""
    size = 0
    try:
        with path.open("wb") as file:
            async for piece in request.stream():
                size += len(piece)
                if size > MOST_UPLOAD_BYTES:
                    raise UsageError(
                        "the file is too large",
                        f"more than {MOST_UPLOAD_BYTES >> 30} GiB",
                        "measure it in a terminal: edgewright benchmark FILE",
                    )
                await to_thread.run_sync(file.write, piece)
    except OSError as error:
        why = error.strerror or str(error)
        raise EdgewrightError("the file cannot be kept here", why, "see that the disk is not full") from None
    return size


def check_upload(path: Path) -> None:
    """ModelUnreadable for a file that is no ONNX and no TFLite, by its first bytes; the job reads it in full."""
    kind = sniff(path)
    if kind not in UPLOADED:
        raise ModelUnreadable(f"{path.name} cannot be used here", f"it is {kind}", "bring an ONNX or TFLite file")
