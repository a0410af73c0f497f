"""Users at work on several front ends while parts fail, and what they met."""

import collections
import contextlib
import hashlib
import itertools
import random
import secrets
import statistics
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import requests
from toolbox import processes
from toolbox.web_client import WebClient

#: what a user does next, and how often
ACTIONS = {"read": 5, "write": 5, "upload": 3, "download": 6, "log_in": 1}
#: between two actions: users read what they see, and the tests' machine is small
PAUSE_SECONDS = 0.1
#: of an upload; some are larger than nginx's and Odoo's buffers
SIZES = (20, 3_000, 80_000, 700_000)
#: an outage is told by one of these
OUTAGES = (502, 503, 504)
CHECKING_THREADS = 4


class Wrong(Exception):
    """An answer that no fault excuses."""


@dataclass
class Sample:
    """One action of a user, in seconds of the monotonic clock."""

    user: str
    action: str
    start: float
    end: float
    failure: str | None
    front_end: str


@dataclass
class Fault:
    """A part that failed, and when.

    :ivar lasts: seconds for which nothing can work that needs the part
    """

    name: str
    lasts: float
    start: float = field(default_factory=time.monotonic)
    end: float = 0


@dataclass
class Upload:
    """A file whose upload was acknowledged."""

    attachment: int
    digest: str
    size: int


class Load:
    """The users, and all that they were told.

    :param url: of the proxy
    :param front_ends: addresses of those behind it
    :param people: login of each user, and the partner that this user alone writes
    """

    def __init__(self, url: str, front_ends: set[str], people: dict[str, int]):
        self.url = url
        self.front_ends = front_ends
        self.stopped = threading.Event()
        self.samples: list[Sample] = []
        self.faults: list[Fault] = []
        self.uploads: list[Upload] = []
        self.wrong: list[str] = []
        #: clients whose logins must live, with their login; and those logged out
        self.clients: list[tuple[WebClient, str]] = []
        self.logged_out: list[WebClient] = []
        self.users = [User(self, *person) for person in people.items()]

    def __enter__(self) -> "Load":
        for user in self.users:
            user.client.login(user.login, user.login)
            user.client.csrf_token()
            self.clients.append((user.client, user.login))
        self.start = time.monotonic()
        for user in self.users:
            user.start()
        return self

    def __exit__(self, *_exception):
        self.stopped.set()
        for user in self.users:
            user.join()
        self.end = time.monotonic()

    @contextlib.contextmanager
    def fault(self, name: str, lasts: float = 0):
        """Have a part fail, and wait until all is as before.

        :param name: for the report
        :param lasts: seconds for which the part is away whatever the others do
        """
        fault = Fault(name, lasts)
        self.faults.append(fault)
        yield
        self.wait_for_answers()
        fault.end = time.monotonic()

    def wait_for_answers(self, seconds: float = 90) -> None:
        """Wait until each user has been served, and each front end has served."""
        start, before = time.monotonic(), len(self.samples)
        everybody = {user.login for user in self.users}

        def served():
            later = self.samples[before:]
            good = [s for s in later if s.start > start and not s.failure]
            return everybody <= {s.user for s in good} and self.front_ends <= {
                s.front_end for s in good
            }

        processes.wait_until(lambda: self.wrong or served(), "answers", seconds)

    # figures

    def outage_seconds(self, fault: Fault) -> float:
        """Return the time from a fault to the end of the last failure after it."""
        ends = [sample.end for sample in self._samples(fault) if sample.failure]
        return max(ends) - fault.start if ends else 0.0

    def report(self) -> str:
        """Return what was done, and a table of the faults and what came of them."""
        done = collections.Counter(sample.action for sample in self.samples)
        size = sum(upload.size for upload in self.uploads) / 1e6
        lines = [
            f"{self.end - self.start:.0f} s, {len(self.users)} users, "
            f"{len(self.samples)} actions "
            f"({', '.join(f'{n} {name}' for name, n in sorted(done.items()))}), "
            f"{len(self.uploads)} files of {size:.1f} MB stored, "
            f"{_failures(self.samples)}",
            f"{'fault':<40} {'times':>5} {'actions':>8} {'failed':>7} "
            f"{'outage':>16} {'slowest':>8}",
        ]
        for name in dict.fromkeys(fault.name for fault in self.faults):
            faults = [fault for fault in self.faults if fault.name == name]
            samples = [sample for fault in faults for sample in self._samples(fault)]
            failed = [sample for sample in samples if sample.failure]
            outages = [self.outage_seconds(fault) for fault in faults]
            slowest = max((s.end - s.start for s in samples), default=0)
            lines.append(
                f"{name:<40} {len(faults):>5} {len(samples):>8} "
                f"{100 * len(failed) / max(1, len(samples)):>6.1f}% "
                f"{statistics.median(outages):>5.1f}, max {max(outages):>4.1f} s "
                f"{slowest:>6.1f} s  {_failures(failed)}"
            )
        return "\n".join(lines)

    def _samples(self, fault):
        return [s for s in self.samples if fault.start <= s.end <= fault.end]

    # proof

    def check(self, urls: list[str]) -> None:
        """Ask each front end for all files and logins; adds to :attr:`wrong`."""
        checks = (
            (self._check_upload, self.uploads),
            (self._check_login, self.clients),
            (self._check_logout, self.logged_out),
        )
        with ThreadPoolExecutor(CHECKING_THREADS) as pool:
            for url in urls:
                for check, of_all in checks:
                    list(pool.map(check, of_all, itertools.repeat(url)))

    def _check_upload(self, upload, url):
        answer = _copy(self.users[0].client, url).request(
            "GET", f"/web/content/{upload.attachment}?download=1"
        )
        if answer.status_code != 200 or _digest(answer.content) != upload.digest:
            self.wrong.append(
                f"attachment {upload.attachment} on {url}: {answer.status_code}, "
                f"{len(answer.content)} of {upload.size} bytes"
            )

    def _check_login(self, client_and_login, url):
        client, login = client_and_login
        try:
            name = _copy(client, url).session_info()["username"]
        except PermissionError as error:
            self.wrong.append(f"{login} was logged out on {url}: {error}")
        else:
            if name != login:
                self.wrong.append(f"{login} became {name} on {url}")

    def _check_logout(self, client, url):
        try:
            name = _copy(client, url).session_info()["username"]
        except PermissionError:
            return
        self.wrong.append(f"{name} logged out and is logged in on {url}")


class User(threading.Thread):
    """One who works without a break."""

    def __init__(self, load: Load, login: str, partner: int):
        super().__init__(name=login, daemon=True)
        self.load = load
        self.login = login
        self.partner = partner
        self.client = WebClient(load.url)
        self.random = random.Random(login)
        #: values that may be read: the one whose write was acknowledged last, and
        #: those of which nobody knows whether they were written
        self.acknowledged = None
        self.unknown: set[str] = set()

    def run(self):
        names, weights = list(ACTIONS), list(ACTIONS.values())
        while not self.load.stopped.is_set():
            [name] = self.random.choices(names, weights)
            self._measure(name)
            self.load.stopped.wait(PAUSE_SECONDS)

    def _measure(self, name):
        start = time.monotonic()
        failure = None
        try:
            getattr(self, name)()
        except requests.HTTPError as error:
            failure = self._status(name, error.response)
        except requests.Timeout:
            failure = "timeout"
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            failure = "cut off"
        except Wrong as error:
            failure = "wrong"
            self.load.wrong.append(f"{self.login}: {name}: {error}")
        except Exception:  # a logout, an error of Odoo, a fault of the test
            failure = "wrong"
            text = traceback.format_exc(limit=-3)
            self.load.wrong.append(f"{self.login}: {name}: {text}")
        sample = Sample(
            self.login, name, start, time.monotonic(), failure, self.client.front_end
        )
        self.load.samples.append(sample)

    def _status(self, name, answer):
        status = answer.status_code
        told = f"{self.login}: {name}: {status} {answer.url} {answer.text[:300]}"
        if status not in OUTAGES:
            self.load.wrong.append(told)
        elif status == 503 and "Retry-After" not in answer.headers:
            self.load.wrong.append(f"without Retry-After: {told}")
        return str(status)

    # actions

    def read(self):
        [values] = self.client.call("res.partner", "read", [self.partner], ["ref"])
        possible = {self.acknowledged, *self.unknown}
        if self.acknowledged and values["ref"] not in possible:
            raise Wrong(f"{values['ref']} was read, not one of {possible}")

    def write(self):
        value = secrets.token_hex(8)
        self.unknown.add(value)
        self.client.call("res.partner", "write", [self.partner], {"ref": value})
        self.unknown.remove(value)
        self.acknowledged = value

    def upload(self):
        size = self.random.choice(SIZES)
        content = secrets.token_bytes(self.random.randint(size // 2, size))
        name = f"{self.login}.bin"
        answer = self.client.upload(name, content, "res.partner", self.partner)
        self.load.uploads.append(Upload(answer["id"], _digest(content), len(content)))

    def download(self):
        if not self.load.uploads:
            return
        upload = self.random.choice(self.load.uploads)
        path = f"/web/content/{upload.attachment}?download=1"
        answer = self.client.get(path, allow_redirects=False)
        if _digest(answer.content) != upload.digest:
            raise Wrong(
                f"attachment {upload.attachment} from {self.client.front_end}: "
                f"{len(answer.content)} bytes, not the {upload.size} of the upload"
            )

    def log_in(self):
        """From another device, and perhaps out again."""
        other = WebClient(self.load.url)
        other.login(self.login, self.login)
        if self.random.random() < 0.5:
            self.load.clients.append((other, self.login))
        else:
            # a logout gives the browser another cookie; a thief keeps the first one
            before = _copy(other, other.url)
            other.get("/web/session/logout", allow_redirects=False)
            self.load.logged_out.append(before)


def _copy(client, url):
    """Return a client with the same login, for one thread."""
    other = WebClient(url)
    other.http.cookies.update(client.http.cookies)
    return other


def _digest(content):
    return hashlib.sha256(content).hexdigest()


def _failures(samples):
    failures = collections.Counter(s.failure for s in samples if s.failure)
    told = ", ".join(f"{count} x {name}" for name, count in failures.most_common())
    total = sum(failures.values())
    return f"{total} failed ({told})" if total else "none failed"
