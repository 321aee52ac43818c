"""The form of a new job: what is chosen, the errors by field, the command, its estimated time, and the job itself."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from edgewright.errors import EdgewrightError, FieldError, StoreError, UsageError
from edgewright.flows.devices.names import DEVICES
from edgewright.flows.stored_model import fetch_model, get_stored_model
from edgewright.schema.model import Model
from edgewright.schema.run import Run
from edgewright.store.store import Store
from edgewright.web.jobs.choices import FormChoice, check_links, list_offers
from edgewright.web.jobs.estimate import estimate_benchmark, estimate_like_before
from edgewright.web.jobs.kinds import JOB_FOLDER, Form, JobKind, parse_form_options
from edgewright.web.jobs.queue import QueuedJob
from edgewright.web.jobs.signatures import SizeField, list_size_fields, parse_sizes
from edgewright.web.server.state import AppState

MAX_MODELS = 8
MAX_RUNS_WITH_FILE = 200
NO_MODEL = "a job needs a model"


class _Source(NamedTuple):
    """A chosen model, and the function that puts its file into a folder."""

    model: Model
    fetch: Callable[[Path], Path]


class CheckedForm(NamedTuple):
    """A form with all that its values lead to.

    Attributes:
        errors: by the name of the field.
        command: as a user would type it; without the fields that have errors.
        estimate: the expected time as a text; empty as long as there are errors.
        sizes: fields for the dynamic sizes of the models' inputs.
    """

    kind: JobKind
    form: Form
    chosen: tuple[str, ...]
    errors: dict[str, FieldError]
    command: str
    estimate: str
    sizes: list[SizeField]
    options: list[FormChoice]
    sources: list[_Source]

    def get_value(self, name: str, default: str = "") -> str:
        """Return the given value of a field, or the default."""
        return (self.form.get(name) or [default])[0]

    @property
    def differs(self) -> bool:
        """Whether a number or a switch has another value than its default, or an error."""
        numbers = (field for field in self.kind.fields if field.takes in ("number", "whole"))
        switches = (field for field in self.kind.fields if field.takes == "switch")
        return any(
            field.name in self.errors or self.get_value(field.name, field.default) != field.default for field in numbers
        ) or not all(self.is_chosen(field.name, "on", default=True) for field in switches)

    def is_chosen(self, name: str, value: str, *, default: bool = False) -> bool:
        """Return whether a choice is given; `default` if the form was not filled in yet."""
        given = value in self.form.get(name, ())
        return given or (default and not self.form.get("filled"))


def list_offered(app_state: AppState) -> dict[str, list[FormChoice]]:
    """Return the choices of the forms: devices (the test device only if it has runs), and files of work folders."""
    known = {one.kind for one in app_state.store.list_devices()} | {"local"}
    devices = [FormChoice(word, title, word) for word, title in DEVICES.items() if word in known]
    devices += [FormChoice(one.name, one.name, one.name) for one in app_state.store.list_registered_devices()]
    return {"devices": devices, **list_offers(app_state.work_folders)}


def check_form(kind: JobKind, form: Form, app_state: AppState) -> CheckedForm:
    """Return the form with its errors, command and estimate. Never raises UsageError for a value."""
    errors: dict[str, FieldError] = {}
    chosen = tuple(dict.fromkeys(form.get("model", ())))
    sources = _resolve_sources(kind, chosen, app_state, errors)
    models = [source.model for source in sources]
    options = parse_form_options(kind, form, list_offered(app_state), errors)
    if kind.takes_sizes:
        options += parse_sizes(models, form, errors)
    names = [model.name for model in models] or ["MODEL"]
    fixed = ["artifacts" if word == JOB_FOLDER else word for word in kind.fixed]
    words = ["edgewright", kind.name, *names, *fixed, *(one.title for one in options)]
    return CheckedForm(
        kind=kind,
        form=form,
        chosen=chosen,
        errors=errors,
        command=shlex.join(words),
        estimate="" if errors else _estimate(kind, form, len(models), app_state.store),
        sizes=list_size_fields(models, form) if kind.takes_sizes else [],
        options=options,
        sources=sources,
    )


def _resolve_sources(
    kind: JobKind, chosen: Sequence[str], app_state: AppState, errors: dict[str, FieldError]
) -> list[_Source]:
    most = MAX_MODELS if kind.several else 1
    why = NO_MODEL if not chosen else f"select at most {most}" if len(chosen) > most else ""
    if why:
        what = "too many models" if chosen else "no model is selected"
        errors["model"] = FieldError(what, why, "select a model or upload a file", field="model")
    found = []
    for word in chosen[:most]:
        try:
            found.append(_resolve_source(word, app_state))
        except EdgewrightError as error:
            errors["model"] = FieldError(error.what, error.why, error.try_this, field="model")
    return found


def _resolve_source(word: str, app_state: AppState) -> _Source:
    """Return a model of the store, or an uploaded one."""
    if uploaded := app_state.uploads.get(word):
        return _Source(uploaded, lambda folder: Path(uploaded.path))
    if word not in app_state.store.get_model_names([word]):
        raise UsageError("the model does not exist", "it was deleted in the meantime", "reload the page")
    run = find_run_with_file(word, app_state.store)
    assert run.model is not None  # noqa: S101 - it stores its file

    def fetch(folder: Path) -> Path:
        folder.mkdir(parents=True)
        return fetch_model(app_state.store.load(run.id), app_state.store, folder)

    return _Source(run.model, fetch)


def find_run_with_file(model_id: str, store: Store) -> Run:
    """Return the newest run that stores the model's file; local runs before imported ones.

    Raises:
        UsageError: no run stores the file.
        StoreError: the stored files are not usable.
    """
    rejection: EdgewrightError = UsageError(
        "this model's file is not in the store", "it was imported without its file", "upload the file"
    )
    for run_id in store.list_runs_with_file(model_id, MAX_RUNS_WITH_FILE):
        run = store.load(run_id)
        try:
            get_stored_model(run)
        except StoreError as error:
            rejection = error
            continue
        return run
    raise rejection


def _estimate(kind: JobKind, form: Form, models: int, store: Store) -> str:
    cells = models * max(len(form.get("runtime", ())), 1) * max(len(form.get("precision", ())), 1)
    if kind.name != "benchmark":
        return estimate_like_before(store, kind.name, cells if kind.name == "compile" else models)
    given = {field.name: (form.get(field.name) or [""])[0].strip() or field.default for field in kind.fields}
    return estimate_benchmark(store, cells, int(given["processes"]), float(given["seconds"]))


def make_job(checked: CheckedForm, app_state: AppState) -> QueuedJob:
    """Return the job of a form without errors."""
    kind, names = checked.kind, [source.model.name for source in checked.sources]

    def prepare(folder: Path) -> Sequence[str]:
        paths = [source.fetch(folder / str(index)) for index, source in enumerate(checked.sources)]
        own = [str(folder / "artifacts") if word == JOB_FOLDER else word for word in kind.fixed]
        given = [one.word for one in checked.options]
        for path in (Path(word) for word in given if Path(word).is_absolute()):
            check_links(path, app_state.work_folders)
        return [kind.name, *map(str, paths), *own, *given]

    title = f"{kind.title} {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
    return QueuedJob(kind=kind.name, title=title, shown=checked.command, prepare=prepare, form=checked.form)
