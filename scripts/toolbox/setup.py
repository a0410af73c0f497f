"""Provide all that the scripts and the tests need; nothing to do the second time."""

import hashlib
import os
import subprocess
import sys
import time

from . import debian, odoo_source, programs
from .project import DEBIAN, ODOO, PYTHON, ROOT, VENV, ProjectError, say

#: installed in this order: OCA's wheels want to see an Odoo with its libraries
REQUIREMENTS = (
    "scripts/requirements-odoo.txt",
    "requirements.txt",
    "tests/requirements.txt",
)
#: the S3 server pins a botocore of its own, so it lives beside the environment
S3_REQUIREMENTS = "scripts/requirements-s3.txt"
S3_SERVER = VENV / "s3-server"
STAMP = VENV / "setup.stamp"


def run() -> int:
    """Set the checkout up, telling the progress, unless that is done already."""
    if STAMP.exists() and STAMP.read_text() == _state():
        return 0
    started = time.monotonic()
    DEBIAN.mkdir(exist_ok=True)
    say("1/4 virtual environment .venv")
    if not list((VENV / "lib").glob("python3*/site-packages/pip")):
        _create_venv()
    say("2/4 Odoo 19")
    odoo_source.provide()
    say("3/4 Python packages")
    for requirements in REQUIREMENTS:
        _install(ROOT / requirements)
    _pip(
        *("install", "--quiet", "--upgrade", "--target", str(S3_SERVER)),
        *("--requirement", str(ROOT / S3_REQUIREMENTS)),
    )
    say("4/4 PostgreSQL, Redis, nginx, Chromium")
    programs.provide()
    STAMP.write_text(_state())
    say(f"ready after {time.monotonic() - started:.0f} s")
    return 0


def _state() -> str:
    """Return what the set-up depends on; another value means to run it again."""
    digest = hashlib.sha256()
    for requirements in (*REQUIREMENTS, S3_REQUIREMENTS):
        digest.update((ROOT / requirements).read_bytes())
    missing = [name for name in programs.PROGRAMS if not programs.find(name)]
    missing += [path for path in (PYTHON, ODOO) if not path.exists()]
    facts = (ROOT, os.environ.get("ODOO_HOME"), digest.hexdigest(), missing)
    return repr([str(fact) for fact in facts])


def _create_venv():
    create = [sys.executable, "-m", "venv"]
    result = subprocess.run([*create, str(VENV)], capture_output=True)
    if result.returncode == 0:
        return
    # Debian's python3 comes without ensurepip: take pip from its package
    result = subprocess.run(
        [*create, "--clear", "--without-pip", str(VENV)], capture_output=True, text=True
    )
    if result.returncode:
        raise ProjectError(f"no virtual environment can be made: {result.stderr}")
    pip = debian.unpack(["python3-pip"], "pip", suite=_debian_suite())
    subprocess.run(
        [str(PYTHON), "-m", "pip", "install", "--quiet", "--ignore-installed", "pip"],
        env={**os.environ, "PYTHONPATH": str(pip / "usr/lib/python3/dist-packages")},
        check=True,
    )


def _debian_suite() -> str:
    with open("/etc/os-release") as release:
        facts = dict(line.rstrip().split("=", 1) for line in release if "=" in line)
    return facts.get("VERSION_CODENAME", "stable").strip('"')


def _install(requirements):
    lines = requirements.read_text().splitlines()
    lines = [line.partition("#")[0].strip() for line in lines]
    # OCA's addons depend on nothing but Odoo, which is there, and which would pull
    # the sources of psycopg2 although psycopg2-binary serves
    addons = [line for line in lines if line.startswith("odoo-addon-")]
    libraries = [line for line in lines if line and line not in addons]
    _pip("install", "--quiet", *libraries)
    if addons:
        _pip("install", "--quiet", "--no-deps", *addons)


def _pip(*arguments):
    command = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", *arguments]
    # an index may list packages in more than one place: not worth a word
    result = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if result.returncode:
        raise ProjectError(f"pip failed; it said:\n{result.stdout.strip()}")
