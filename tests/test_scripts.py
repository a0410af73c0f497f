"""The scripts tell what they do, and need nothing twice."""

import os
import subprocess

import pytest
from toolbox import programs, project
from toolbox.services import Services

SCRIPTS = [
    "setup",
    "services",
    "odoo",
    "anthem",
    "demo",
    "test",
    "bench",
    "screenshots",
    "versions",
]


@pytest.fixture(scope="module", autouse=True)
def services_of_the_checkout():
    """scripts/odoo starts them, and they would stay."""
    services = Services()
    before = services.running
    yield
    if services.running and not before:
        services.stop()


def run(script, *arguments, **variables):
    return subprocess.run(
        [project.ROOT / "scripts" / script, *arguments],
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def test_all_scripts_are_listed_here():
    folder = project.ROOT / "scripts"
    found = {p.name for p in folder.iterdir() if os.access(p, os.X_OK) and p.is_file()}
    assert found == set(SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_printed(script):
    result = run(script, "--help")
    assert result.returncode == 0, result.stderr
    assert len(result.stdout) > 200


def test_second_setup_touches_no_network_and_no_package(tmp_path):
    for tool in ("apt-get", "pip", "dpkg-deb"):
        fake = tmp_path / tool
        fake.write_text("#!/bin/sh\necho called >&2\nexit 1\n")
        fake.chmod(0o755)
    result = run(
        "setup",
        PATH=f"{tmp_path}:{os.environ['PATH']}",
        PIP_INDEX_URL="http://127.0.0.1:9/",
        PIP_NO_CACHE_DIR="1",
    )
    assert result.returncode == 0, result.stderr
    assert "called" not in result.stderr
    assert result.stdout.strip() == "set up: .venv/bin/python"


def test_setup_names_a_wrong_odoo_home(tmp_path):
    result = run("setup", ODOO_HOME=str(tmp_path))
    assert result.returncode == 1
    assert "ODOO_HOME" in result.stderr
    assert str(tmp_path) in result.stderr


def test_bench_names_an_unknown_benchmark():
    result = run("bench", "nothing-of-that-name")
    assert result.returncode == 2
    assert "nothing-of-that-name" in result.stderr


def test_versions_names_an_unknown_python():
    result = run("versions", "3.9")
    assert result.returncode == 2
    assert "3.9: expected one of 3.10, 3.11" in result.stderr


def test_machine_without_apt_gets_one_message(tmp_path, monkeypatch):
    from toolbox import debian

    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(project.ProjectError, match="apt-get is missing.*nginx-light"):
        debian.unpack(["nginx-light"], "nothing")


def test_every_program_is_found_and_runs():
    for name in programs.PROGRAMS:
        option = "-v" if name == "nginx" else "--version"
        subprocess.run([programs.require(name), option], check=True)
