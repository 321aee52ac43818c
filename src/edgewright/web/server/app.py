"""Routes, error handlers and the lifespan of the application."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from edgewright.errors import EdgewrightError
from edgewright.store.store import Store
from edgewright.web.browsers.server import BrowserServer
from edgewright.web.graph import page as graph
from edgewright.web.jobs.queue import JobQueue
from edgewright.web.lists import activity, find, views
from edgewright.web.models import pages as models
from edgewright.web.pages import comparison, devices, netron, reports, run_detail, run_list, work
from edgewright.web.server import language, login
from edgewright.web.server.access import INCOMPLETE_REQUEST, AccessMiddleware, AccessRules
from edgewright.web.server.assets import serve_static_file
from edgewright.web.server.deletions import UNDO_TIME_S, DeletionQueue
from edgewright.web.server.events import EventBroadcaster
from edgewright.web.server.responses import make_error_response
from edgewright.web.server.state import AppState, get_app_state

Handler = Callable[[Request], Response]
DELETION_INTERVAL_S = 2.0
MAX_STREAMS = 200


def _make_page_routes(path: str, handler: Handler) -> list[BaseRoute]:
    """Return the routes of a page and its JSON address; JSON first, because an address may end with a dotted name."""
    return [Route(f"{path}.json", handler), Route(path, handler)]


ROUTES: list[BaseRoute] = [
    Route("/", lambda request: RedirectResponse("/models", 303)),
    *_make_page_routes("/activity", activity.activity_page),
    *_make_page_routes("/find", find.find_page),
    *_make_page_routes("/runs", run_list.runs_page),
    Route("/runs/views", views.save_view, methods=["POST"]),
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
    Route("/runs/{run_id}/files/{sha256}", run_detail.run_file),
    Route("/runs/{run_id}/tag", run_detail.tag_run, methods=["POST"]),
    Route("/runs/{run_id}/rerun", work.start_rerun, methods=["POST"]),
    *_make_page_routes("/runs/{run_id}/graph", graph.graph_page),
    *_make_page_routes("/runs/{run_id}", run_detail.run_page),
    *_make_page_routes("/compare", comparison.compare_page),
    Route("/compare.csv", comparison.compare_csv),
    Route("/compare/report.html", reports.compare_report),
    *_make_page_routes("/models", models.models_page),
    Route("/models.csv", models.models_csv),
    Route("/devices.csv", devices.devices_csv),
    Route("/models/upload", work.upload, methods=["POST"]),
    *_make_page_routes("/models/{model_id}", models.model_page),
    *_make_page_routes("/devices", devices.devices_page),
    *_make_page_routes("/work", work.work_page),
    Route("/work/preview", work.preview),
    Route("/work/start", work.start, methods=["POST"]),
    Route("/work/{job_id}/cancel", work.cancel, methods=["POST"]),
    *_make_page_routes("/work/{job_id}", work.job_page),
    Route("/netron/{model_id}/", netron.graph_page),
    Route("/netron/{model_id}/data/{name:path}", netron.model_file),
    Route("/netron/{model_id}/{name}", netron.package_file),
    Route("/login", login.login_page),
    Route("/login", login.log_in, methods=["POST"]),
    Route("/language", language.choose_language, methods=["POST"]),
    Route("/static/{name}", serve_static_file),
]


async def _stream_events(request: Request) -> Response:
    """Stream events while the page is open."""
    if get_app_state(request).live.watchers >= MAX_STREAMS:
        return PlainTextResponse("Too many pages are open. Close some of them.", 503)
    headers = {"cache-control": "no-store", "x-accel-buffering": "no", "content-encoding": "identity"}
    return StreamingResponse(get_app_state(request).live.stream(), media_type="text/event-stream", headers=headers)


def _handle_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, EdgewrightError)  # noqa: S101 - registered for no other
    if isinstance(error.__cause__, AttributeError | LookupError | TypeError):  # unexpected values in a run, or a bug
        logging.getLogger("uvicorn.error").error("%s", error.what, exc_info=error.__cause__)
    return make_error_response(request, error)


def _handle_disconnect(request: Request, error: Exception) -> Response:
    """Respond to an incomplete request; the client may be gone."""
    return PlainTextResponse(INCOMPLETE_REQUEST, 400)


def _handle_not_found(request: Request, error: Exception) -> Response:
    absent = EdgewrightError("page not found", str(request.url.path)[:200], "use the links at the top")
    return make_error_response(request, absent, 404)


def _handle_internal_error(request: Request, error: Exception) -> Response:
    """Return the error page for an unexpected exception, with its type and without internal details."""
    hint = "report the error with the output in the terminal"
    return make_error_response(
        request, EdgewrightError("Edgewright failed with an internal error", type(error).__name__, hint), 500
    )


def make_app(
    store: Store,
    access_rules: AccessRules,
    upload_folder: Path,
    work_folders: tuple[Path, ...] = (),
    *,
    wait_s: float = UNDO_TIME_S,
    browsers: BrowserServer | None = None,
) -> tuple[AccessMiddleware, AppState]:
    """Return the application of a store, and its state. Background tasks start and stop with the server.

    Args:
        upload_folder: folder for uploaded files; the caller removes it.
        work_folders: folders with the tasks, datasets and recipes that forms offer.
        wait_s: time in which a deletion can be undone.
        browsers: holds browsers as devices, if this server does.
    """
    live = EventBroadcaster()
    app_state = AppState(
        store, access_rules, JobQueue(live.publish), live, DeletionQueue(wait_s), upload_folder, work_folders
    )

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        stack = AsyncExitStack()
        if browsers is not None:
            await stack.enter_async_context(browsers.listen())
        tasks = [asyncio.create_task(live.follow(store)), asyncio.create_task(_delete_due_runs(app_state))]
        try:
            yield
        finally:
            await stack.aclose()
            live.close()
            app_state.deletions.stop()
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            await to_thread.run_sync(_close_app_state, app_state)

    app = Starlette(
        routes=[Route("/events", _stream_events), *(browsers.routes if browsers else ()), *ROUTES],
        lifespan=lifespan,
        exception_handlers={
            EdgewrightError: _handle_error,
            ClientDisconnect: _handle_disconnect,
            404: _handle_not_found,
            Exception: _handle_internal_error,
        },
    )
    app.state.app_state = app_state
    return AccessMiddleware(app, access_rules), app_state  # outermost: error responses get the security headers too


async def _delete_due_runs(app_state: AppState) -> None:
    """Delete runs whose deletion was not undone in time."""
    while True:
        await asyncio.sleep(DELETION_INTERVAL_S)
        if app_state.deletions.hidden():
            await to_thread.run_sync(app_state.deletions.delete_due, app_state.store)


def _close_app_state(app_state: AppState) -> None:
    app_state.jobs.close()
    app_state.deletions.close(app_state.store)
