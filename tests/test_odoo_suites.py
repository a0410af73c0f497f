"""Odoo's own tests with sessions in Redis and attachments in S3."""

import re

import pytest
from toolbox import odoo_server, processes, project

#: Odoo's test: why it cannot pass; docs/tests.md tells the same
NO_LOCAL_FILE = "looks for the file in the local filestore, or expects its name there"
NO_FILE_SENT = "wants the local path of the file that nginx is to send"
NO_FILES = "counts the files of Odoo's own session store"
CLOCK = "moves the clock of Python, not the one of Redis, where sessions expire"
SKEW = "sets the clock to 2024, with which an object store refuses any signature"
CANNOT_PASS = {
    "/base:TestIrAttachment.test_02_store_on_disk": NO_LOCAL_FILE,
    "/base:TestIrAttachment.test_04_keep_file": NO_LOCAL_FILE,
    "/base:TestIrAttachment.test_05_change_data_change_file": NO_LOCAL_FILE,
    "/base:TestIrAttachment.test_11_copy": NO_LOCAL_FILE,
    "/base:TestIrAttachment.test_12_gc": NO_LOCAL_FILE,
    "/base:TestIrAttachment.test_13_rollback": NO_LOCAL_FILE,
    "/base:TestPermissions.test_write_error": NO_LOCAL_FILE,
    "/test_http:TestDevice.test_detection_user_public": SKEW,
    "/test_http:TestDevice.test_specific_public_user_write": SKEW,
    "/test_http:TestHttpStatic.test_static03_attachment_fallback": NO_FILE_SENT,
    "/test_http:TestHttpStatic.test_static04_web_content": NO_FILE_SENT,
    "/test_http:TestHttpStatic.test_static05_web_image": NO_FILE_SENT,
    "/test_http:TestHttpStatic.test_static08_binary_field": NO_FILE_SENT,
    "/test_http:TestHttpStatic.test_static20_web_assets": NO_FILE_SENT,
    "/test_http:TestHttpStatic.test_static21_web_assets": NO_FILE_SENT,
    "/test_http:TestSessionRotation.test_session_rotation": NO_FILES,
    "/test_http:TestSessionStore.test02_session_lifetime_1week": CLOCK,
    "/test_http:TestSessionStore.test03_session_lifetime_1min": CLOCK,
    "/test_http:TestSessionStore.test04_session_lifetime_nodb": CLOCK,
}

LEFT_OUT = [f"-{name}" for name in CANNOT_PASS]
#: sessions: websockets, two-factor login, locked screens, the list of devices
SESSION_TAGS = [
    *("/bus", "/web:TestSessionInfo", "/web:TestWebLogin"),
    *("/auth_totp", "/auth_timeout"),
]
#: Odoo runs tests of base while base is loaded, so before the addons: run them again
#: when all is loaded
BASE_TAGS = ["/base:TestIrAttachment", "/base:TestPermissions"]
RUN_BASE = f"""
from odoo.tests.loader import make_suite, run_suite
from odoo.tools import config
config["test_tags"] = "{",".join([*BASE_TAGS, *LEFT_OUT])}"
results = run_suite(make_suite(["base"], "at_install"))
print("RESULT", results.testsRun, results.failures_count, results.errors_count)
"""

TO_S3 = """
env["ir.config_parameter"].set_param("ir_attachment.location", "s3://")
# small files, too, so that the suites meet S3 everywhere
env["ir.config_parameter"].set_param("ir_attachment.storage.force.database", "{}")
env["ir.attachment"].force_storage()
env.cr.commit()
"""


@pytest.fixture(scope="module")
def database(services, odoo_folder, make_database):
    """All attachments in S3, as the addons' options allow it."""
    name = make_database("test_odoo_suites", "attachment_s3,session_redis,test_http")
    run_shell(services, odoo_folder, name, TO_S3)
    return name


def run_shell(services, folder, database, code):
    arguments = ("shell", "-d", database, "--no-http")
    result = odoo_server.run_odoo(services, folder, *arguments, stdin=code)
    print(result.stdout)
    assert result.returncode == 0
    return result.stdout


def test_suites_of_base_pass(services, odoo_folder, database):
    output = run_shell(services, odoo_folder, database, RUN_BASE)
    run, failures, errors = re.search(r"RESULT (\d+) (\d+) (\d+)", output).groups()
    assert (failures, errors) == ("0", "0")
    assert int(run) >= 14


def test_suites_of_http_pass(services, odoo_folder, database):
    result = odoo_server.run_odoo(
        services,
        odoo_folder,
        *("server", "-d", database, "-u", "test_http", "--stop-after-init"),
        *("--test-tags", ",".join(["/test_http", *LEFT_OUT])),
        *("--http-port", str(processes.free_port())),
        *("--gevent-port", str(processes.free_port())),
    )
    print(result.stdout)
    assert result.returncode == 0
    # the suites were really run: this is far below their number of tests
    assert odoo_server.tests_result(result.stdout) > 150


def test_suites_of_sessions_pass(services, odoo_folder, database):
    result = odoo_server.run_odoo(
        services,
        odoo_folder,
        *("server", "-d", database, "-i", "auth_totp,auth_timeout"),
        *("-u", "bus,web", "--test-tags", ",".join([*SESSION_TAGS, *LEFT_OUT])),
        "--stop-after-init",
        *("--http-port", str(processes.free_port())),
        *("--gevent-port", str(processes.free_port())),
    )
    print(result.stdout)
    assert result.returncode == 0
    assert odoo_server.tests_result(result.stdout) > 40


def test_docs_list_the_tests_that_cannot_pass():
    page = (project.ROOT / "docs" / "tests.md").read_text()
    for name, reason in CANNOT_PASS.items():
        assert f"| `{name}` | {reason} |" in page
