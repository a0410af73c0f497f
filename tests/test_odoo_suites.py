"""Odoo's own tests with sessions in Redis and attachments in S3."""

from toolbox import odoo_server, processes

#: Odoo's test: why it cannot pass; the README tells the same
CANNOT_PASS = {}
TAGS = ["/base:TestIrAttachment", "/base:TestPermissions", "/test_http"]

TO_S3 = """
env["ir.config_parameter"].set_param("ir_attachment.location", "s3://")
env["ir.attachment"].force_storage()
env.cr.commit()
"""


def test_odoo_suites_pass(services, odoo_folder, make_database):
    modules = "attachment_s3,session_redis,test_http"
    database = make_database("test_odoo_suites", modules)
    shell = ("shell", "-d", database, "--no-http")
    result = odoo_server.run_odoo(services, odoo_folder, *shell, stdin=TO_S3)
    assert result.returncode == 0, result.stdout
    result = odoo_server.run_odoo(
        services,
        odoo_folder,
        *("server", "-d", database, "-u", "base", "--stop-after-init"),
        *("--test-tags", ",".join([*TAGS, *(f"-{name}" for name in CANNOT_PASS)])),
        *("--http-port", str(processes.free_port())),
        *("--gevent-port", str(processes.free_port())),
    )
    print(result.stdout)
    assert result.returncode == 0
    # the suites were really run: 200 is far below their number of tests
    assert odoo_server.tests_result(result.stdout) > 200
