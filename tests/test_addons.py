"""The addons' own tests, by Odoo's runner, with S3 and Redis really on."""

import pytest
from toolbox import odoo_server, processes, project

#: all addons at once, as in production
MODULES = "cloud_platform_exoscale,server_environment_files"


@pytest.mark.parametrize("addon", project.addons())
def test_addon(addon, services, odoo_folder, make_database, fast):
    database = f"test_{addon}"
    if not (fast and odoo_server.database_exists(services, database)):
        make_database(database, MODULES)
    result = odoo_server.run_odoo(
        services,
        odoo_folder,
        *("server", "-d", database, "-u", addon, "--stop-after-init"),
        *("--test-tags", f"/{addon}"),
        *("--http-port", str(processes.free_port())),
        *("--gevent-port", str(processes.free_port())),
    )
    print(result.stdout)
    assert result.returncode == 0
    assert odoo_server.tests_result(result.stdout) > 0
