import ipaddress
import os
import ssl
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from odoo.tests import tagged

from ..exceptions import S3Unavailable
from .common import S3Case, variables
from .fault_proxy import FaultProxy


class Certificate:
    """A self-signed certificate and its key, in files."""

    def __init__(self, folder, name, days=1):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "store")])
        start = datetime.now(timezone.utc) - timedelta(days=10)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + timedelta(days=10 + days))
            .add_extension(x509.SubjectAlternativeName([name]), critical=False)
            .add_extension(x509.BasicConstraints(True, None), critical=True)
            .sign(key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        self.path = Path(tempfile.mkdtemp(dir=folder)) / "store.pem"
        self.path.write_bytes(
            certificate.public_bytes(pem)
            + key.private_bytes(
                pem,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )


class TlsProxy(FaultProxy):
    """Speaks TLS with the addon and HTTP with the S3 server."""

    def __init__(self, target, certificate):
        super().__init__(target)
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.load_cert_chain(certificate.path)

    def __enter__(self):
        super().__enter__()
        self.url = self.url.replace("http:", "https:")
        return self

    def _serve(self, client):
        try:
            return super()._serve(self.context.wrap_socket(client, server_side=True))
        except OSError:
            return client.close()  # the addon did not like the certificate


@tagged("post_install", "-at_install")
class TestTls(S3Case):
    def setUp(self):
        super().setUp()
        self.folder = self.enterContext(tempfile.TemporaryDirectory())
        self.raw = os.urandom(100)
        self.attachment = self.make(self.raw)
        self.enterContext(variables(AWS_MAX_ATTEMPTS="1"))

    def certificate(self, name=None, **options):
        name = name or x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        return Certificate(self.folder, name, **options)

    def read_with(self, certificate, trusted):
        """Read through TLS with the server's certificate and the trusted one."""
        server = urlsplit(self.objects.config.connection.host)
        self.attachment.invalidate_recordset()
        with (
            TlsProxy((server.hostname, server.port), certificate) as proxy,
            variables(AWS_HOST=proxy.url, AWS_CA_BUNDLE=str(trusted.path)),
        ):
            return self.attachment.raw

    def check_refused(self, reason, certificate, trusted):
        with self.assertRaisesRegex(S3Unavailable, reason) as caught:
            self.read_with(certificate, trusted)
        self.assertIn("AWS_CA_BUNDLE", str(caught.exception))

    def test_trusted_certificate(self):
        certificate = self.certificate()
        self.assertEqual(self.read_with(certificate, certificate), self.raw)

    def test_unknown_authority_is_refused(self):
        self.check_refused("self.signed", self.certificate(), self.certificate())

    def test_expired_certificate_is_refused(self):
        certificate = self.certificate(days=-1)
        self.check_refused("expired", certificate, certificate)

    def test_certificate_of_another_host_is_refused(self):
        certificate = self.certificate(x509.DNSName("store.example.com"))
        self.check_refused("127.0.0.1", certificate, certificate)
