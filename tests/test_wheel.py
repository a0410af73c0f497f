"""One wheel holds all addons, and Odoo finds them there."""

import email
import re
import subprocess
import zipfile

import pytest
from packaging.requirements import Requirement
from toolbox import odoo_server, project, versions


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    # a copy: setuptools writes build/ and egg-info beside the sources
    source = tmp_path_factory.mktemp("source") / "source"
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=project.ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout.split("\0")
    for name in filter(None, files):
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((project.ROOT / name).read_bytes())
    return source


@pytest.fixture(scope="module")
def wheel(source):
    return build_wheel(source, source.parent)


def build_wheel(source, folder):
    pip = [project.PYTHON, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    command = [*pip, "--no-build-isolation", "--wheel-dir", folder, source]
    subprocess.run(command, check=True)
    (path,) = folder.glob("*.whl")
    return path


def test_wheel_holds_all_addons_and_no_namespace_package(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for addon in project.addons():
        for path in (project.ROOT / addon).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert f"odoo/addons/{path.relative_to(project.ROOT)}" in names
    assert "odoo/__init__.py" not in names
    assert "odoo/addons/__init__.py" not in names
    assert not [name for name in names if "__pycache__" in name]


def test_metadata(wheel):
    content = contents(wheel)
    [name] = [name for name in content if name.endswith(".dist-info/METADATA")]
    metadata = email.message_from_bytes(content[name])
    assert metadata["License-Expression"] == "LGPL-3.0-only"
    assert metadata["License"] is None  # PEP 639: not both
    assert metadata["Requires-Python"] == f">={versions.SUPPORTED[0]}"
    classifiers = metadata.get_all("Classifier")
    language = "Programming Language :: Python :: 3."
    pythons = [c.rpartition(" ")[2] for c in classifiers if c.startswith(language)]
    assert pythons == list(versions.SUPPORTED)
    required = {Requirement(text) for text in metadata.get_all("Requires-Dist")}
    extra = {one for one in required if one.marker}
    assert {str(one.marker) for one in extra} == {'extra == "anthem"'}
    own = {*versions.requirements(), Requirement("odoo==19.0.*")}
    assert required - extra == own
    text = metadata.get_payload()
    assert "cloud_platform" in text
    assert not re.findall(r"\]\((?!https?:)", text)  # an index has no such files


def test_source_distribution_builds_the_same_wheel(source, wheel, tmp_path):
    build = "from setuptools.build_meta import build_sdist; build_sdist({!r})"
    command = [project.PYTHON, "-c", build.format(str(tmp_path))]
    subprocess.run(command, cwd=source, check=True)
    (sdist,) = tmp_path.glob("*.tar.gz")
    assert contents(build_wheel(sdist, tmp_path)) == contents(wheel)
    command = [project.PYTHON, "-m", "twine", "check", "--strict", sdist, wheel]
    subprocess.run(command, check=True)


def contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_odoo_installs_the_addons_of_the_wheel(wheel, services, run_folder):
    target = run_folder / "wheel"
    pip = [project.PYTHON, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade"]
    subprocess.run([*pip, "--target", target, wheel], check=True)
    folder = run_folder / "wheel_odoo"
    folder.mkdir(exist_ok=True)
    configuration = folder / "odoo.conf"
    modules = ",".join(project.SERVER_WIDE_MODULES)
    configuration.write_text(
        f"[options]\ndata_dir = {folder}/data\nserver_wide_modules = {modules}\n"
    )
    database = "test_wheel"
    odoo_server.drop_database(services, database)
    command = [project.PYTHON, project.ODOO, "server", "-d", database, "--no-http"]
    result = subprocess.run(
        [*command, "-i", ",".join(project.addons()), "--stop-after-init"],
        cwd=folder,
        env=services.process_env(PYTHONPATH=str(target), ODOO_RC=str(configuration)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    print(result.stdout)
    assert result.returncode == 0
    sql = "SELECT name FROM ir_module_module WHERE state = 'installed'"
    installed = {name for (name,) in odoo_server.query(services, database, sql)}
    assert set(project.addons()) <= installed
