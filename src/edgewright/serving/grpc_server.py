"""The gRPC side of the server, in front of the same models as HTTP."""

import hmac
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any

import numpy as np

from edgewright import __version__
from edgewright.errors import EdgewrightError, InputError, RuntimeMissing
from edgewright.schema.arrays import Array
from edgewright.serving.app import InferenceApp
from edgewright.serving.grpc_messages import METHODS, SERVICE, load_messages
from edgewright.serving.messages import (
    BYTES,
    DTYPES,
    InferenceRequest,
    choose_outputs,
    find_datatype,
    read_bytes,
    write_bytes,
)
from edgewright.serving.models import DeadlineMissed, Overloaded, ServedModel

THREADS = 32
PUBLIC = ("ServerLive", "ServerReady", "ModelReady")
_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}


class _GrpcProblem(Exception):
    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class GrpcService:
    """The methods of the service: a message in, a message out."""

    def __init__(self, app: InferenceApp) -> None:
        self._app, self._messages = app, load_messages()

    def answer(self, method: str, request: Any, token: str) -> Any:
        """Return the response of a method; raise _GrpcProblem with a status code."""
        if method not in PUBLIC:
            self._check_token(token)
        return getattr(self, f"_answer_{method}")(request)

    def _check_token(self, token: str) -> None:
        wanted = self._app.settings.token_hash
        scheme, _, word = token.partition(" ")
        if wanted and not (
            scheme.lower() == "bearer" and hmac.compare_digest(sha256(word.strip().encode()).digest(), wanted)
        ):
            raise _GrpcProblem("UNAUTHENTICATED", "a token is required: metadata authorization: Bearer TOKEN")

    def _answer_ServerLive(self, _: Any) -> Any:
        return self._messages["ServerLiveResponse"](live=True)

    def _answer_ServerReady(self, _: Any) -> Any:
        return self._messages["ServerReadyResponse"](ready=self._app.is_ready)

    def _answer_ModelReady(self, request: Any) -> Any:
        self._find(request.name, request.version)
        return self._messages["ModelReadyResponse"](ready=self._app.is_ready)

    def _answer_ServerMetadata(self, _: Any) -> Any:
        return self._messages["ServerMetadataResponse"](name="edgewright", version=__version__)

    def _answer_ModelMetadata(self, request: Any) -> Any:
        model = self._find(request.name, request.version)
        return self._messages["ModelMetadataResponse"](**self._app.describe(model))

    def _answer_ModelInfer(self, request: Any) -> Any:
        model = self._find(request.model_name, request.model_version)
        if not self._app.is_ready:
            raise _GrpcProblem("UNAVAILABLE", "the server stops")
        try:
            wanted = _read(request)
            outputs, waited, took = model.submit(wanted.inputs, self._app.settings.limit_s).result()
            chosen = choose_outputs(outputs, wanted)
        except Overloaded as error:
            raise _GrpcProblem("RESOURCE_EXHAUSTED", str(error)) from None
        except DeadlineMissed as error:
            raise _GrpcProblem("DEADLINE_EXCEEDED", str(error)) from None
        except InputError as error:
            raise _GrpcProblem("INVALID_ARGUMENT", str(error)) from None
        except EdgewrightError as error:
            raise _GrpcProblem("INTERNAL", str(error)) from None
        self._app.counters.time(model.name, "queue", waited)
        self._app.counters.time(model.name, "inference", took)
        self._app.counters.count(model.name, 200)
        response = self._messages["ModelInferResponse"](
            model_name=model.name, model_version=model.version, id=request.id
        )
        for name, array in chosen.items():
            response.outputs.add(name=name, datatype=find_datatype(array.dtype.name), shape=array.shape)
            response.raw_output_contents.append(write_bytes(array))
        return response

    def _find(self, name: str, version: str) -> ServedModel:
        try:
            return self._app.find_model(name, version)
        except LookupError as error:
            raise _GrpcProblem("NOT_FOUND", str(error.args[0])) from None


def _read(request: Any) -> InferenceRequest:
    raw = list(request.raw_input_contents)
    if raw and len(raw) != len(request.inputs):
        what = "raw_input_contents does not have an entry for each input"
        raise InputError(
            what, f"{len(raw)} for {len(request.inputs)} inputs", "send the contents of all inputs as bytes"
        )
    inputs: dict[str, Array] = {}
    for number, one in enumerate(request.inputs):
        data = raw[number] if raw else _read_contents(one)
        inputs[one.name] = read_bytes(one.name, one.datatype, list(one.shape), memoryview(data))
    names = dict.fromkeys((one.name for one in request.outputs), True)
    return InferenceRequest(inputs=inputs, outputs=names, binary=True, id=request.id, timeout_us=None)


def _read_contents(one: Any) -> bytes:
    """Return the typed values of an input as bytes."""
    field = _CONTENTS.get(one.datatype)
    if field is None:
        what = f"the values of '{one.name}' cannot be typed: {one.datatype[:20]}"
        raise InputError(what, f"typed values are {', '.join(_CONTENTS)}", "send them in raw_input_contents")
    values = list(getattr(one.contents, field))
    array = np.array(values, dtype=object if one.datatype == BYTES else DTYPES[one.datatype])
    return write_bytes(array)


def start_grpc(app: InferenceApp, address: str, credentials: tuple[bytes, bytes] | None = None) -> Callable[[], None]:
    """Start the server, and return the function that stops it.

    Args:
        address: HOST:PORT.
        credentials: key and certificate chain in PEM for TLS.

    Raises RuntimeMissing if grpcio is not installed, and OSError if the port is taken.
    """
    try:
        import grpc
    except ImportError:
        why = "--grpc-port needs it"
        raise RuntimeMissing("grpcio is not installed", why, "pip install 'edgewright[serve]'") from None
    server = grpc.server(
        ThreadPoolExecutor(THREADS, "grpc"),
        options=[("grpc.max_receive_message_length", app.settings.max_body_bytes), ("grpc.so_reuseport", 0)],
        maximum_concurrent_rpcs=THREADS * 8,
    )
    server.add_generic_rpc_handlers((_make_handlers(grpc, GrpcService(app)),))
    if credentials:
        bound = server.add_secure_port(address, grpc.ssl_server_credentials([credentials]))
    else:
        bound = server.add_insecure_port(address)
    if not bound:
        raise OSError(f"cannot listen on {address}")
    server.start()
    return lambda: server.stop(grace=1.0).wait()


def _make_handlers(grpc: Any, service: GrpcService) -> Any:
    messages = load_messages()

    def make(method: str) -> Any:
        def handle(request: Any, context: Any) -> Any:
            token = next((value for key, value in context.invocation_metadata() if key == "authorization"), "")
            try:
                return service.answer(method, request, token)
            except _GrpcProblem as problem:
                return context.abort(getattr(grpc.StatusCode, problem.code), str(problem))

        return grpc.unary_unary_rpc_method_handler(
            handle,
            request_deserializer=messages[f"{method}Request"].FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )

    return grpc.method_handlers_generic_handler(SERVICE, {method: make(method) for method in METHODS})
