"""Several front ends, stopped and killed under load, while their stores fail.

The load's default length suits a run of all tests. For an hour of it, with the table of
faults, errors and recovery times printed:
scripts/test tests/test_front_ends.py -s --timeout 0 --load-seconds 3600 -k load
"""

import contextlib
import hashlib
import json
import os
import random
import re
import secrets
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import requests
import websocket
from front_ends_load import Load
from sentinel import Sentinels
from toolbox import odoo_server, processes
from toolbox.proxy import Proxy
from toolbox.web_client import WebClient

#: users at work, and those who only talk to each other
PEOPLE, FRIENDS = 6, ("anna", "ben")
#: longest time that users may meet failures after a part works again, in seconds. A
#: failover takes two to four, the rest is for a busy machine
RECOVERY_SECONDS = 20
S3_PAUSE_SECONDS = 4
CONFLICT = re.compile(r"SerializationFailure|DeadlockDetected|could not serialize")
READY = "/monitoring/ready"
#: adds users to a database; prints them with the partner that each of them writes
FILL = """
import json
env["ir.config_parameter"].set_param("ir_attachment.location", "s3://")
# all of them, also small ones
env["ir.config_parameter"].set_param("ir_attachment.storage.force.database", "{}")
env["ir.attachment"].force_storage()
groups = env.ref("base.group_user") | env.ref("base.group_partner_manager")
made = {}
for login in LOGINS:
    user = env["res.users"].with_context(no_reset_password=True).create({
        "name": login, "login": login, "password": login, "notification_type": "inbox",
        "email": login + "@example.com", "group_ids": [(6, 0, groups.ids)]})
    made[login] = env["res.partner"].create({"name": "of " + login}).id
friends = {u.login: u.partner_id.id for u in env["res.users"].search([])}
env.cr.commit()
print("MADE", json.dumps({"written": made, "own": friends}))
"""


class Site:
    """Front ends of one database behind one nginx, and the stores that they use."""

    def __init__(self, services, run_folder, database, sentinels):
        self.services = services
        self.folder = run_folder / "front_ends"
        self.database = database
        self.sentinels = sentinels
        self.variables = {
            **sentinels.env,
            # an outage is told before the users' patience ends
            "AWS_READ_TIMEOUT": "1.5",
            "AWS_MAX_ATTEMPTS": "2",
        }
        shutil.rmtree(self.folder / "command", ignore_errors=True)
        #: files that front ends had on their disks
        self.left: list[str] = []
        self.threaded = self.make("threaded")
        self.prefork = self.make("prefork", workers="2")
        self.front_ends = [self.threaded, self.prefork]
        self.proxy = Proxy(run_folder / "nginx" / "front_ends", self.front_ends)

    def make(self, name, **options):
        """Return a front end on an empty disk that is not started."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        options = {"max_cron_threads": "0", **options}
        return odoo_server.OdooServer(
            self.services, folder, self.database, options, **self.variables
        )

    def start(self):
        for front_end in self.front_ends:
            front_end.launch()
        for front_end in self.front_ends:
            self.wait(front_end)
        shutil.rmtree(self.proxy.folder, ignore_errors=True)
        self.proxy.start()
        return self

    def wait(self, front_end):
        """Wait until a front end serves requests and websockets."""
        front_end.wait()
        ready = f"http://127.0.0.1:{front_end.live_port}{READY}"
        processes.wait_until(
            lambda: odoo_server.http_status(ready) == 200,
            "websockets",
            process=front_end.process,
            log=front_end.log,
        )

    def start_again(self, front_end):
        front_end.launch()
        self.wait(front_end)

    def stop(self):
        self.proxy.stop()
        for front_end in self.front_ends:
            front_end.stop()

    def odoo(self, *arguments, statuses=(0,)):
        """Run Odoo's command line as one more host with a disk of its own."""
        folder = self.folder / "command"
        result = odoo_server.run_odoo(
            self.services, folder, *arguments, **self.variables
        )
        assert result.returncode in statuses, result.stdout
        return result.stdout

    def migrate(self, *change):
        """Install or upgrade modules while users work.

        Of two transactions that change the same row PostgreSQL undoes one. When it is
        this one, it is done again, as the Job of deploy/kubernetes does.
        """
        command = ["server", "-d", self.database, *change]
        command += ["--stop-after-init", "--no-http"]
        for _attempt in range(3):
            result = odoo_server.run_odoo(
                self.services, self.folder / "command", *command, **self.variables
            )
            if not result.returncode or not CONFLICT.search(result.stdout):
                break
        assert result.returncode == 0, result.stdout

    def command_files(self):
        """Return the contents that Odoo's commands left on their disk."""
        data = self.folder / "command" / "data" / "filestore"
        return [str(path) for path in data.rglob("*") if path.is_file()]

    def urls(self):
        return [front_end.url for front_end in self.front_ends]

    def lose_disk(self, front_end):
        """Look at the disk of a front end that ended, and take it away."""
        self.left += map(str, front_end.local_files("."))
        shutil.rmtree(front_end.data_dir, ignore_errors=True)

    def files_on_disks(self):
        """Return the files of front ends that run, and of those that ended."""
        running = [f.local_files(".") for f in self.front_ends]
        return self.left + [str(path) for paths in running for path in paths]

    # faults

    def kill(self, front_end):
        front_end.kill()
        self.lose_disk(front_end)
        self.start_again(front_end)

    def terminate(self, front_end):
        # Under load a signal can come just before the system call in which the main
        # thread of the threaded server sleeps for a minute, and then waits for its
        # end (seen once in 35 times): service managers wait longer than that.
        front_end.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            front_end.process.wait(8)
        status = front_end.stop()
        self.lose_disk(front_end)
        self.start_again(front_end)
        assert status == 0

    def kill_worker(self):
        """Kill one process of the prefork server that serves requests."""
        workers = [
            child
            for child in psutil.Process(self.prefork.process.pid).children()
            if "gevent" not in child.cmdline()
        ]
        workers[0].kill()

    def fail_over(self):
        self.sentinels.fail_over().start()

    @contextlib.contextmanager
    def paused_s3(self):
        [pid] = [
            pid
            for name, pid in self.services.state["pids"].items()
            if name == self.services.state["s3"]
        ]
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def database(services, make_database, odoo_folder):
    return make_database("test_front_ends", "attachment_s3,session_redis,mail")


@pytest.fixture(scope="module")
def people(services, database, odoo_folder):
    """The partners that the users write, and those that they are."""
    logins = [f"user{number}" for number in range(PEOPLE)]
    result = odoo_server.run_odoo(
        services,
        odoo_folder,
        *("shell", "-d", database, "--no-http"),
        stdin=FILL.replace("LOGINS", repr([*logins, *FRIENDS])),
    )
    line = next((x for x in result.stdout.splitlines() if x.startswith("MADE")), None)
    assert line, result.stdout
    return json.loads(line[5:])


@pytest.fixture(scope="module")
def site(services, run_folder, database, people):
    sentinels = Sentinels(run_folder / "sentinels")
    site = None
    try:
        sentinels.start()
        site = Site(services, run_folder, database, sentinels)
        yield site.start()
    finally:
        if site:
            site.stop()
        sentinels.stop()


def load_of(site, people, users=PEOPLE):
    written = people["written"]
    names = [name for name in written if name not in FRIENDS][:users]
    addresses = {url.removeprefix("http://") for url in site.urls()}
    return Load(site.proxy.url, addresses, {name: written[name] for name in names})


# Under load


def test_nothing_is_lost_under_load_while_parts_fail(site, people, request):
    seconds = request.config.getoption("--load-seconds")
    chance = random.Random(7)
    faults = [
        ("threaded front end is killed", 0, lambda: site.kill(site.threaded)),
        ("Redis master is killed", 0, site.fail_over),
        ("prefork front end gets SIGTERM", 0, lambda: site.terminate(site.prefork)),
        ("S3 server is paused", S3_PAUSE_SECONDS, lambda: pause(site)),
        ("prefork front end is killed", 0, lambda: site.kill(site.prefork)),
        ("worker of prefork is killed", 0, site.kill_worker),
        ("threaded front end gets SIGTERM", 0, lambda: site.terminate(site.threaded)),
    ]
    todo = list(faults)
    with load_of(site, people) as load:
        load.wait_for_answers()
        while not load.wrong and (todo or time.monotonic() < load.start + seconds):
            name, lasts, happen = todo.pop(0) if todo else chance.choice(faults)
            if happen == site.fail_over:
                site.sentinels.wait()  # they accept a former master after some time
            with load.fault(name, lasts):
                happen()
    print("\n" + load.report())
    load.check(site.urls())

    assert not load.wrong, "\n".join(load.wrong[:20])
    for fault in load.faults:
        assert load.outage_seconds(fault) <= fault.lasts + RECOVERY_SECONDS, fault.name
    assert site.files_on_disks() == []
    assert lost_objects(site) == {"missing": 0, "wrong_size": 0}
    # it was a test
    assert len(load.uploads) > 20
    assert len(load.clients) > PEOPLE and load.logged_out
    assert any(sample.failure for sample in load.samples)


def pause(site):
    with site.paused_s3():
        time.sleep(S3_PAUSE_SECONDS)  # the length of the outage


def lost_objects(site):
    output = site.odoo("s3inventory", "-d", site.database, "--json", statuses=(0, 1))
    counters = json.loads(output.splitlines()[-1])
    return {name: counters[name] for name in ("missing", "wrong_size")}


# Notifications


class Ear:
    """A websocket of a user, opened by way of the proxy as a browser does.

    :ivar front_end: address of the one that has it
    :ivar last: number of the last notification that arrived
    """

    def __init__(self, site, client, last=0):
        self.last = last
        self.websocket = websocket.create_connection(
            f"{site.proxy.url.replace('http', 'ws')}/websocket",
            timeout=30,
            origin=site.proxy.url,
            cookie=f"session_id={client.http.cookies['session_id']}",
        )
        self.front_end = self.websocket.handshake_response.headers["x-front-end"]
        subscription = {"channels": [], "last": last}
        self.websocket.send(
            json.dumps({"event_name": "subscribe", "data": subscription})
        )

    def hears(self, text):
        """Wait for the notification of a message, or raise a timeout."""
        while True:
            for notification in json.loads(self.websocket.recv()):
                self.last = max(self.last, notification["id"])
                message = notification["message"]
                if message["type"] == "mail.message/inbox" and text in json.dumps(
                    message
                ):
                    return True

    def close(self):
        self.websocket.close()


@pytest.fixture
def friends(site):
    """Clients of two users who are logged in."""
    clients = []
    for login in FRIENDS:
        client = WebClient(site.proxy.url)
        client.login(login, login)
        clients.append(client)
    return clients


@pytest.fixture
def ears(site, friends):
    """Websockets of the first friend, by the front end that has them."""
    ears = {}
    try:
        for _attempt in range(10):  # the proxy takes them in turn
            if len(ears) < len(site.front_ends):
                ear = Ear(site, friends[0])
                if ears.setdefault(ear.front_end, ear) is not ear:
                    ear.close()
        assert len(ears) == len(site.front_ends)
        yield ears
    finally:
        for ear in ears.values():
            ear.close()


def tell(people, url, client):
    """Write a message to the first friend on one front end; return its text."""
    text = secrets.token_hex(8)
    sender = of(client, url)
    sender.call(
        "res.partner",
        "message_post",
        [people["written"][FRIENDS[1]]],
        body=text,
        partner_ids=[people["own"][FRIENDS[0]]],
        message_type="comment",
        subtype_xmlid="mail.mt_comment",
    )
    return text


def of(client, url):
    """Return a client with the same login for another address."""
    other = WebClient(url)
    other.http.cookies.update(client.http.cookies)
    return other


def test_notification_of_any_front_end_arrives_at_users_of_all(
    site, people, friends, ears
):
    for url in site.urls():
        text = tell(people, url, friends[1])
        for ear in ears.values():
            assert ear.hears(text), f"from {url} at {ear.front_end}"


def test_user_of_a_killed_front_end_gets_what_was_sent_meanwhile(
    site, people, friends, ears
):
    ear = ears[f"127.0.0.1:{site.threaded.live_port}"]
    assert ear.hears(tell(people, site.prefork.url, friends[1]))
    site.threaded.kill()
    text = tell(people, site.prefork.url, friends[1])
    # the browser connects again, and says what it heard last
    again = Ear(site, friends[0], last=ear.last)
    ears["again"] = again
    assert again.front_end != ear.front_end
    assert again.hears(text)
    site.start_again(site.threaded)


# Modules

#: its vehicle brands have pictures, which the installation stores
MODULE = "fleet"
BRANDS = "fleet.vehicle.model.brand"


def pictures_of_module(site, url):
    """Return the digests of the module's pictures as a front end serves them."""
    client = WebClient(url)
    client.login()
    brands = client.call(BRANDS, "search", [["image_128", "!=", False]], limit=10)
    contents = [
        client.get(f"/web/image/{BRANDS}/{i}/image_128").content for i in brands
    ]
    assert all(contents)
    return [hashlib.sha256(content).hexdigest() for content in contents]


def check_bundles(site):
    """Have each front end serve the scripts and styles that the first one makes."""
    pages = []
    for url in site.urls():
        client = WebClient(url)
        client.login()
        pages.append(re.findall(r'"(/web/assets/[^"]+)"', client.get("/odoo").text))
    assert pages[0] and all(paths == pages[0] for paths in pages)
    for path in pages[0]:
        first, *others = [requests.get(u + path, timeout=120) for u in site.urls()]
        assert first.status_code == 200 and len(first.content) > 1000
        assert all(other.content == first.content for other in others)


def test_modules_are_installed_and_upgraded_while_front_ends_serve(site, people):
    sql = f"SELECT store_fname FROM ir_attachment WHERE res_model = '{BRANDS}'"
    with load_of(site, people, users=3) as load:
        load.wait_for_answers()
        for number, change in enumerate(
            (["-i", MODULE], ["-u", f"attachment_s3,session_redis,{MODULE}"])
        ):
            with load.fault(f"odoo {' '.join(change)}"):
                site.migrate(*change)
            pictures = [pictures_of_module(site, url) for url in site.urls()]
            assert len(pictures[0]) == 10
            assert all(found == pictures[0] for found in pictures), number
    print("\n" + load.report())
    load.check(site.urls())
    assert not load.wrong, "\n".join(load.wrong[:20])
    check_bundles(site)
    stored = odoo_server.query(site.services, site.database, sql)
    assert stored and all(name.startswith("s3://") for (name,) in stored)
    assert site.files_on_disks() == []
    assert site.command_files() == []


# Start


def test_front_end_on_an_empty_disk_serves_its_first_request(site, friends):
    content = secrets.token_bytes(100_000)
    partner = friends[0].session_info()["partner_id"]
    attachment = friends[0].upload("of-another.bin", content, "res.partner", partner)
    new = site.make("new")
    try:
        new.launch()
        processes.wait_until(
            lambda: processes.accepts_connections(new.port), "Odoo", 60, new.process
        )
        client = of(friends[0], new.url)
        answer = client.get(
            f"/web/content/{attachment['id']}?download=1", allow_redirects=False
        )
        assert (answer.status_code, answer.content) == (200, content)
        assert client.session_info()["username"] == FRIENDS[0]
        assert new.local_files(".") == []
    finally:
        new.stop()


# Probes


def test_websocket_port_is_ready_while_all_workers_are_busy(site, people, friends):
    """A probe of the other port would take all front ends out under full load."""
    partner = people["written"][FRIENDS[0]]
    seconds = 5  # of the pods' probes
    other = f"http://127.0.0.1:{site.prefork.websocket_port}"
    connection = odoo_server.connect(site.services, site.database)
    connection.autocommit = False
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    with contextlib.closing(connection), ThreadPoolExecutor(2) as pool:
        with connection.cursor() as cursor:
            sql = "SELECT 1 FROM res_partner WHERE id = %s FOR UPDATE"
            cursor.execute(sql, [partner])
        requests_ = [
            pool.submit(
                of(client, site.prefork.url).call,
                "res.partner",
                "write",
                [partner],
                {"ref": str(number)},
            )
            for number, client in enumerate(friends)
        ]
        processes.wait_until(
            lambda: odoo_server.query(site.services, site.database, waiting) == [(2,)],
            "two workers that wait",
        )
        try:
            with pytest.raises(requests.Timeout):
                requests.get(site.prefork.url + READY, timeout=seconds)
            answer = requests.get(other + READY, timeout=seconds)
        finally:
            connection.rollback()
        assert answer.status_code == 200, answer.text
        assert set(answer.json()["parts"]) >= {"postgresql", "registry"}
        assert [request.result() for request in requests_] == [True, True]
    assert requests.get(site.prefork.url + READY, timeout=seconds).status_code == 200
