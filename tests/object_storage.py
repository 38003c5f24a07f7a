"""Google Cloud Storage for the tests: the part of its JSON API that TensorFlow, TensorStore and Orbax speak, in memory.

The clients are the real ones. TensorFlow knows Google's hosts alone, so the server is also their proxy, and has a
certificate for their names. Written here because gcp-storage-emulator (2026.7) fails on TensorFlow's empty objects and
chunked uploads, and does not check the generations that clients ask for.
"""

import contextlib
import datetime
import json
import re
import ssl
import threading
from http import server
from urllib import parse

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

BUCKET = "bucket"


class Storage(server.ThreadingHTTPServer):
    """One bucket: `objects` has the bytes of each name, `generations` a number of its own for each write of one.

    The processes of clients need the variables `environment`.
    """

    daemon_threads = True

    def __init__(self, folder):
        super().__init__(("localhost", 0), _Handler)
        self.objects: dict[str, bytes] = {}
        self.generations: dict[str, int] = {}
        self.lock = threading.Lock()
        self._writes = 0
        certificate = str(folder / "certificate.pem")
        _certify(certificate)
        self.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.tls.load_cert_chain(certificate)
        url = f"http://localhost:{self.server_address[1]}"
        self.environment = {
            "https_proxy": url,
            "http_proxy": url,
            "no_proxy": "localhost",
            "CURL_CA_BUNDLE": certificate,
            "TENSORSTORE_GCS_HTTP_URL": url,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "any",
            "NO_GCE_CHECK": "true",
            "STORAGE_EMULATOR_HOST": url,  # google-cloud-storage, by which Orbax asks what kind of bucket it is
        }

    def put(self, name: str, data: bytes) -> None:
        """Makes or replaces an object."""
        with self.lock:
            self._writes += 1
            self.objects[name], self.generations[name] = data, self._writes

    def remove(self, name: str) -> bool:
        """Whether there was such an object."""
        with self.lock:
            self.generations.pop(name, None)
            return self.objects.pop(name, None) is not None

    def under(self, prefix: str) -> list[str]:
        """The names that begin with `prefix`, sorted."""
        with self.lock:
            return sorted(name for name in self.objects if name.startswith(prefix))


@contextlib.contextmanager
def serve(folder):
    """A running `Storage`; `folder` gets its certificate."""
    storage = Storage(folder)
    threading.Thread(target=storage.serve_forever, daemon=True).start()
    yield storage
    storage.shutdown()
    storage.server_close()


class _Handler(server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_CONNECT(self):
        self.send_response(200)
        self.end_headers()
        self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        self.setup()  # what follows on this connection is for Google

    def finish(self):
        super().finish()
        self.request.close()  # the server knows only what it was before TLS

    def do_GET(self):
        if self._path == f"/storage/v1/b/{BUCKET}":
            self._answer({"name": BUCKET})
        elif self._path == f"/storage/v1/b/{BUCKET}/o":
            self._list()
        elif (name := self._object()) not in self.server.objects:
            self._answer(status=404)
        elif self._refused(name):
            self._answer(status=304)
        elif self._path.startswith("/storage/v1/") and self._query.get("alt") != "media":
            self._answer(self._about(name))
        else:
            self._download(name)

    def do_POST(self):
        body = self._body()
        if "/rewriteTo/" in self._path:
            source, target = (parse.unquote(part) for part in re.findall(r"/o/([^/]+)", self._path))
            self.server.put(target, self.server.objects[source])
            self._answer({"done": True, "resource": self._about(target)})
        elif self._query["uploadType"] == "resumable":
            self._answer(headers={"Location": f"http://{self.headers['Host']}{self.path}&upload_id=1"})
        elif self._refused(name := self._query["name"]):
            self._answer(status=412)
        else:
            self.server.put(name, body)
            self._answer(self._about(name))

    def do_PUT(self):
        body, name = self._body(), self._query["name"]
        self.server.put(name, body)
        self._answer(self._about(name))

    def do_DELETE(self):
        name = self._object()
        status = 412 if self._refused(name) else 204 if self.server.remove(name) else 404
        self._answer(status=status)

    def log_message(self, *_):
        """Says nothing."""

    @property
    def _path(self) -> str:
        return parse.urlsplit(self.path).path

    @property
    def _query(self) -> dict[str, str]:
        return dict(parse.parse_qsl(parse.urlsplit(self.path).query))

    def _object(self) -> str:
        """The name in .../b/BUCKET/o/NAME, or in /BUCKET/NAME."""
        return parse.unquote(self._path.rpartition(f"/{BUCKET}/")[2].removeprefix("o/"))

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _refused(self, name: str) -> bool:
        """Whether the request is for another generation of the object; 0 is that of none."""
        generation, query = str(self.server.generations.get(name, 0)), self._query
        wanted, unwanted = query.get("ifGenerationMatch", generation), query.get("ifGenerationNotMatch")
        return wanted != generation or unwanted == generation

    def _about(self, name: str) -> dict[str, str]:
        generation, size = self.server.generations[name], len(self.server.objects[name])
        updated = "2026-01-01T00:00:00.000Z"
        return {"name": name, "size": str(size), "generation": str(generation), "updated": updated}

    def _list(self) -> None:
        query = self._query
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        most = int(query.get("maxResults", 1000))
        entries = {}
        for name in self.server.under(prefix):
            folder = delimiter and name.removeprefix(prefix).partition(delimiter)
            entries[prefix + folder[0] + delimiter if folder and folder[1] else name] = bool(folder and folder[1])
        entries = {name: folder for name, folder in entries.items() if name > query.get("pageToken", "")}
        page = dict(list(entries.items())[:most])
        answer = {
            "items": [self._about(name) for name, folder in page.items() if not folder],
            "prefixes": [name for name, folder in page.items() if folder],
        }
        if len(page) < len(entries):
            answer["nextPageToken"] = list(page)[-1]
        self._answer(answer)

    def _download(self, name: str) -> None:
        data, headers = self.server.objects[name], {"x-goog-generation": str(self.server.generations[name])}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not asked:
            self._answer(data, headers=headers)
        elif (first := int(asked[1])) >= len(data):
            self._answer(status=416)
        else:
            part = data[first : int(asked[2]) + 1 if asked[2] else None]
            headers["Content-Range"] = f"bytes {first}-{first + len(part) - 1}/{len(data)}"
            self._answer(part, headers=headers, status=206)

    def _answer(self, content: dict | bytes = b"", *, headers: dict[str, str] | None = None, status: int = 200) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(data))} | (headers or {})).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(data)


def _certify(path: str) -> None:
    """Writes a key and a certificate of its own for Google's hosts, good for a day."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "storage of the tests")])
    hosts = x509.SubjectAlternativeName([x509.DNSName("*.googleapis.com")])
    day = datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
        .add_extension(hosts, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with open(path, "wb") as file:
        file.write(certificate.public_bytes(serialization.Encoding.PEM) + private)
