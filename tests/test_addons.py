"""The addons' own tests, by Odoo's runner, with S3 and Redis really on."""

import pytest
from toolbox import odoo_server, processes, project
from toolbox.services import Services

#: all addons at once, as in production
MODULES = "cloud_platform_generic,cloud_platform_exoscale,server_environment_files"


@pytest.mark.parametrize("addon", project.addons())
def test_addon(addon, services, odoo_folder, make_database, fast):
    database = f"test_{addon}"
    if not (fast and odoo_server.database_exists(services, database)):
        make_database(database, MODULES)
    run_tests(services, odoo_folder, addon, ("-d", database, "-u", addon))


def test_attachment_s3_on_a_weak_provider(run_folder):
    """Without Range, conditional PUT and metadata: all that S3 clones may lack."""
    services = Services(run_folder / "weak_services")
    services.start("rclone", follow=True)
    try:
        arguments = ("-d", "test_weak_provider", "-i", "attachment_s3")
        run_tests(services, run_folder / "weak_odoo", "attachment_s3", arguments)
    finally:
        services.remove()


def run_tests(services, folder, addon, arguments):
    result = odoo_server.run_odoo(
        services,
        folder,
        *("server", *arguments, "--test-tags", f"/{addon}", "--stop-after-init"),
        *("--http-port", str(processes.free_port())),
        *("--gevent-port", str(processes.free_port())),
    )
    print(result.stdout)
    assert result.returncode == 0
    assert odoo_server.tests_result(result.stdout) > 0
