"""Keys of a federation: TLS accepts only its members, and a model's signature is checked."""

import ssl
from pathlib import Path
from typing import Any

import pytest

from edgewright.errors import UsageError

pytest.importorskip("cryptography", reason="cryptography is not installed")


def make(folder: Path) -> tuple[Path, Path]:
    from edgewright.federated.keys import write_keys

    server, client = folder / "server", folder / "client-1"
    for one in (server, client):
        one.mkdir(parents=True)
    write_keys(server, [client], ["127.0.0.1", "fl.example.org"])
    return server, client


def shake(server: Path, client: Path) -> str:
    """Make a TLS handshake in memory; return the name in the client's certificate."""
    from edgewright.federated.connection import make_context

    pipes = [ssl.MemoryBIO() for _ in range(2)]
    ends = [
        make_context(server, server=True).wrap_bio(pipes[0], pipes[1], server_side=True),
        make_context(client, server=False).wrap_bio(pipes[1], pipes[0], server_hostname="127.0.0.1"),
    ]
    for _ in range(4):
        for end in reversed(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    certificate: Any = ends[0].getpeercert()
    return str(dict(certificate["subject"][0])["commonName"])


def test_members_accept_each_other(tmp_path: Path) -> None:
    assert shake(*make(tmp_path)) == "client-1"


def test_a_client_of_another_authority_is_not_accepted(tmp_path: Path) -> None:
    server, _ = make(tmp_path / "one")
    _, stranger = make(tmp_path / "other")
    with pytest.raises(ssl.SSLError):
        shake(server, stranger)
    (stranger / "ca.pem").write_bytes((server / "ca.pem").read_bytes())  # it trusts the server, which does not trust it
    with pytest.raises(ssl.SSLError):
        shake(server, stranger)


def test_keys_are_private_and_a_folder_without_them_is_an_error(tmp_path: Path) -> None:
    from edgewright.federated.connection import make_context

    server, _ = make(tmp_path)
    assert (server / "own.key").stat().st_mode & 0o077 == 0
    with pytest.raises(UsageError, match="no usable keys"):
        make_context(tmp_path, server=False)


def test_a_signature_is_of_the_server_and_of_these_bytes(tmp_path: Path) -> None:
    from edgewright.federated.keys import is_signed, sign_model

    server, client = make(tmp_path)
    signature = sign_model(b"weights", server)
    assert is_signed(b"weights", signature, client)
    assert not is_signed(b"weightz", signature, client)
    assert not is_signed(b"weights", sign_model(b"weights", client), client)
    assert not is_signed(b"weights", b"", client)
