"""Sessions as users meet them: a front end on a Redis of its own.

Its users are those of deploy/redis/users.acl.
"""

import json

import pytest
import websocket
from toolbox import odoo_server
from toolbox.web_client import WebClient

DATABASE = "test_redissessions"
#: close code of Odoo's bus, on which the web client asks to log in again
SESSION_EXPIRED = 4001
BOB = {"name": "Bob", "login": "bob", "password": "bob's password"}


@pytest.fixture
def database(make_database):
    return make_database(DATABASE, "session_redis,mail")


@pytest.fixture
def front_end(database, own_redis, start_front_end):
    options = {"max_cron_threads": "0"}
    return start_front_end("redissessions", database, options, **own_redis.env("odoo"))


@pytest.fixture
def command(services, odoo_folder, own_redis):
    """Return a function that runs ``odoo redissessions`` and returns its output."""

    def run(*arguments):
        result = odoo_server.run_odoo(
            services,
            odoo_folder,
            "redissessions",
            *arguments,
            **own_redis.env("odoo-admin"),
        )
        print(result.stdout)
        assert result.returncode == 0
        return result.stdout

    return run


def logged_in(front_end, login, password):
    client = WebClient(front_end.url)
    client.login(login, password)
    client.get("/odoo")  # from now on it is in the list of devices
    return client


def make_bob(front_end):
    admin = logged_in(front_end, "admin", "admin")
    assert admin.call("res.users", "create", [BOB])
    return admin


def sid(client):
    return client.http.cookies["session_id"]


def click(client):
    """Return where a click leads."""
    return client.request("GET", "/odoo", allow_redirects=False)


def test_command_lists_and_revokes(front_end, command, own_redis, tmp_path):
    admin = make_bob(front_end)
    bobs = [logged_in(front_end, BOB["login"], BOB["password"]) for _ in range(2)]
    clients = [admin, *bobs]

    assert "3 with a user" in command("count")
    listed = command("-d", DATABASE, "list")
    assert "admin: 1" in listed
    assert "bob: 2" in listed
    export = tmp_path / "sessions"
    assert "3 sessions written" in " ".join(command("export", str(export)).split())
    for client in clients:
        # neither a cookie nor, but in the export, what identifies one
        assert sid(client)[42:] not in listed + export.read_text()
        assert sid(client)[:42] not in listed
        assert sid(client)[:8] in listed

    assert "2 sessions ended" in command("-d", DATABASE, "revoke", BOB["login"])
    for client in bobs:
        answer = click(client)
        assert answer.status_code == 303
        assert "/web/login" in answer.headers["Location"]
        with pytest.raises(PermissionError):
            client.session_info()
    assert click(admin).status_code == 200
    assert admin.session_info()["username"] == "admin"
    assert "bob" not in command("-d", DATABASE, "list")

    # the sessions move to another Redis, where they were before the revocation
    own_redis.command("FLUSHALL")
    with pytest.raises(PermissionError):
        admin.session_info()
    own_redis.command("FLUSHALL")  # also the session of who is not logged in
    assert "3 sessions added" in command("import", str(export))
    assert admin.session_info()["username"] == "admin"
    assert "0 sessions added, 3" in command("import", str(export))


def test_command_names_an_unknown_user(front_end, services, odoo_folder, own_redis):
    result = odoo_server.run_odoo(
        services,
        odoo_folder,
        *("redissessions", "-d", DATABASE, "revoke", "nobody"),
        **own_redis.env("odoo-admin"),
    )
    assert result.returncode == 1
    assert "no user has the login 'nobody'" in result.stdout
    assert "Traceback" not in result.stdout


# a tab that is open: its websocket


@pytest.fixture
def connect(front_end):
    """Return a function that opens the websocket of a client and subscribes."""
    sockets = []

    def connect(client):
        opened = websocket.create_connection(
            f"ws://127.0.0.1:{front_end.live_port}/websocket?version=19.0-2",
            cookie=f"session_id={sid(client)}",
            origin=front_end.url,
            timeout=30,
        )
        sockets.append(opened)
        subscribe(opened)
        return opened

    yield connect
    for each in sockets:
        each.close()


def subscribe(opened):
    data = {"channels": [], "last": 0}
    opened.send(json.dumps({"event_name": "subscribe", "data": data}))


def wait_for(opened, text):
    """Read until the notification with a text has come."""
    while True:
        for notification in json.loads(opened.recv()):
            if notification["message"]["payload"] == text:
                return


def wait_for_close(opened):
    """Return the code with which the server closes, after what it still sends."""
    while True:
        opcode, data = opened.recv_data()
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            return int.from_bytes(data[:2], "big")


@pytest.fixture
def shell(services, odoo_folder, own_redis):
    """Return a function that runs code in ``odoo shell``: another process."""

    def run(code):
        result = odoo_server.run_odoo(
            services,
            odoo_folder,
            *("shell", "-d", DATABASE, "--no-http"),
            stdin=code,
            **own_redis.env("odoo"),
        )
        assert result.returncode == 0 and "Traceback" not in result.stdout, (
            result.stdout
        )

    return run


NOTIFY = """
user = env["res.users"].search([("login", "=", "bob")])
user._bus_send("test", {text!r})
env.cr.commit()
"""
MAKE_OLD = """
from odoo import http
store = http.root.session_store
session = store.get({sid!r})
session["create_time"] -= http.SESSION_ROTATION_INTERVAL
store.save(session)
"""


def test_websocket_outlives_a_rotation_and_ends_with_a_revocation(
    front_end, command, shell, connect
):
    make_bob(front_end)
    bob = logged_in(front_end, BOB["login"], BOB["password"])
    opened = connect(bob)
    shell(NOTIFY.format(text="before"))
    wait_for(opened, "before")

    old_sid = sid(bob)
    shell(MAKE_OLD.format(sid=old_sid))
    assert bob.session_info()["username"] == BOB["login"]
    assert sid(bob) != old_sid
    assert sid(bob)[:42] == old_sid[:42]
    shell(NOTIFY.format(text="after"))
    wait_for(opened, "after")

    # the next page opens one with the new session id
    another = connect(bob)
    command("-d", DATABASE, "revoke", BOB["login"])
    for each in (opened, another):
        subscribe(each)
        assert wait_for_close(each) == SESSION_EXPIRED


def test_websocket_is_not_expired_by_an_outage(front_end, own_redis, shell, connect):
    make_bob(front_end)
    bob = logged_in(front_end, BOB["login"], BOB["password"])
    opened = connect(bob)
    shell(NOTIFY.format(text="before"))
    wait_for(opened, "before")
    own_redis.stop()
    subscribe(opened)
    opened.settimeout(5)
    try:
        code = wait_for_close(opened)
    except websocket.WebSocketTimeoutException:
        code = None  # it stays open
    # any other: the browser connects again
    assert code != SESSION_EXPIRED
    own_redis.start()
    again = connect(bob)
    shell(NOTIFY.format(text="after"))
    wait_for(again, "after")
