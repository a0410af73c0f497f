"""What the web client does, over HTTP."""

import re
from urllib.parse import urlsplit

import requests

CSRF_TOKEN = re.compile(r'csrf_token["\']?\s*[:=]\s*["\']([0-9a-fo]+)')
CSRF_FIELD = re.compile(r'name="csrf_token" value="([^"]+)"')


class WebClient:
    """One browser: a cookie, and the routes that Odoo's web client calls.

    :param url: address of a front end or of the proxy
    """

    def __init__(self, url: str):
        self.url = url
        self.http = requests.Session()
        #: address of the front end that gave the last answer, told by the proxy
        self.front_end = None
        self._csrf_token = None

    def request(self, method: str, path: str, **arguments) -> requests.Response:
        """Send a request and return its answer, whatever its status."""
        arguments.setdefault("timeout", 120)
        response = self.http.request(method, self.url + path, **arguments)
        # nginx lists the servers that it tried, the answering one last
        tried = response.headers.get("X-Front-End", "")
        self.front_end = tried.split(",")[-1].strip() or self.url
        return response

    def get(self, path: str, **arguments) -> requests.Response:
        """GET, or ``requests.HTTPError`` for a status of 400 and more."""
        response = self.request("GET", path, **arguments)
        response.raise_for_status()
        return response

    def login(self, login: str = "admin", password: str = "admin") -> dict:
        """Log in by the login form and return ``session_info``."""
        page = self.get("/web/login").text
        fields = {
            "csrf_token": CSRF_FIELD.search(page)[1],
            "login": login,
            "password": password,
        }
        response = self.request("POST", "/web/login", data=fields)
        response.raise_for_status()
        self._csrf_token = None
        if urlsplit(response.url).path == "/web/login":
            raise PermissionError(f"login as {login} was refused")
        return self.session_info()

    def session_info(self) -> dict:
        """Return who is logged in; raises ``PermissionError`` when nobody is."""
        return self.rpc("/web/session/get_session_info")

    def rpc(self, path: str, **parameters):
        """Call a JSON route and return its result."""
        response = self.request("POST", path, json={"params": parameters})
        response.raise_for_status()
        answer = response.json()
        if "error" in answer:
            data = answer["error"].get("data") or {}
            name = data.get("name", "")
            text = f"{name}: {data.get('message') or answer['error']['message']}"
            expired = name.endswith("SessionExpiredException")
            raise PermissionError(text) if expired else RuntimeError(text)
        return answer["result"]

    def call(self, model: str, method: str, *args, **kwargs):
        """Call a model's method as the web client does."""
        return self.rpc(
            f"/web/dataset/call_kw/{model}/{method}",
            model=model,
            method=method,
            args=list(args),
            kwargs=kwargs,
        )

    def csrf_token(self) -> str:
        """Return the token of the web client's page, good for the whole session."""
        if not self._csrf_token:
            self._csrf_token = CSRF_TOKEN.search(self.get("/web").text)[1]
        return self._csrf_token

    def upload(self, name: str, content: bytes, model: str, res_id: int) -> dict:
        """Upload a file as a form's attachment and return what the route says."""
        response = self.request(
            "POST",
            "/web/binary/upload_attachment",
            data={
                "csrf_token": self.csrf_token(),
                "model": model,
                "id": str(res_id),
            },
            files={"ufile": (name, content)},
        )
        response.raise_for_status()
        (answer,) = response.json()
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer
