"""A wrong variable or a store that is away: a named error, soon, and nothing lost."""

import secrets
import time

import pytest
from toolbox import odoo_server, processes
from toolbox.web_client import WebClient

#: "within seconds": a bound against a hang, far above what is needed
SECONDS = 60

CREATE = """
try:
    env["ir.config_parameter"].set_param("ir_attachment.location", "s3://")
    env["ir.attachment"].create({"name": "bad-input", "raw": b"x" * 200_000})
    env.cr.commit()
    print("RESULT", "created")
except Exception as error:
    env.cr.rollback()
    print("RESULT", type(error).__name__, str(error).replace(chr(10), " "))
"""


@pytest.fixture(scope="module")
def database(make_database):
    return make_database("test_bad_input")


@pytest.fixture
def run_server(services, odoo_folder, database):
    def run(*arguments, **variables):
        started = time.monotonic()
        result = odoo_server.run_odoo(
            services,
            odoo_folder,
            *("server", "-d", database, "--stop-after-init", "--no-http"),
            *arguments,
            **variables,
        )
        print(result.stdout)
        assert time.monotonic() - started < SECONDS
        return result

    return run


@pytest.fixture
def run_shell(services, odoo_folder, database):
    def run(code, **variables):
        started = time.monotonic()
        # what is tested is the store, not the start-up checks before it
        variables = {"ODOO_CLOUD_PLATFORM_UNSAFE": "1", **variables}
        result = odoo_server.run_odoo(
            services,
            odoo_folder,
            *("shell", "-d", database, "--no-http"),
            stdin=code,
            **variables,
        )
        print(result.stdout)
        assert time.monotonic() - started < SECONDS
        return next(
            line.partition("RESULT ")[2]
            for line in result.stdout.splitlines()
            if "RESULT " in line
        )

    return run


@pytest.mark.parametrize(
    "variable, value, expected",
    [
        ("ODOO_SESSION_REDIS", "maybe", "boolean"),
        ("ODOO_SESSION_REDIS_PORT", "abc", "integer"),
        ("ODOO_SESSION_REDIS_EXPIRATION", "a week", "integer"),
    ],
)
def test_invalid_variable_of_the_sessions_stops_the_server(
    run_server, variable, value, expected
):
    result = run_server(**{variable: value})
    assert result.returncode != 0
    assert_told(result.stdout, variable, value, expected)


@pytest.mark.parametrize(
    "variable, value, expected",
    [
        ("ODOO_LOGGING_JSON", "perhaps", "boolean"),
        ("ODOO_STATSD", "sometimes", "boolean"),
    ],
)
def test_invalid_variable_is_told(run_server, variable, value, expected):
    # start-up checks are another matter: this database has no platform
    assert_told(run_server(**{variable: value}).stdout, variable, value, expected)


def assert_told(output, variable, value, expected):
    for text in (variable, value, expected):
        assert text in output


def attachments(services, database):
    sql = "SELECT count(*) FROM ir_attachment WHERE name = 'bad-input'"
    return odoo_server.query(services, database, sql)[0][0]


@pytest.mark.parametrize(
    "variables, expected",
    [
        ({"AWS_BUCKETNAME": ""}, "AWS_BUCKETNAME"),
        ({"AWS_ATTACHMENT_READONLY": "rarely"}, "AWS_ATTACHMENT_READONLY"),
        ({"AWS_BUCKETNAME": "nobody-odoo-prod"}, "nobody-odoo-prod"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong-secret"}, "AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_wrong_object_store_is_a_named_error(
    run_shell, services, database, variables, expected
):
    result = run_shell(CREATE, **variables)
    assert expected in result
    assert "wrong-secret" not in result
    assert attachments(services, database) == 0


def test_unreachable_endpoint_is_a_named_error(run_shell, services, database):
    host = f"http://127.0.0.1:{processes.free_port()}"
    result = run_shell(CREATE, AWS_HOST=host)
    assert host in result
    assert attachments(services, database) == 0


def test_malformed_location_is_refused_without_its_secret(run_shell):
    secret = secrets.token_hex(8)
    result = run_shell(
        CREATE.replace('"s3://"', f'"s3://access-key:{secret}@"'),
    )
    assert "ir_attachment.location" in result
    assert secret not in result


def test_unreachable_redis_is_503_and_no_new_session(
    services, database, start_front_end
):
    front_end = start_front_end("bad_input", database)
    client = WebClient(front_end.url)
    client.login()
    cookie = client.http.cookies["session_id"]
    front_end.stop()

    # the same database, but a Redis that does not answer
    blind = odoo_server.OdooServer(
        services,
        front_end.folder,
        database,
        ODOO_SESSION_REDIS_PORT=str(processes.free_port()),
        ODOO_CLOUD_PLATFORM_UNSAFE="1",
    )
    blind.launch()
    try:
        processes.wait_until(
            lambda: processes.accepts_connections(blind.port),
            "Odoo",
            process=blind.process,
            log=blind.log,
        )
        client = WebClient(blind.url)
        client.http.cookies["session_id"] = cookie
        started = time.monotonic()
        response = client.request("GET", "/web")
        assert time.monotonic() - started < SECONDS
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) > 0
        assert "Set-Cookie" not in response.headers
    finally:
        blind.stop()

    # and with Redis again the login is still there
    front_end = start_front_end("bad_input_again", database)
    client = WebClient(front_end.url)
    client.http.cookies["session_id"] = cookie
    assert client.session_info()["username"] == "admin"
