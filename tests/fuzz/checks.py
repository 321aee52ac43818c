"""Checks that call the product's own functions, for what no command shows: `:name argument` in a case's commands."""

import asyncio
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

import edgewright
from edgewright.bench.feeds import make_feeds, resolve_shapes
from edgewright.errors import EdgewrightError, InputError, ModelError, RuntimeMissing
from edgewright.formats.files import read_graph, read_model
from edgewright.formats.onnx.normalize.source import prepare_onnx
from edgewright.schema.model import Model
from edgewright.store.store import Store, open_store
from edgewright.web.server.access import AccessRules
from edgewright.web.server.app import make_app

PAGES = (
    "/runs", "/runs.json", "/runs.csv", "/runs/{run}", "/runs/{run}.json", "/runs/{run}/samples.json",
    "/runs/{run}/timeline.json", "/runs/{run}/trace.json", "/runs/{run}/explorer.json", "/runs/{run}/plan.json",
    "/runs/{run}/record.json", "/runs/{run}/samples.csv", "/runs/{run}/layers.csv", "/runs/{run}/report.html",
    "/compare?run={run}&run={good}", "/compare?run={good}&run={run}", "/compare.json?run={good}&run={run}",
    "/compare.csv?run={good}&run={run}", "/compare/report.html?run={good}&run={run}", "/models", "/models.json",
    "/models.csv", "/models/{model}", "/models/{model}.json", "/devices", "/devices.json", "/work", "/work.json",
    "/runs?sort=started", "/runs?sort=device&text=a", "/runs?tag=a=b",
)  # fmt: skip
PAGES_EACH = 3


class Fault(AssertionError):
    """What the product did is wrong."""


def read(word: str) -> None:
    """Read the model as every command does before it starts: signature, graph, inputs, fixed shapes."""
    path = Path(word)
    model = read_model(path)
    read_graph(path, model.format)
    given = {
        spec.name: [size if isinstance(size, int) else 1 for size in spec.shape] for spec in model.signature.inputs
    }
    shapes = resolve_shapes(model.signature, given)
    make_feeds(model.signature, shapes, 0)
    if model.format == "onnx":
        prepare_onnx(path, shapes, Path("../../../tmp/prepared.onnx"))


def convert(word: str) -> None:
    """Convert to LiteRT, and compare the file's numbers with ONNX Runtime's on inputs of our own."""
    try:
        data = edgewright.onnx_to_litert(Path(word), io="source")
    except (ModelError, InputError, RuntimeMissing):
        return
    except EdgewrightError as error:
        raise Fault(f"onnx_to_litert raises {type(error).__name__}, which its documentation does not name") from error
    compare(read_model(Path(word)), data)


def compare(model: Model, data: bytes) -> None:
    """Raise Fault where a LiteRT file computes other numbers than its source."""
    import onnxruntime
    from ai_edge_litert.interpreter import Interpreter

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    try:
        source = onnxruntime.InferenceSession(model.path, options, providers=["CPUExecutionProvider"])
    except Exception:  # ONNX Runtime takes less than ONNX defines: there is nothing to compare with
        return
    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    made = np.random.default_rng(7)
    feeds: dict[str, Any] = {}
    for spec, place in zip(source.get_inputs(), interpreter.get_input_details(), strict=True):
        feeds[spec.name] = np.abs(made.standard_normal(place["shape"])).astype(place["dtype"])
        interpreter.set_tensor(place["index"], feeds[spec.name])
    interpreter.invoke()
    try:
        expected = source.run(None, feeds)
    except Exception:  # as above
        return
    for place, right in zip(interpreter.get_output_details(), expected, strict=True):
        found = np.asarray(interpreter.get_tensor(place["index"]), np.float64).reshape(-1)
        wanted = np.asarray(right, np.float64).reshape(-1)
        if found.size != wanted.size:
            raise Fault(f"output {place['name']} has {found.size} elements, its source {wanted.size}")
        finite = np.isfinite(wanted)
        reach = float(np.abs(wanted[finite]).max(initial=0.0))
        error = float(np.abs(found[finite] - wanted[finite]).max(initial=0.0))
        if error > 0.1 * reach + 1e-3:
            raise Fault(f"output {place['name']} is off by {error:.3g}, of values up to {reach:.3g}")


def arrays(word: str) -> None:
    """Hold what a dataset of arrays yields against what numpy and zipfile read."""
    from edgewright.tasks.data.dataset import open_dataset
    from edgewright.tasks.spec.file import read_task

    try:
        with open_dataset(word, read_task(Path("task.toml"))) as data:
            count = len(list(data.read()))
    except EdgewrightError:
        return
    try:
        with zipfile.ZipFile(word) as archive:
            broken = archive.testzip()
        with np.load(word) as held:
            rows = len(held["labels"])
    except Exception as error:
        raise Fault(f"an .npz that numpy refuses ({error}) is taken as data") from error
    if broken or rows != count:
        raise Fault(f"{count} samples are read of {rows}; damaged is {broken}")


def pages(word: str, home: Path, run: str, good: str) -> None:
    """Ask for some pages of a record, chosen by the number of the case."""
    with open_store(home) as store:
        loaded = store.load(run)
        model = loaded.model.sha256 if loaded.model else "none"
        start = int(word) * PAGES_EACH
        chosen = {PAGES[(start + place) % len(PAGES)] for place in range(PAGES_EACH)}
        addresses = [page.format(run=run, good=good, model=quote(model, safe="")) for page in sorted(chosen)]
        asyncio.run(ask_all(store, addresses))


async def ask_all(store: Store, addresses: list[str]) -> None:
    app, app_state = make_app(store, AccessRules(), Path.cwd())
    try:
        for address in addresses:
            status, headers, body = await ask(app, address)
            if status >= 500:
                raise Fault(f"{address[:60]} answers {status}: {body[-200:]!r}")
            if b"<script>alert" in body and b"html" in headers.get(b"content-type", b""):
                raise Fault(f"{address[:60]} carries a script of the record")
            if any(b"\n" in value or b"\r" in value for value in headers.values()):
                raise Fault(f"{address[:60]} carries a header of the record")
    finally:
        app_state.jobs.close()


async def ask(app: Callable[..., Any], address: str) -> tuple[int, dict[bytes, bytes], bytes]:
    """Send one GET to an ASGI application: its status, headers and body."""
    path, _, query = address.partition("?")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
        "headers": [(b"host", b"127.0.0.1:1")],
        "client": ("127.0.0.1", 2), "server": ("127.0.0.1", 1), "state": {},
    }  # fmt: skip
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if sent and not sent[-1].get("more_body", True):
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    status, headers = next(
        ((one["status"], one["headers"]) for one in sent if one["type"] == "http.response.start"), (599, [])
    )
    return status, dict(headers), b"".join(one.get("body", b"") for one in sent)


CHECKS: dict[str, Callable[[str], None]] = {"read": read, "convert": convert, "arrays": arrays}
