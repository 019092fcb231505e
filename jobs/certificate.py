"""The SQL endpoint's TLS certificate: a PEM file of a private key and its certificate chain. Where it is, the
endpoint speaks TLS and nothing else."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from jobs.users import write_private

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
GENERATED_FOR = timedelta(days=825)  # the longest that clients take without complaint


class CertificateError(Exception):
    """The file is no key and certificate that belong together, in one line."""


def generate(path: Path, name: str) -> x509.Certificate:
    """Write a new key and a certificate that is signed with it, for a host name or IP address and this machine."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + GENERATED_FOR)
        .add_extension(
            x509.SubjectAlternativeName([_name(each) for each in dict.fromkeys((name, "localhost", "127.0.0.1"))]),
            False,
        )
        # A server's and not an authority's: whoever steals the key can sign no certificate that the clients then trust.
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .add_extension(x509.KeyUsage(True, *[False] * 8), True)  # signs handshakes, nothing else
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
        # Strict clients (Python from 3.13 on) ask for these two.
        .add_extension(identifier, False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), False)
        .sign(key, hashes.SHA256())
    )
    _write(path, key, [certificate])
    return certificate


def store(path: Path, pem: bytes) -> x509.Certificate:
    """Take over a private key and its certificate chain, the server's own certificate first. Returns that.

    Raises CertificateError.
    """
    key, chain = _parse(pem)
    if chain[0].not_valid_after_utc < datetime.now(UTC):
        raise CertificateError(f"the certificate was valid until {chain[0].not_valid_after_utc:%Y-%m-%d}")
    _host_name(chain[0])
    _write(path, key, chain)
    return chain[0]


def public(path: Path) -> str:
    """The certificate chain, as clients may have it. Raises CertificateError."""
    return _pem(_parse(path.read_bytes())[1])


def certificate(path: Path) -> x509.Certificate:
    """The server's own certificate. Raises CertificateError."""
    return _parse(path.read_bytes())[1][0]


def host_name(path: Path) -> str:
    """A name that the certificate is for. Raises CertificateError."""
    return _host_name(certificate(path))


def keystore(path: Path, password: str) -> bytes:
    """Key and certificate as Java reads them (PKCS #12). Raises CertificateError."""
    key, (certificate, *others) = _parse(path.read_bytes())
    encryption = BestAvailableEncryption(password.encode())
    return pkcs12.serialize_key_and_certificates(b"endpoint", key, certificate, others, encryption)


def _parse(pem: bytes) -> tuple[PrivateKey, list[x509.Certificate]]:
    try:
        key = load_pem_private_key(pem, password=None)
        chain = x509.load_pem_x509_certificates(pem)
    except (ValueError, TypeError) as error:
        raise CertificateError(f"not a PEM of an unencrypted private key and its certificate: {error}") from None
    if not isinstance(key, PrivateKey):
        raise CertificateError("the key is neither RSA nor of an elliptic curve")
    if chain[0].public_key() != key.public_key():
        raise CertificateError("the first certificate is not that of the private key")
    return key, chain


def _host_name(certificate: x509.Certificate) -> str:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        hosts = [name.value for name in names if isinstance(name, x509.DNSName | x509.IPAddress)]
        return str(hosts[0]).replace("*", "any", 1)
    except (x509.ExtensionNotFound, IndexError):
        raise CertificateError("the certificate names no host as subject alternative name, as clients ask") from None


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(chain: list[x509.Certificate]) -> str:
    return "".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in chain)


def _write(path: Path, key: PrivateKey, chain: list[x509.Certificate]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    write_private(path, private + _pem(chain))
