"""The addons' own tests, by Odoo's runner, with S3 and Redis really on.

They run at least COVERAGE per cent of the lines of each addon, also in the servers that
they start (``tool.coverage.run`` in pyproject.toml).
"""

import json
import shutil
import subprocess
import sys

import pytest
from toolbox import odoo_server, processes, project
from toolbox.services import Services

#: all addons at once, as in production
MODULES = "cloud_platform_generic,cloud_platform_exoscale,server_environment_files"
#: per cent of the lines of each addon
COVERAGE = 90


@pytest.fixture(scope="module")
def measurements(run_folder):
    folder = run_folder / "coverage"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


@pytest.mark.parametrize("addon", project.addons())
def test_addon(addon, services, odoo_folder, make_database, fast, measurements):
    database = f"test_{addon}"
    if not (fast and odoo_server.database_exists(services, database)):
        make_database(database, MODULES)
    arguments = ("-d", database, "-u", addon)
    run_tests(services, odoo_folder, addon, arguments, measured_in=measurements)


def test_coverage(measurements, capsys):
    measured = {path.name.partition(".")[0] for path in measurements.iterdir()}
    if not measured >= set(project.addons()):
        pytest.skip("not all addons' tests have run")
    data = measurements / "all"
    if not data.exists():
        coverage("combine", "--quiet", "--data-file", data, *measurements.iterdir())
    covered = {}
    for name in ("*", *project.addons()):
        report = measurements / f"{name.replace('*', 'total')}.json"
        include = ("--include", f"{project.ROOT}/{name}/*")
        coverage("json", "--quiet", "--data-file", data, *include, "-o", report)
        covered[name] = json.loads(report.read_text())["totals"]["percent_covered"]
        with capsys.disabled():
            print(f"coverage of {name}: {covered[name]:.1f} %")
    coverage("report", "--data-file", data, "--skip-covered", "--show-missing")
    assert min(covered.values()) >= COVERAGE, covered


def coverage(*arguments):
    command = [project.PYTHON, "-m", "coverage", *arguments]
    subprocess.run(command, cwd=project.ROOT, check=True)


def test_attachment_s3_on_a_weak_provider(run_folder):
    """Without Range, conditional PUT and metadata: all that S3 clones may lack."""
    services = Services(run_folder / "weak_services")
    services.start("rclone", follow=True)
    try:
        arguments = ("-d", "test_weak_provider", "-i", "attachment_s3")
        run_tests(services, run_folder / "weak_odoo", "attachment_s3", arguments)
    finally:
        services.remove()


def run_tests(services, folder, addon, arguments, measured_in=None):
    python = []
    if measured_in:
        python = ["-m", "coverage", "run", "--parallel-mode"]
        python += ["--data-file", str(measured_in / addon)]
        folders = [str(project.ROOT / name) for name in project.addons()]
        python += ["--source", ",".join(folders)]
        python += ["--omit", "*/tests/*,*/__manifest__.py"]
    result = odoo_server.run_odoo(
        services,
        folder,
        *("server", *arguments, "--test-tags", f"/{addon}", "--stop-after-init"),
        *("--http-port", str(processes.free_port())),
        *("--gevent-port", str(processes.free_port())),
        python=tuple(python),
        # the fastest way to measure that a version of Python has
        COVERAGE_CORE="sysmon" if sys.version_info >= (3, 12) else "ctrace",
    )
    print(result.stdout)
    assert result.returncode == 0
    assert odoo_server.tests_result(result.stdout) > 0
