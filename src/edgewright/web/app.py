"""All addresses, and what holds for each: the guard in front, errors in three lines, the desk behind."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from edgewright.errors import EdgewrightError
from edgewright.store.store import Store
from edgewright.web import comparing, devices, login, models, netron, reports, run_detail, run_list, work
from edgewright.web.answers import error_answer
from edgewright.web.assets import static_file
from edgewright.web.guard import CUT_OFF, Doors, Guard
from edgewright.web.jobs import Jobs
from edgewright.web.live import Live
from edgewright.web.state import Desk, desk_of
from edgewright.web.undo import WAIT_S, Bin

Handler = Callable[[Request], Response]
SWEEP_S = 2.0
MOST_STREAMS = 200


def page(path: str, handler: Handler) -> list[BaseRoute]:
    """A page and its twin. The twin stands first: a page's last part may be a name with a dot in it."""
    return [Route(f"{path}.json", handler), Route(path, handler)]


ROUTES: list[BaseRoute] = [
    Route("/", lambda request: RedirectResponse("/runs", 303)),
    *page("/runs", run_list.runs_page),
    Route("/runs.csv", run_list.runs_csv),
    Route("/runs/compare", run_list.compare_chosen, methods=["POST"]),
    Route("/runs/tag", run_list.tag_runs, methods=["POST"]),
    Route("/runs/delete", run_list.delete_runs, methods=["POST"]),
    Route("/runs/undo", run_list.undo_delete, methods=["POST"]),
    Route("/runs/{run_id}/samples.json", run_detail.samples_json),
    Route("/runs/{run_id}/timeline.json", run_detail.spans_json),
    Route("/runs/{run_id}/trace.json", run_detail.trace_json),
    Route("/runs/{run_id}/explorer.json", run_detail.explorer_json),
    Route("/runs/{run_id}/plan.json", run_detail.plan_json),
    Route("/runs/{run_id}/record.json", run_detail.record_json),
    Route("/runs/{run_id}/samples.csv", run_detail.samples_csv),
    Route("/runs/{run_id}/layers.csv", run_detail.layers_csv),
    Route("/runs/{run_id}/report.html", reports.run_report),
    Route("/runs/{run_id}/files/{sha256}", run_detail.file_of_run),
    Route("/runs/{run_id}/tag", run_detail.tag_run, methods=["POST"]),
    Route("/runs/{run_id}/rerun", work.start_rerun, methods=["POST"]),
    *page("/runs/{run_id}", run_detail.run_page),
    *page("/compare", comparing.compare_page),
    Route("/compare.csv", comparing.compare_csv),
    Route("/compare/report.html", reports.compare_report),
    *page("/models", models.models_page),
    Route("/models.csv", models.models_csv),
    Route("/devices.csv", devices.devices_csv),
    Route("/models/upload", work.upload, methods=["POST"]),
    *page("/models/{model_id}", models.model_page),
    *page("/devices", devices.devices_page),
    *page("/work", work.work_page),
    Route("/work/start", work.start, methods=["POST"]),
    Route("/work/{job_id}/cancel", work.cancel, methods=["POST"]),
    *page("/work/{job_id}", work.job_page),
    Route("/netron/{model_id}/", netron.graph_page),
    Route("/netron/{model_id}/data/{name:path}", netron.model_file),
    Route("/netron/{model_id}/{name}", netron.package_file),
    Route("/login", login.login_page),
    Route("/login", login.log_in, methods=["POST"]),
    Route("/static/{name}", static_file),
]


async def events(request: Request) -> Response:
    """What happens now, as long as the page is open."""
    if desk_of(request).live.watchers >= MOST_STREAMS:
        return PlainTextResponse("Too many pages are open.", 503)
    headers = {"cache-control": "no-store", "x-accel-buffering": "no", "content-encoding": "identity"}
    return StreamingResponse(desk_of(request).live.stream(), media_type="text/event-stream", headers=headers)


def tell_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, EdgewrightError)  # noqa: S101 - registered for no other
    if isinstance(error.__cause__, AttributeError | LookupError | TypeError):  # odd values of a run, or a fault of ours
        logging.getLogger("uvicorn.error").error("%s", error.what, exc_info=error.__cause__)
    return error_answer(request, error)


def tell_cut_off(request: Request, error: Exception) -> Response:
    """Answer a request whose end never came; nobody may be left to read it."""
    return PlainTextResponse(CUT_OFF, 400)


def tell_absent(request: Request, error: Exception) -> Response:
    absent = EdgewrightError("there is no such page", str(request.url.path)[:200], "the pages are named at the top")
    return error_answer(request, absent, 404)


def tell_broken(request: Request, error: Exception) -> Response:
    """A failure of our own: its kind, and nothing of its inside."""
    hint = "report it with what the terminal says"
    return error_answer(
        request, EdgewrightError("something went wrong inside Edgewright", type(error).__name__, hint), 500
    )


def make_app(
    store: Store, doors: Doors, upload_folder: Path, work_folders: tuple[Path, ...] = (), *, wait_s: float = WAIT_S
) -> tuple[Guard, Desk]:
    """The pages of a record. What runs beside them begins and ends with the server.

    Args:
        upload_folder: takes the user's files; the caller removes it.
        work_folders: whose tasks, data sets and recipes the forms offer.
        wait_s: how long a deletion can be undone.
    """
    live = Live()
    desk = Desk(store, doors, Jobs(live.tell), live, Bin(wait_s), upload_folder, work_folders)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(live.follow(store)), asyncio.create_task(sweep(desk))]
        try:
            yield
        finally:
            live.close()
            desk.bin.stop()
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            await to_thread.run_sync(close_desk, desk)

    app = Starlette(
        routes=[Route("/events", events), *ROUTES],
        lifespan=lifespan,
        exception_handlers={
            EdgewrightError: tell_error,
            ClientDisconnect: tell_cut_off,
            404: tell_absent,
            Exception: tell_broken,
        },
    )
    app.state.desk = desk
    return Guard(app, doors), desk  # around all: what goes wrong inside gets its headers too


async def sweep(desk: Desk) -> None:
    """Delete what nobody has taken back in time."""
    while True:
        await asyncio.sleep(SWEEP_S)
        if desk.bin.hidden():
            await to_thread.run_sync(desk.bin.empty, desk.store)


def close_desk(desk: Desk) -> None:
    desk.jobs.close()
    desk.bin.close(desk.store)
