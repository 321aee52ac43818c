"""Keys of a federation: an authority, a server, and one client each; and the signature of a global model.

An authority of its own signs the certificates of one federation. Server and client each accept only certificates of it.
"""

import os
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from edgewright.errors import RuntimeMissing

AUTHORITY, CERTIFICATE, KEY, SERVER = "ca.pem", "own.pem", "own.key", "server.pem"
VALID_DAYS = 397


def write_keys(server: Path, clients: list[Path], hosts: list[str]) -> None:
    """Write the keys of a server with these host names or addresses, and of its clients, named as their folders.

    The authority's own key is not kept: who can write it could add clients. Raises RuntimeMissing without the package
    cryptography.
    """
    try:
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError as error:
        raise RuntimeMissing("keys cannot be created", str(error), "pip install 'edgewright[devices]'") from None
    secret = ec.generate_private_key(ec.SECP256R1())
    authority = _sign("Edgewright federation", secret, None)
    (server / AUTHORITY).write_bytes(_encode(authority))
    own = _write(server, server.name, (authority, secret), hosts)
    (server / SERVER).write_bytes(_encode(own))
    for folder in clients:
        (folder / AUTHORITY).write_bytes(_encode(authority))
        (folder / SERVER).write_bytes(_encode(own))
        _write(folder, folder.name, (authority, secret), [])


def _write(folder: Path, name: str, issuer: tuple[Any, Any], hosts: list[str]) -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    secret = ec.generate_private_key(ec.SECP256R1())
    made = _sign(name, secret, issuer, hosts)
    with os.fdopen(os.open(folder / KEY, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / CERTIFICATE).write_bytes(_encode(made))
    return made


def _sign(name: str, secret: Any, issuer: tuple[Any, Any] | None, hosts: list[str] | None = None) -> Any:
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256

    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    began = datetime.now(UTC) - timedelta(hours=2)  # clocks of devices may be behind
    builder = (
        x509.CertificateBuilder(
            subject_name=subject, issuer_name=issuer[0].subject if issuer else subject, public_key=secret.public_key()
        )
        .serial_number(x509.random_serial_number())
        .not_valid_before(began)
        .not_valid_after(began + timedelta(days=VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if hosts:
        names = x509.SubjectAlternativeName([_name_host(one) for one in hosts])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(issuer[1] if issuer else secret, SHA256())


def _name_host(host: str) -> Any:
    from cryptography import x509

    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _encode(certificate: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    encoded: bytes = certificate.public_bytes(Encoding.PEM)
    return encoded


def sign_model(data: bytes, folder: Path) -> bytes:
    """Return the signature of a model's bytes by the key in the folder (ECDSA, SHA-256)."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key: Any = load_pem_private_key((folder / KEY).read_bytes(), None)
    signature: bytes = key.sign(data, ec.ECDSA(SHA256()))
    return signature


def is_signed(data: bytes, signature: bytes, folder: Path) -> bool:
    """Return whether the signature is that of the server, whose certificate is in the folder."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.x509 import load_pem_x509_certificate

    key: Any = load_pem_x509_certificate((folder / SERVER).read_bytes()).public_key()
    try:
        key.verify(signature, data, ec.ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True
