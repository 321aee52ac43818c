"""Self-signed certificates: their names, their fingerprint, and who can read the key."""

import hashlib
import socket
import ssl
import threading
from pathlib import Path

import pytest

pytest.importorskip("cryptography", reason="cryptography is not installed: pip install 'edgewright[devices]'")

from edgewright.system import certificates
from edgewright.system.certificates import load_certificate


def test_a_client_can_verify_it_by_its_names_and_fingerprint(tmp_path: Path) -> None:
    certificate = load_certificate(tmp_path, ["127.0.0.1", "board.local"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.path, certificate.key)
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with context.wrap_socket(theirs, server_side=True) as connection:
            connection.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    trusting = ssl.create_default_context(cafile=str(certificate.path))
    with trusting.wrap_socket(ours, server_hostname="127.0.0.1") as connection:
        shown = hashlib.sha256(connection.getpeercert(binary_form=True) or b"").hexdigest().upper()
        connection.send(b"x")
    thread.join()
    assert certificate.fingerprint.replace(":", "") == shown
    assert certificate.key.stat().st_mode & 0o077 == 0


def test_it_is_kept_until_it_expires_or_the_names_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_certificate(tmp_path, ["192.0.2.1"])
    assert load_certificate(tmp_path, ["192.0.2.1"]) == first
    assert load_certificate(tmp_path, ["192.0.2.2"]).fingerprint != first.fingerprint
    monkeypatch.setattr(certificates, "RENEW_DAYS", certificates.VALID_DAYS + 1)
    assert load_certificate(tmp_path, ["192.0.2.1"]).fingerprint != first.fingerprint
    first.path.write_text("damaged")
    assert load_certificate(tmp_path, ["192.0.2.1"]).path == first.path
