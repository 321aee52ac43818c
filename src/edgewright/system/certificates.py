"""Self-signed TLS certificates of servers on this machine, for clients that compare the fingerprint."""

import ipaddress
import os
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from edgewright.errors import RuntimeMissing

if TYPE_CHECKING:
    from cryptography.x509 import GeneralName

FOLDER = "tls"  # in the home folder
VALID_DAYS = 397  # browsers reject certificates that are valid for longer
RENEW_DAYS = 7


class Certificate(NamedTuple):
    """Paths of a certificate and of its private key, and the certificate's sha256 in the form that browsers show."""

    path: Path
    key: Path
    fingerprint: str


def load_certificate(home: Path, names: Sequence[str]) -> Certificate:
    """Return the certificate for these host names and addresses; a new one if there is none, or it expires soon.

    Raises RuntimeMissing without the package cryptography, OSError if the folder is not writable.
    """
    stem = sha256("\n".join(sorted(names)).encode()).hexdigest()[:12]
    path, key = home / FOLDER / f"{stem}.pem", home / FOLDER / f"{stem}.key"
    try:
        if not (key.is_file() and _is_valid(path)):
            _create(path, key, names)
    except ImportError as error:
        raise RuntimeMissing(
            "a certificate cannot be created", str(error), "pip install 'edgewright[devices]'"
        ) from None
    digest = sha256(ssl.PEM_cert_to_DER_cert(path.read_text(encoding="ascii"))).hexdigest().upper()
    return Certificate(path, key, ":".join(digest[at : at + 2] for at in range(0, len(digest), 2)))


def _is_valid(path: Path) -> bool:
    from cryptography import x509

    try:
        known = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return False
    return known.not_valid_after_utc > datetime.now(UTC) + timedelta(days=RENEW_DAYS)


def _create(path: Path, key: Path, names: Sequence[str]) -> None:
    """Write a certificate and its key, which only the user can read."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    secret = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Edgewright on this machine")])
    began = datetime.now(UTC) - timedelta(hours=2)  # clocks of devices may be behind
    builder = (
        x509.CertificateBuilder(subject_name=subject, issuer_name=subject, public_key=secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(began)
        .not_valid_after(began + timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName([_make_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    key.unlink(missing_ok=True)
    with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.write_bytes(builder.sign(secret, SHA256()).public_bytes(Encoding.PEM))


def _make_name(name: str) -> "GeneralName":
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
