"""Downloads through a real nginx, by every policy of AWS_ATTACHMENT_SERVING."""

import base64
import contextlib
import functools
import importlib.util
import io
import json
import random
import shutil
import socket
import ssl
import threading
import zipfile
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from urllib.parse import quote

import pytest
import requests
from toolbox import odoo_server, project
from toolbox.proxy import Proxy
from toolbox.web_client import CSRF_FIELD, CSRF_TOKEN, WebClient

POLICIES = ("proxy", "redirect", "x-accel")
NAME = "Zoë 文.bin"
ENCODED_NAME = "filename*=UTF-8''Zo%C3%AB%20%E6%96%87.bin"
SIZE = 600_000
SOUND_SECONDS = 600
CONTENT = random.Random(7).randbytes(SIZE)
#: fills a database; prints what was made
FILL = """
import io, json, random, wave
from PIL import Image
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas
env["ir.config_parameter"].set_param("ir_attachment.location", "s3://")
env["ir.config_parameter"].set_param("ir_attachment.storage.force.database", "{}")
def user(login, group):
    user = env["res.users"].with_context(no_reset_password=True).create({
        "name": login, "login": login, "password": login,
        "group_ids": [(6, 0, env.ref(group).ids)]})
    return user
internal = user("internal", "base.group_user")
portal = user("portal", "base.group_portal")
def make(name, raw, mimetype, **vals):
    vals = {"name": name, "raw": raw, "mimetype": mimetype, **vals}
    attachment = env["ir.attachment"].create(vals)
    assert attachment.store_fname.startswith("s3://"), attachment.store_fname
    return attachment
content = random.Random(7).randbytes(FILE_SIZE)
picture = io.BytesIO()
Image.effect_noise((400, 400), 100).save(picture, "PNG")
records = {
    "private": make(FILE_NAME, content, "application/x-test"),
    "public": make("p.bin", b"public" * 500, "application/x-test", public=True),
    "other": make("other.bin", b"other" * 500, "application/x-test"),
    "html": make("h.html", b"<script>alert(1)</script>" * 50, "text/plain"),
    "image": make("i.png", picture.getvalue(), "image/png", public=True),
    "lost": make("lost.bin", b"lost" * 500, "application/x-test", public=True),
    "deleted": make("deleted.bin", b"deleted" * 500, "application/x-test"),
}
records["html"].mimetype = "text/html"
document = io.BytesIO()
canvas = Canvas(document)
for _number in range(3):
    canvas.drawImage(ImageReader(Image.effect_noise((700, 700), 100)), 0, 0)
    canvas.showPage()
canvas.save()
records["pdf"] = make("d.pdf", document.getvalue(), "application/pdf", public=True)
sound = io.BytesIO()
with wave.open(sound, "wb") as writer:
    writer.setparams((1, 1, 8000, 0, "NONE", None))
    writer.writeframes(random.Random(8).randbytes(8000 * SOUND_SECONDS))
records["sound"] = make("s.wav", sound.getvalue(), "audio/x-wav", public=True)
partner = env["res.partner"].create({"name": "documents"})
records["internal"] = make("doc.bin", b"doc" * 500, "application/x-test",
    res_model="res.partner", res_id=partner.id)
env["ir.model.data"].create({"module": "base", "name": "serving_image",
    "model": "ir.attachment", "res_id": records["image"].id})
tokens = {name: record.generate_access_token()[0] for name, record in records.items()}
ids = {name: record.id for name, record in records.items()}
lost = records["lost"].store_fname
records["deleted"].unlink()
env.cr.commit()
print("MADE", json.dumps({"ids": ids, "tokens": tokens, "lost": lost}))
"""


def load_fault_proxy():
    path = project.ROOT / "attachment_s3" / "tests" / "fault_proxy.py"
    spec = importlib.util.spec_from_file_location("fault_proxy", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.FaultProxy


@pytest.fixture(scope="module")
def store(services):
    """A proxy before the S3 server, which counts requests and fails when told."""
    host, port = services.env["AWS_HOST"].removeprefix("http://").split(":")
    with load_fault_proxy()((host, int(port))) as faults:
        yield faults


@pytest.fixture(scope="module")
def made(services, make_database, odoo_folder):
    """What the database of the tests holds."""
    database = make_database("test_serving", "attachment_s3,session_redis,mail")
    result = odoo_server.run_odoo(
        services,
        odoo_folder,
        *("shell", "-d", database, "--no-http"),
        stdin=FILL.replace("FILE_NAME", repr(NAME))
        .replace("FILE_SIZE", str(SIZE))
        .replace("SOUND_SECONDS", str(SOUND_SECONDS)),
    )
    line = next((x for x in result.stdout.splitlines() if x.startswith("MADE")), None)
    assert line, result.stdout
    made = SimpleNamespace(database=database, **json.loads(line[5:]))
    delete_object(services, made.lost)
    return made


def delete_object(services, uri):
    import boto3

    env = services.env
    bucket, _slash, key = uri.removeprefix("s3://").partition("/")
    boto3.client(
        "s3",
        endpoint_url=env["AWS_HOST"],
        region_name=env["AWS_REGION"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
    ).delete_object(Bucket=bucket, Key=key)


class Site:
    """A front end behind nginx, and clients of both."""

    def __init__(self, policy, made, store, front_end, proxy):
        self.policy = policy
        self.made = made
        self.store = store
        self.front_end = front_end
        self.proxy = proxy
        self.clients = {}

    def client(self, login=None) -> WebClient:
        if login not in self.clients:
            self.clients[login] = WebClient(self.proxy.url)
            if login:
                self.clients[login].login(login, login)
        return self.clients[login]

    def path(self, name, query="", token=False, route="content"):
        path = f"/web/{route}/{self.made.ids[name]}"
        query = [query] if query else []
        if token:
            query.append(f"access_token={quote(self.made.tokens[name])}")
        return f"{path}?{'&'.join(query)}"

    def get(self, name="private", query="download=1", login="admin", **options):
        headers = {
            k.replace("_", "-"): v for k, v in options.pop("headers", {}).items()
        }
        path = options.pop("path", None) or self.path(name, query)
        return self.client(login).request("GET", path, headers=headers, **options)

    def direct(self, name="public", **headers):
        """Past nginx."""
        return requests.get(
            self.front_end.url + self.path(name),
            headers={k.replace("_", "-"): v for k, v in headers.items()},
            timeout=30,
        )

    def logs(self):
        paths = [*self.proxy.folder.glob("*.log"), self.front_end.log]
        return "\n".join(path.read_text(errors="replace") for path in paths)


@contextlib.contextmanager
def serve(policy, services, run_folder, made, store, name=None):
    name = f"serving_{name or policy}"
    folder = run_folder / "front_ends" / name
    shutil.rmtree(folder, ignore_errors=True)
    front_end = odoo_server.OdooServer(
        services,
        folder,
        made.database,
        {"log_handler": ":DEBUG"},
        AWS_ATTACHMENT_SERVING=policy,
        AWS_HOST=store.url,
        AWS_MAX_ATTEMPTS="1",
    )
    nginx = run_folder / "nginx" / name
    shutil.rmtree(nginx, ignore_errors=True)
    try:
        front_end.start()
        with Proxy(nginx, [front_end]) as proxy:
            yield Site(policy, made, store, front_end, proxy)
    finally:
        front_end.stop()


@pytest.fixture(scope="module", params=POLICIES)
def site(request, services, run_folder, made, store):
    with serve(request.param, services, run_folder, made, store) as site:
        yield site


@pytest.fixture
def ranges(site, services):
    """The store answers a Range as RFC 9110 says, when nginx asks it."""
    if site.policy == "x-accel" and services.state["s3"] == "rclone":
        pytest.skip("rclone sends a part with status 200")


@pytest.fixture
def accel_site(site):
    if site.policy != "x-accel":
        pytest.skip("for x-accel")
    return site


@pytest.fixture(autouse=True)
def store_works(store):
    store.work()
    yield
    store.work()


# The contract of every policy


def test_content_arrives_as_it_is(site):
    answer = site.get()
    assert answer.status_code == 200
    assert answer.content == CONTENT
    assert answer.headers["Content-Length"] == str(SIZE)
    assert answer.headers["Content-Type"] == "application/x-test"
    assert answer.headers["Content-Disposition"].startswith("attachment;")
    assert ENCODED_NAME in answer.headers["Content-Disposition"]
    assert "private" in answer.headers["Cache-Control"]
    # one request to the store, whoever sent it
    assert site.store.requests == 1


def test_content_is_where_the_policy_says(site):
    answer = site.get(allow_redirects=False)
    assert answer.status_code == (302 if site.policy == "redirect" else 200)
    if site.policy == "redirect":
        assert answer.headers["Location"].startswith(site.store.url)


def test_headers_of_odoo_come_with_what_it_sends(site):
    answer = site.get("html", query="", allow_redirects=False)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Disposition"].startswith("inline")
    assert answer.headers["ETag"] and answer.headers["Last-Modified"]
    assert answer.headers["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize(
    ("text", "start", "stop"),
    (
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, SIZE),
        ("bytes=100-299", 100, 300),
        ("bytes=300-499", 300, 500),
        ("bytes=-10", SIZE - 10, SIZE),
        ("bytes=599990-700000", SIZE - 10, SIZE),
    ),
)
def test_range(site, ranges, text, start, stop):
    answer = site.get(headers={"Range": text})
    assert answer.status_code == 206
    assert answer.content == CONTENT[start:stop]
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{SIZE}"
    assert answer.headers["Content-Length"] == str(stop - start)


def test_range_beyond_the_end(site):
    answer = site.get(headers={"Range": f"bytes={SIZE}-"})
    assert answer.status_code == 416
    assert answer.headers["Content-Range"] == f"bytes */{SIZE}"
    assert site.store.requests == 0


@pytest.mark.parametrize("text", ("bytes=9-1", "lines=1-2", "bytes=0-1,5-6"))
def test_range_that_is_not_answered_gives_the_whole(site, text):
    answer = site.get(headers={"Range": text})
    assert answer.status_code == 200
    assert answer.content == CONTENT


def test_if_range(site, ranges):
    etag = site.get(query="").headers["ETag"]
    answer = site.get(query="", headers={"Range": "bytes=0-9", "If_Range": etag})
    assert (answer.status_code, answer.content) == (206, CONTENT[:10])
    answer = site.get(query="", headers={"Range": "bytes=0-9", "If_Range": '"x"'})
    assert (answer.status_code, answer.content) == (200, CONTENT)


def test_unchanged_content_is_304_without_the_store(site):
    answer = site.get(query="")
    etag, modified = answer.headers["ETag"], answer.headers["Last-Modified"]
    site.store.work()
    for headers in ({"If_None_Match": etag}, {"If_Modified_Since": modified}):
        answer = site.get(headers=headers, allow_redirects=False)
        assert answer.status_code == 304
    assert site.store.requests == 0
    answer = site.get(headers={"If_None_Match": '"other"'})
    assert answer.content == CONTENT


def test_head_without_the_store(site):
    answer = site.client("admin").request("HEAD", site.path("private", "download=1"))
    assert answer.status_code == 200
    assert answer.headers["Content-Length"] == str(SIZE)
    assert answer.content == b""
    assert site.store.requests == 0


@pytest.mark.parametrize(
    ("login", "name", "token", "status"),
    (
        (None, "public", None, 200),
        (None, "private", None, 404),
        (None, "private", "right", 200),
        (None, "private", "wrong", 404),
        (None, "deleted", "right", 404),
        ("portal", "private", None, 404),
        ("portal", "internal", None, 404),
        ("portal", "private", "right", 200),
        ("portal", "private", "wrong", 404),
        ("internal", "private", None, 404),
        ("internal", "internal", None, 200),
        ("internal", "private", "right", 200),
        ("admin", "private", None, 200),
        ("admin", "deleted", None, 404),
    ),
)
def test_rights_are_checked_first(site, login, name, token, status):
    query = "download=1"
    if token:
        value = site.made.tokens[name] if token == "right" else "wrong"
        query += f"&access_token={value}"
    for route in ("content", "image"):
        path = site.path(name, query, route=route)
        answer = site.get(path=path, login=login, allow_redirects=False)
        if status == 404:
            assert answer.status_code == 404
            assert "Location" not in answer.headers
        elif site.policy == "redirect":
            assert answer.status_code == 302
        else:
            assert answer.status_code == 200
            assert answer.content
    if status == 404:
        assert site.store.requests == 0


def test_image_is_resized(site):
    from PIL import Image

    path = site.path("image", route="image").replace("?", "/50x50?")
    answer = site.get(path=path, login=None)
    assert Image.open(io.BytesIO(answer.content)).size == (50, 50)
    whole = site.get("image", query="", login=None)
    assert Image.open(io.BytesIO(whole.content)).size == (400, 400)


def test_picture_without_right_is_the_placeholder(site):
    answer = site.get(path=site.path("private", route="image"), login="portal")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "image/png"
    assert site.store.requests == 0


def zip_of(site, login, *names):
    """Ask for a ZIP file as the chatter does."""
    client = site.client(login)
    page = client.get("/odoo" if login else "/web/login").text
    fields = {
        "file_ids": ",".join(str(site.made.ids[name]) for name in names),
        "zip_name": "all.zip",
        "csrf_token": (CSRF_TOKEN.search(page) or CSRF_FIELD.search(page))[1],
    }
    site.store.work()
    return client.request("POST", "/mail/attachment/zip", data=fields)


def test_zip_of_several(site):
    answer = zip_of(site, "admin", "private", "other")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.read(NAME) == CONTENT
        assert archive.read("other.bin") == b"other" * 500


@pytest.mark.parametrize("login", (None, "internal"))
def test_zip_only_of_what_one_may_read(site, login):
    answer = zip_of(site, login, "private")
    assert answer.status_code in (403, 404)
    assert site.store.requests == 0


def test_first_page_of_what_one_may_not_read(site):
    path = f"/mail/attachment/pdf_first_page/{site.made.ids['private']}"
    for login in (None, "internal"):
        assert site.get(path=path, login=login).status_code == 404
    assert site.store.requests == 0


def test_picture_in_a_shape(site):
    """The editor of pages reads the whole picture on the server."""
    whole = site.get("image", query="", login=None).content
    path = "/html_editor/image_shape/base.serving_image/html_builder"
    answer = site.get(path=f"{path}/solid/solid_blob_2.svg", login=None)
    assert answer.headers["Content-Type"].startswith("image/svg+xml")
    assert base64.b64encode(whole) in answer.content


def test_download_by_a_script(site):
    """As ``download()`` of the web client: a POST whose answer a script reads."""
    client = site.client("admin")
    token = CSRF_TOKEN.search(client.get("/odoo").text)[1]
    fields = {"id": site.made.ids["private"], "download": 1, "csrf_token": token}
    path = "/web/content"
    answer = client.request("POST", path, data=fields, allow_redirects=False)
    assert answer.status_code == 200
    assert answer.content == CONTENT
    assert ENCODED_NAME in answer.headers["Content-Disposition"]


def test_missing_object(site):
    answer = site.get("lost")
    assert answer.status_code == 404
    assert "max-age" not in answer.headers.get("Cache-Control", "")
    if site.policy != "redirect":  # there, it is the store's own answer
        assert "NoSuchKey" not in answer.text


@pytest.mark.parametrize(
    ("status", "code"),
    ((403, "SignatureDoesNotMatch"), (301, "PermanentRedirect"), (503, "SlowDown")),
)
def test_store_that_refuses(site, status, code):
    if site.policy == "redirect":
        pytest.skip("the store's own answer")
    site.store.fail(functools.partial(site.store.do_answer, status, code))
    assert_unavailable(site.get("private", query="unique=1&download=1"))


def test_store_that_resets(site):
    if site.policy == "redirect":
        pytest.skip("the browser's own error")
    site.store.fail(site.store.do_reset)
    assert_unavailable(site.get("private", query="unique=1&download=1"))


def assert_unavailable(answer):
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert "max-age" not in answer.headers.get("Cache-Control", "")
    assert "Content-Disposition" not in answer.headers
    assert "as told" not in answer.text


def test_direct_client_gets_the_content(site):
    """As wkhtmltopdf, when ``report.url`` names the front end itself."""
    answer = site.direct()
    assert answer.content == b"public" * 500
    assert not secrets_of(answer)


def test_addresses_are_never_logged(site):
    site.get()
    logs = site.logs()
    assert f"/web/content/{site.made.ids['private']}" in logs
    for part in ("X-Amz-Signature", "Signature=", "x-amz-signature"):
        lines = [line for line in logs.splitlines() if part in line]
        assert not lines, lines[:3]


def secrets_of(answer):
    """Headers that only nginx may see."""
    return [
        name
        for name in answer.headers
        if name.lower().startswith(("x-accel", "x-attachment-s3", "x-amz"))
    ]


# A browser


@pytest.fixture
def asked(page, site):
    """Addresses that a browser asks for, which has a page of Odoo open."""
    page.goto(f"{site.proxy.url}/web/login")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    return asked


def to_store(site, asked):
    return [url for url in asked if url.startswith(site.store.url)]


@pytest.mark.parametrize("attribute", ("", "download"))
def test_browser_saves_a_file(page, site, asked, attribute):
    path = site.path("private", "download=1", token=True)
    link = f"<a id=save href='{path}' {attribute}>save</a>"
    page.evaluate("html => { document.body.innerHTML = html }", link)
    with page.expect_download() as download:
        page.click("#save")
    with open(download.value.path(), "rb") as saved:
        assert saved.read() == CONTENT
    assert download.value.suggested_filename == NAME
    assert bool(to_store(site, asked)) == (site.policy == "redirect")


def test_browser_shows_a_pdf_in_the_viewer_of_odoo(page, site, asked):
    """pdf.js fetches it, so its address must not lead to another origin."""
    path = quote(site.path("pdf"), safe="")
    page.goto(f"{site.proxy.url}/web/static/lib/pdfjs/web/viewer.html?file={path}")
    page.wait_for_selector("#viewer .page canvas")
    assert page.locator("#viewer .page").count() == 3
    assert not to_store(site, asked)


def test_scripts_of_a_page_fetch_files(page, site, asked):
    for method in ("GET", "HEAD"):
        size = page.evaluate(
            """([path, method]) => fetch(path, {method})
                .then(answer => Number(answer.headers.get("Content-Length")))""",
            [site.path("private", "download=1", token=True), method],
        )
        assert size == SIZE
    assert not to_store(site, asked)


def test_picture_can_be_drawn_and_read_back(page, site, asked):
    """The editor of pictures does, which another origin forbids."""
    url = page.evaluate(
        """async path => {
            const image = new Image();
            image.src = path;
            await image.decode();
            const canvas = document.createElement("canvas");
            canvas.getContext("2d").drawImage(image, 0, 0);
            return canvas.toDataURL();
        }""",
        site.path("image", route="image"),
    )
    assert url.startswith("data:image/png")


def test_player_seeks(page, site, asked, ranges):
    place = page.evaluate(
        """async path => {
            const audio = new Audio(path);
            audio.preload = "metadata";
            audio.muted = true;
            const failed = new Promise((_done, fail) => {
                audio.onerror = () => fail(audio.error.message);
                setTimeout(() => fail("too slow"), 30000);
            });
            const event = name => Promise.race([failed, new Promise(done => {
                audio.addEventListener(name, done, {once: true});
            })]);
            await event("loadedmetadata");
            for (const place of [500, 100, 599]) {
                audio.currentTime = place;
                await event("seeked");
            }
            return [audio.currentTime, audio.duration, audio.seekable.end(0)];
        }""",
        site.path("sound"),
    )
    assert place == [599, SOUND_SECONDS, SOUND_SECONDS]
    assert not to_store(site, asked)


# x-accel


def test_client_sees_no_address(accel_site):
    for headers in ({}, {"Range": "bytes=0-9"}):
        answer = accel_site.get("private", headers=headers)
        assert not secrets_of(answer)
        assert "X-Amz-" not in str(answer.headers)


def test_odoo_does_not_send_the_content(accel_site):
    """A proof that nginx fetches: Odoo's answer without it has none."""
    answer = accel_site.direct(X_Attachment_S3="x-accel")
    assert answer.content == b""
    assert answer.headers["X-Attachment-S3-URL"].startswith(accel_site.store.url)


def test_header_of_a_client_is_not_believed(accel_site):
    answer = accel_site.get(headers={"X_Attachment_S3": "no"})
    assert answer.content == CONTENT
    assert not secrets_of(answer)


def test_internal_location_is_internal(accel_site):
    answer = accel_site.client().request("GET", "/attachment_s3/content")
    assert answer.status_code == 404
    headers = {"X-Attachment-S3-URL": accel_site.store.url}
    answer = accel_site.client().request(
        "GET", "/attachment_s3/content", headers=headers
    )
    assert answer.status_code == 404
    assert accel_site.store.requests == 0


def test_headers_are_those_of_a_passed_content(accel_site):
    """nginx sends the headers that Odoo sends itself."""
    own = ("Date", "Server", "Connection", "X-Front-End", "Set-Cookie", "Expires")
    for query in ("", "unique=1", "download=1"):
        path = accel_site.path("public", query)
        by_nginx = accel_site.client().get(path).headers
        by_odoo = requests.get(accel_site.front_end.url + path, timeout=30).headers
        for headers in (by_nginx, by_odoo):
            for name in own:
                headers.pop(name, None)
        assert dict(by_nginx) == dict(by_odoo)


def test_store_gets_nothing_of_the_browser(accel_site):
    seen = []

    def look(client, request):
        seen.append(request.decode())
        accel_site.store.do_answer(500, "InternalError", client, request)

    accel_site.store.fail(look)
    accel_site.get(headers={"X_Private": "1", "Authorization": "Bearer x"})
    (request,) = seen
    assert request.startswith("GET ")
    for part in ("session_id", "X-Private", "Authorization", "Accept-Encoding"):
        assert part.lower() not in request.lower()


# TLS between nginx and the store


class NameServer(threading.Thread):
    """Answers every question with 127.0.0.1."""

    def __init__(self):
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"

    def run(self):
        while True:
            packet, client = self.socket.recvfrom(4096)
            end = packet.index(b"\0", 12) + 5
            question = packet[12:end]
            is_a = question[-4:-2] == b"\0\1"
            head = packet[:2] + b"\x81\x80\0\1" + (b"\0\1" if is_a else b"\0\0")
            answer = b"\xc0\x0c\0\1\0\1\0\0\0\x1e\0\4\x7f\0\0\1" if is_a else b""
            self.socket.sendto(head + b"\0" * 4 + question + answer, client)


@pytest.fixture
def certificate(tmp_path):
    """Files of an authority, of a certificate for ``store.test`` and of a wrong one."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def name(text):
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    def sign(subject, key, extension, critical):
        return (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name("authority"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime.now(UTC) - timedelta(hours=1))
            .not_valid_after(datetime.now(UTC) + timedelta(hours=1))
            .add_extension(extension, critical)
            .sign(authority, hashes.SHA256())
        )

    authority = ec.generate_private_key(ec.SECP256R1())
    key = ec.generate_private_key(ec.SECP256R1())
    constraints = x509.BasicConstraints(ca=True, path_length=None)
    files = SimpleNamespace(ca=tmp_path / "ca.pem")
    pem = serialization.Encoding.PEM
    files.ca.write_bytes(
        sign("authority", authority, constraints, True).public_bytes(pem)
    )
    for right, host in (("right", "store.test"), ("wrong", "other.test")):
        names = x509.SubjectAlternativeName([x509.DNSName(host)])
        path = tmp_path / f"{right}.pem"
        path.write_bytes(
            sign(host, key, names, False).public_bytes(pem)
            + key.private_bytes(
                pem,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        setattr(files, right, path)
    return files


class TlsStore:
    """The store behind TLS.

    :param target: host and port of the S3 server
    :param pem: file of the key and the certificate
    """

    def __init__(self, target, pem):
        self.target = target
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.load_cert_chain(pem)
        self.names = []
        self.context.sni_callback = lambda _socket, name, _c: self.names.append(name)

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.url = f"https://store.test:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_exception):
        self.listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _address = self.listener.accept()
                threading.Thread(
                    target=self._serve, args=(client,), daemon=True
                ).start()

    def _serve(self, client):
        with (
            contextlib.suppress(OSError),
            self.context.wrap_socket(client, server_side=True) as client,
            socket.create_connection(self.target) as server,
        ):
            server.sendall(client.recv(65536))  # a GET fits
            while chunk := server.recv(65536):
                client.sendall(chunk)


def test_nginx_verifies_the_store(services, run_folder, made, certificate, site):
    """The name is resolved, and the certificate must be the authority's."""
    if site.policy != "x-accel":
        pytest.skip("for x-accel")
    names = NameServer()
    names.start()
    target = services.env["AWS_HOST"].removeprefix("http://").split(":")
    with (
        TlsStore((target[0], int(target[1])), certificate.right) as store,
        serve("x-accel", services, run_folder, made, store, name="tls") as tls,
    ):
        for number, (pem, authority, status) in enumerate(
            (
                (certificate.right, certificate.ca, 200),
                (certificate.right, None, 503),  # signed by an unknown authority
                (certificate.wrong, certificate.ca, 503),  # of another server
            )
        ):
            store.context.load_cert_chain(pem)
            folder = run_folder / "nginx" / f"serving_tls_{number}"
            with Proxy(folder, [tls.front_end], names.address, authority) as proxy:
                answer = requests.get(proxy.url + tls.path("public"), timeout=30)
                assert answer.status_code == status
                assert (answer.content == b"public" * 500) == (status == 200)
        assert store.names == ["store.test"] * 3
