"""A client's connection to its server: TLS with certificates of one authority on both sides."""

import http.client
import ssl
from pathlib import Path

from edgewright.errors import DeviceUnauthorized, DeviceUnreachable, UsageError
from edgewright.federated.keys import AUTHORITY, CERTIFICATE, KEY

TIMEOUT_S = 60.0
HELLO, NEXT, REPLY, ALIVE = "/hello", "/next", "/reply", "/alive"
FOUND, NOTHING, DONE, UNKNOWN = 200, 204, 205, 409
MESSAGE_ID, SIGNATURE = "X-Message", "X-Signature"


def make_context(folder: Path, *, server: bool) -> ssl.SSLContext:
    """Return the TLS settings with the keys of a folder. Raises UsageError if they are missing or damaged."""
    kind = ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT
    context = ssl.SSLContext(kind)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(folder / AUTHORITY)
        context.load_cert_chain(folder / CERTIFICATE, folder / KEY)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"{folder} has no usable keys", str(error), "edgewright federate init makes the folders"
        ) from None
    return context


class ServerAnswer:
    """A response: its status, the message's id or the signature, and its bytes."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.message_id = response.getheader(MESSAGE_ID, "")
        self.signature = bytes.fromhex(response.getheader(SIGNATURE, ""))
        self.data = response.read()


class ServerConnection:
    """Requests to the server, each over a connection of its own, so that both sides check certificates each time.

    Args:
        server: HOST:PORT.
    """

    def __init__(self, folder: Path, server: str) -> None:
        self._context = make_context(folder, server=False)
        host, _, port = server.rpartition(":")
        if not host or not port.isdecimal():
            raise UsageError(f"--server {server} is not an address", "it is HOST:PORT", "--server fl.example.org:9443")
        self._host, self._port = host.strip("[]"), int(port)
        self._server = server

    def ask(self, path: str, data: bytes = b"", message_id: str = "") -> ServerAnswer:
        """Send a request. Raises DeviceUnauthorized if a certificate is not accepted, DeviceUnreachable otherwise."""
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=TIMEOUT_S, context=self._context)
        try:
            connection.request("POST", path, data, {MESSAGE_ID: message_id})
            return ServerAnswer(connection.getresponse())
        except ssl.SSLError as error:
            raise self._reject(str(error)) from None
        except (ConnectionResetError, BrokenPipeError) as error:
            raise DeviceUnreachable(f"{self._server} closed the connection", str(error)) from None
        except (OSError, http.client.HTTPException) as error:
            why = str(error) or type(error).__name__
            raise DeviceUnreachable(f"{self._server} cannot be reached", why, "check address and server") from None
        finally:
            connection.close()

    def _reject(self, why: str) -> DeviceUnauthorized:
        return DeviceUnauthorized(
            f"{self._server} and this client do not accept each other's certificates",
            why,
            "use the folder that the server's `edgewright federate init` made, and check both clocks",
        )
