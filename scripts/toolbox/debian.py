"""Unpack Debian packages for this checkout alone.

Needs ``apt-get`` and ``dpkg-deb``, no privilege, and leaves the machine's own
packages and apt configuration untouched: apt's configuration parts stay in force
(a mirror may need them), only its folders are private.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

from .project import DEBIAN, ProjectError, say

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def unpack(packages: list[str], name: str, suite: str | None = None) -> Path:
    """Download packages and unpack them below ``.debian/<name>``.

    :param packages: names of Debian packages
    :param name: name of the private root
    :param suite: take exactly these packages from that suite (``sid``); ``None``:
        the machine's own suite, with all dependencies that are not installed
    :return: the private root
    :raises ProjectError: without apt, or when a package cannot be had
    """
    for tool in ("apt-get", "dpkg-deb"):
        if not shutil.which(tool):
            raise ProjectError(
                f"{tool} is missing, so {', '.join(packages)} cannot be fetched: "
                "install them with your system's package manager"
            )
    apt = DEBIAN / f"apt-{name}"
    for folder in ("lists/partial", "cache/archives/partial"):
        (apt / folder).mkdir(parents=True, exist_ok=True)
    options = [
        f"-oDir::State::lists={apt}/lists",
        f"-oDir::Cache={apt}/cache",
        "-oDebug::NoLocking=1",
        "-oAPT::Sandbox::User=",  # apt's own user cannot write to our folders
    ]
    if suite:
        source = apt / "sources.list"
        source.write_text(f"deb [signed-by={KEYRING}] {_mirror()} {suite} main\n")
        options += [f"-oDir::Etc::sourcelist={source}", "-oDir::Etc::sourceparts=-"]
    say(f"  fetching {', '.join(packages[:4])}{' …' if packages[4:] else ''}")
    _apt(["update"], options, packages)
    if suite:
        _apt(["download", *packages], options, packages, cwd=apt / "cache/archives")
    else:
        command = ["install", "--yes", "--no-install-recommends", "--download-only"]
        _apt([*command, *packages], options, packages)
    # a root that exists is complete: unpack beside it, then rename
    root, unpacking = DEBIAN / name, DEBIAN / f"{name}.unpacking"
    shutil.rmtree(unpacking, ignore_errors=True)
    unpacking.mkdir()
    for archive in sorted((apt / "cache/archives").glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", archive, unpacking], check=True)
    shutil.rmtree(root, ignore_errors=True)
    unpacking.rename(root)
    shutil.rmtree(apt)
    return root


def _apt(command, options, packages, cwd=None):
    result = subprocess.run(
        ["apt-get", "-qq", *options, *command],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
    )
    if result.returncode:
        raise ProjectError(
            f"apt-get {command[0]} failed for {', '.join(packages)}; it said:\n"
            f"{result.stdout.strip()}\n"
            "Mend the machine's apt sources or network, or install these packages"
        )


def _mirror() -> str:
    """Return the URI of the machine's own Debian mirror."""
    parts = Path("/etc/apt/sources.list.d")
    for path in sorted(parts.glob("*.sources")):
        for stanza in re.split(r"\n\s*\n", path.read_text()):
            uris = re.search(r"^URIs:\s*(\S+/debian)/?\s*$", stanza, re.M)
            if uris:
                return uris[1]
    for path in [Path("/etc/apt/sources.list"), *sorted(parts.glob("*.list"))]:
        if path.exists():
            line = re.search(
                r"^deb\s+(?:\[[^]]*\]\s+)?(\S+/debian)/?\s", path.read_text(), re.M
            )
            if line:
                return line[1]
    raise ProjectError(
        "no Debian mirror in this machine's apt sources: set ODOO_HOME to a checkout "
        "of Odoo 19.0"
    )
