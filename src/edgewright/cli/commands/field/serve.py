"""`edgewright serve`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgewright.cli.help.pages import HelpedCommand
from edgewright.cli.parse import PATH
from edgewright.cli.rendering.output import print_line, print_message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgewright.serving.models import ServedModel

PORT = 8500


@click.command(cls=HelpedCommand)
@click.argument("models", type=PATH, nargs=-1, required=True, metavar="ARTIFACT...")
@click.option("--port", type=click.IntRange(0, 65_535), default=PORT, help="Port; 0 chooses a free one.")
@click.option("--grpc-port", type=click.IntRange(1, 65_535), help="Port for gRPC; default: no gRPC.")
@click.option("--host", default="127.0.0.1", help="Address to listen on; all but loopback require a token.")
@click.option("--runtime", default="", metavar="RUNTIME", help="Runtime; default: that of the artifact.")
@click.option("-p", "--option", multiple=True, metavar="KEY=VALUE", help="Runtime option, such as optimization=basic.")
@click.option("--threads", type=int, default=1, help="Threads per inference; default: 1.")
@click.option("--token-file", type=PATH, metavar="FILE", help="File with the token that clients send.")
@click.option("--tls-cert", type=PATH, metavar="FILE.pem", help="Certificate chain, for HTTPS.")
@click.option("--tls-key", type=PATH, metavar="FILE.pem", help="Key of the certificate.")
@click.option("--queue", type=int, default=64, help="Requests of a model that may wait; further ones get 429.")
@click.option("--max-body-bytes", type=int, default=64_000_000, help="Largest body of a request; default: 64 MB.")
@click.option(
    "--limit", "limit_s", type=float, default=30.0, help="Longest time in the queue, in seconds; default: 30."
)
@click.option("--allow-profile", is_flag=True, help="Measure models that clients send (for `edgewright split`).")
def serve(port: int, **given: Any) -> None:
    """Serve models over HTTP and gRPC with the Open Inference Protocol, version 2, language models as OpenAI's API.

    The name of a model is its file's name without suffix; files with one name are versions, in their order. Clients
    send `Authorization: Bearer TOKEN`; /v2/health needs none.
    """
    from contextlib import closing

    from edgewright.api.field.serve import ServeRequest, serve_models
    from edgewright.cli.commands.ui import make_address
    from edgewright.web.server.serving import bind

    request = ServeRequest(**{name: value for name, value in given.items() if value is not None})
    server = bind(request.host, port)
    address = make_address(request.host, server.getsockname()[1])
    if request.tls_cert:
        address = address.replace("http:", "https:", 1)

    def ready(models: Sequence[ServedModel]) -> None:
        for one in models:
            if one.is_chat:
                print_line(f"{address}/v1/chat/completions ({one.name})")
            else:
                print_line(f"{address}/v2/models/{one.name}/versions/{one.version}/infer")
        if request.grpc_port:
            print_line(f"{request.host}:{request.grpc_port} (gRPC)")
        print_message("Press Ctrl-C to stop.")

    with closing(server):
        serve_models(request, server, ready)
