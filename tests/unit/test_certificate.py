"""The certificate's file: what is taken and what is not."""

import contextlib
import socket
import ssl
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID

from jobs import certificate
from jobs.certificate import CertificateError


def pem(tmp_path: Path, name: str = "lake.example.org") -> bytes:
    path = tmp_path / f"{name}.pem"
    certificate.generate(path, name)
    return path.read_bytes()


def test_a_generated_certificate_names_the_host_and_this_machine(tmp_path: Path) -> None:
    parsed = x509.load_pem_x509_certificate(pem(tmp_path, "192.0.2.7"))
    names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value

    assert [str(name.value) for name in names] == ["192.0.2.7", "localhost", "127.0.0.1"]
    assert parsed.not_valid_after_utc - datetime.now(UTC) > timedelta(days=800)


def test_a_generated_certificate_is_a_servers_and_can_sign_no_other(tmp_path: Path) -> None:
    extensions = x509.load_pem_x509_certificate(pem(tmp_path)).extensions
    usage = extensions.get_extension_for_class(x509.KeyUsage)

    assert extensions.get_extension_for_class(x509.BasicConstraints).value == x509.BasicConstraints(False, None)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    assert not usage.value.crl_sign
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.SERVER_AUTH]


@pytest.mark.parametrize("flags", [0, ssl.VERIFY_X509_PARTIAL_CHAIN, ssl.VERIFY_X509_STRICT])
def test_a_generated_certificate_is_all_that_a_client_has_to_trust(tmp_path: Path, flags: int) -> None:
    """Clients trust the certificate itself: with Python's defaults of any version, and as meterlake does."""
    file = tmp_path / "tls.pem"
    file.write_bytes(pem(tmp_path, "lake.example.org"))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    client = ssl.create_default_context(cadata=certificate.public(file))
    client.verify_flags |= flags

    for name, refused in (("lake.example.org", None), ("127.0.0.1", None), ("other.example.org", "mismatch")):
        here, there = socket.socketpair()
        here.settimeout(10)
        there.settimeout(10)

        def answer(end: socket.socket = there) -> None:
            with end, contextlib.suppress(OSError):
                server.wrap_socket(end, server_side=True).unwrap()

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            if refused:
                with pytest.raises(ssl.SSLCertVerificationError, match=refused):
                    client.wrap_socket(here, server_hostname=name)
            else:
                assert client.wrap_socket(here, server_hostname=name).getpeercert()
        finally:
            here.close()
            thread.join()


def test_the_file_is_for_its_owner_alone_and_shows_no_key(tmp_path: Path) -> None:
    path = tmp_path / "tls.pem"
    taken = certificate.store(path, pem(tmp_path))

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "PRIVATE" not in certificate.public(path)
    assert x509.load_pem_x509_certificate(certificate.public(path).encode()) == taken


def test_a_name_of_the_certificate_is_what_the_lakehouses_own_commands_ask_for(tmp_path: Path) -> None:
    for name, asked in (("lake.example.org", "lake.example.org"), ("192.0.2.7", "192.0.2.7"), ("*.x.org", "any.x.org")):
        certificate.generate(tmp_path / "tls.pem", name)
        assert certificate.host_name(tmp_path / "tls.pem") == asked


def test_java_gets_key_and_certificate(tmp_path: Path) -> None:
    path = tmp_path / "tls.pem"
    taken = certificate.store(path, pem(tmp_path))

    store = pkcs12.load_pkcs12(certificate.keystore(path, "secret"), b"secret")

    assert store.cert is not None
    assert store.cert.certificate == taken


def test_what_is_no_key_with_its_certificate_is_refused(tmp_path: Path) -> None:
    one, other = pem(tmp_path, "one.example.org"), pem(tmp_path, "other.example.org")
    end = b"-----END PRIVATE KEY-----\n"
    key_of_one, certificate_of_other = one.split(end)[0] + end, other.split(end)[1]

    for content in (b"", b"nonsense", key_of_one, certificate_of_other):
        with pytest.raises(CertificateError, match="not a PEM of an unencrypted private key and its certificate"):
            certificate.store(tmp_path / "tls.pem", content)
    with pytest.raises(CertificateError, match="not that of the private key"):
        certificate.store(tmp_path / "tls.pem", key_of_one + certificate_of_other)
    assert not (tmp_path / "tls.pem").exists()


def test_an_expired_certificate_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificate, "GENERATED_FOR", timedelta(minutes=-1))

    with pytest.raises(CertificateError, match="was valid until"):
        certificate.store(tmp_path / "tls.pem", pem(tmp_path))
