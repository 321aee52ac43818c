"""Models behind a server: what `edgewright serve` calls."""

import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct

from edgewright.api.field.profiles import profile_bytes
from edgewright.api.load import LoadedModel, load
from edgewright.errors import InputError, UsageError
from edgewright.flows.llm.candidates import find_candidates
from edgewright.flows.llm.chat import choose_candidate, open_speaker
from edgewright.schema.chat import ChatOptions, ChatOutcome
from edgewright.serving.app import InferenceApp, ServerSettings
from edgewright.serving.chat import ChatGeneration
from edgewright.serving.models import ServedModel
from edgewright.system.files import read_regular
from edgewright.web.server.access import AccessRules
from edgewright.web.server.connections import LimitedProtocol
from edgewright.web.server.serving import NotifyingServer, is_loopback, make_config

CHAT_KV = "fp16"
KEEP_ALIVE_S = 75
SHUTDOWN_S = 10


class ServeRequest(Struct, frozen=True, kw_only=True):
    """What is served, and to whom.

    Attributes:
        models: files that a runtime reads; models with one name are versions of it, in their order.
        queue: largest number of waiting requests of a model.
        limit_s: longest time of a request in the queue.
        allow_profile: whether clients may send models to be measured.
    """

    models: tuple[str, ...]
    host: str = "127.0.0.1"
    grpc_port: int | None = None
    runtime: str = ""
    option: tuple[str, ...] = ()
    threads: int = 1
    token_file: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    queue: int = 64
    max_body_bytes: int = 64_000_000
    limit_s: float = 30.0
    allow_profile: bool = False


def serve_models(request: ServeRequest, server: socket.socket, ready: Callable[[Sequence[ServedModel]], None]) -> None:
    """Load the models, and serve them on a listening socket until SIGINT or SIGTERM.

    Args:
        ready: is called once requests are answered.

    Raises UsageError for settings that do not fit, and the errors of `load`.
    """
    settings, tls = _read_settings(request), _find_certificate(request)
    _tune()
    with ExitStack() as stack:
        spoken = [path for path in request.models if find_candidates(Path(path))]
        models = [_open_model(path, request, stack) for path in request.models if path not in spoken]
        chat_models = [_open_chat_model(path, request, stack) for path in spoken]
        _check_chat_names([one.name for one in chat_models])
        app = InferenceApp(_number_versions(models), settings, chat_models)
        protocol, loop = _choose_protocol()
        lasting = {"timeout_keep_alive": KEEP_ALIVE_S, "timeout_graceful_shutdown": SHUTDOWN_S}
        config = make_config(app, tls, http=protocol, loop=loop, ws="none", lifespan="off", **lasting)
        if request.grpc_port is not None:
            stack.callback(_start_grpc(app, request, tls))
        stack.callback(app.close)
        running = NotifyingServer(config, lambda: ready([*models, *chat_models]), app.stop)
        running.run(sockets=[server])


def _check_chat_names(names: Sequence[str]) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        why = "a client names the model, and language models have no versions"
        raise UsageError(f"two language models are named {twice}", why, "rename the folder of one of them")


def _start_grpc(app: InferenceApp, request: ServeRequest, tls: tuple[Path, Path] | None) -> Callable[[], None]:
    from edgewright.serving.grpc_server import start_grpc

    host = f"[{request.host}]" if ":" in request.host else request.host
    pair = (tls[1].read_bytes(), tls[0].read_bytes()) if tls else None
    try:
        return start_grpc(app, f"{host}:{request.grpc_port}", pair)
    except (OSError, RuntimeError) as error:
        what = f"cannot listen on {request.host} port {request.grpc_port} for gRPC"
        raise UsageError(what, str(error), "choose another port: --grpc-port 8502") from None


def _tune() -> None:
    from edgewright.serving.connections import tune_allocator

    tune_allocator()


def _open_model(path: str, request: ServeRequest, stack: ExitStack) -> ServedModel:
    options: dict[str, Any] = {"runtime": request.runtime} if request.runtime else {}
    loaded = stack.enter_context(load(path, threads=request.threads, option=request.option, **options))
    _warm_up(loaded)
    return ServedModel(
        name=_name_model(path),
        version="1",
        platform=f"edgewright_{loaded.runtime}",
        inputs=loaded.inputs,
        outputs=loaded.outputs,
        infer=loaded,
        queue=request.queue,
    )


def _open_chat_model(path: str, request: ServeRequest, stack: ExitStack) -> ServedModel:
    candidate = choose_candidate(path)
    speaker, _ = stack.enter_context(open_speaker(candidate, CHAT_KV, request.threads))

    def infer(generation: ChatGeneration) -> ChatOutcome:
        is_cancelled = generation.cancelled.is_set
        return speaker.reply(generation.messages, generation.options, generation.emit, is_cancelled)

    infer(ChatGeneration([{"role": "user", "content": "Hi"}], ChatOptions(max_tokens=1), len))
    return ServedModel(
        name=candidate.name,
        version="1",
        platform=f"edgewright_{candidate.runtime}",
        inputs=(),
        outputs=(),
        infer=infer,
        queue=request.queue,
        is_chat=True,
    )


def _name_model(path: str) -> str:
    name = Path(path).name
    return name.removesuffix(".set.json") if name.endswith(".set.json") else Path(name).stem


def _number_versions(models: Sequence[ServedModel]) -> list[ServedModel]:
    counts: dict[str, int] = {}
    for one in models:
        counts[one.name] = counts.get(one.name, 0) + 1
        one.version = str(counts[one.name])
    return list(models)


def _warm_up(model: LoadedModel) -> None:
    """Run the model once, so that it is loaded, or found not to load, before the first request."""
    feeds = {}
    for spec in model.inputs:
        shape = tuple(1 if isinstance(one, str) else one for one in spec.shape)
        feeds[spec.name] = np.full(shape, "", object) if spec.dtype == "str" else np.zeros(shape, spec.dtype)
    try:
        model(feeds)
    except InputError:
        if not any(isinstance(one, str) for spec in model.inputs for one in spec.shape):
            raise


def _read_settings(request: ServeRequest) -> ServerSettings:
    limits = (("--queue", request.queue), ("--max-body-bytes", request.max_body_bytes), ("--limit", request.limit_s))
    for name, value in limits:
        if not 0 < value < float("inf"):
            raise UsageError(f"{name} {value:g} is not possible", "it must be above 0", f"{name} 64")
    token = read_token(request.token_file)
    if not token and not is_loopback(request.host):
        what = f"{request.host} can be reached from other machines, and there is no token"
        raise UsageError(what, "anyone could run the models", "--token-file FILE with a token, or --host 127.0.0.1")
    rules = AccessRules(loopback=is_loopback(request.host))
    return ServerSettings(
        token_hash=sha256(token).digest() if token else b"",
        accepts_host=(lambda _: True) if token else rules.is_known_host,
        max_body_bytes=request.max_body_bytes,
        limit_s=request.limit_s,
        profile=profile_bytes if request.allow_profile else None,
    )


def read_token(path: str) -> bytes:
    if not path:
        return b""
    try:
        token = read_regular(Path(path)).strip()
    except OSError as error:
        hint = f"write a token into it: openssl rand -hex 32 > {path}"
        raise UsageError(f"the token file {path} cannot be read", error.strerror or str(error), hint) from None
    if not token or len(token.split()) != 1:
        raise UsageError(f"{path} has no token", "it must be one word", f"openssl rand -hex 32 > {path}")
    return token


def _find_certificate(request: ServeRequest) -> tuple[Path, Path] | None:
    """Return the files of the certificate and its key, which fit; None without TLS."""
    if not request.tls_cert and not request.tls_key:
        return None
    if not (request.tls_cert and request.tls_key):
        raise UsageError(
            "TLS needs a certificate and its key", "one of them is missing", "--tls-cert FILE --tls-key FILE"
        )
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(request.tls_cert, request.tls_key)
    except (OSError, ssl.SSLError) as error:
        what = f"{request.tls_cert} and {request.tls_key} cannot be used"
        raise UsageError(what, str(error), "both are PEM files, and the key is without a password") from None
    return Path(request.tls_cert), Path(request.tls_key)


def _choose_protocol() -> tuple[Any, str]:
    """Return the fast parser and event loop if they are installed, else those that every installation has."""
    try:
        import httptools  # noqa: F401 - whether it is there
    except ImportError:
        return LimitedProtocol, "asyncio"
    from edgewright.serving.connections import ServingProtocol

    try:
        import uvloop  # noqa: F401 - whether it is there
    except ImportError:
        return ServingProtocol, "asyncio"
    return ServingProtocol, "uvloop"
