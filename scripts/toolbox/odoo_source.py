"""Find Odoo 19 for the virtual environment."""

import os
import re
import subprocess
import sys
from pathlib import Path

from . import debian
from .project import DEBIAN, VENV, ProjectError, say

SERIES = "19.0"
PACKAGE_ROOT = DEBIAN / "odoo"
PROGRAM = """\
#!{python}
import odoo.cli

if __name__ == "__main__":
    odoo.cli.main()
"""
#: The package leaves this file out (it blurs the background of video calls): Odoo's
#: bundles report an error in each browser, and Odoo's own tours fail by that.
LEFT_OUT = "odoo/addons/mail/static/lib/selfie_segmentation/selfie_segmentation.js"
#: relative links of the package point into these: /web/login fails without
PACKAGES = [
    "odoo-19",
    "libjs-jquery",
    "libjs-jquery-form",
    "libjs-underscore",
    "fonts-font-awesome",
    "fonts-glyphicons-halflings",
    "fonts-inconsolata",
    "fonts-montserrat",
    "fonts-ocr-b",
    "fonts-roboto-unhinted",
]


def provide() -> Path:
    """Make Odoo importable in the virtual environment and return its folder.

    Takes the checkout that ``ODOO_HOME`` names, else an Odoo that the Python which
    runs this script can import, else the Debian package, unpacked privately.

    :return: the folder that holds the package ``odoo``
    :raises ProjectError: when there is none of them
    """
    folder = _odoo_home() or _importable() or _debian_package()
    link(VENV, folder)
    say(f"  Odoo {SERIES} from {folder}")
    return folder


def provided() -> Path:
    """Return the folder of the Odoo that the virtual environment has."""
    [pth] = (VENV / "lib").glob("python3*/site-packages/odoo.pth")
    return Path(pth.read_text().strip())


def link(venv: Path, folder: Path) -> None:
    """Let a virtual environment import Odoo from a folder, and give it the program."""
    [site] = (venv / "lib").glob("python3*/site-packages")
    (site / "odoo.pth").write_text(f"{folder}\n")
    # a file, not "python -m odoo": a prefork server starts its evented child with
    # the path of its own program
    program = venv / "bin" / "odoo"
    program.write_text(PROGRAM.format(python=venv / "bin" / "python"))
    program.chmod(0o755)


def _odoo_home():
    home = os.environ.get("ODOO_HOME")
    if not home:
        return None
    series = _series(Path(home))
    if series != SERIES:
        raise ProjectError(
            f"ODOO_HOME is {home!r}, which holds {f'Odoo {series}' if series else 'no'}"
            f"{'' if series else ' Odoo'}: expected a checkout of Odoo {SERIES}"
        )
    return Path(home).resolve()


def _importable():
    result = subprocess.run(
        [
            # the interpreter below the virtual environment, if one is active
            getattr(sys, "_base_executable", sys.executable),
            "-c",
            "import odoo.release; print(odoo.release.__file__)",
        ],
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    if result.returncode:
        return None
    folder = Path(result.stdout.strip()).parents[1]
    return folder if _series(folder) == SERIES else None


def _debian_package():
    folder = PACKAGE_ROOT / "usr/lib/python3/dist-packages"
    if _series(folder) != SERIES:
        try:
            debian.unpack(PACKAGES, PACKAGE_ROOT.name, suite="sid")
        except ProjectError as error:
            raise ProjectError(
                f"no Odoo {SERIES} here. Set ODOO_HOME to a checkout of it, or run "
                f"this with a Python that imports it. Tried Debian's package: {error}"
            ) from error
    left_out = folder / LEFT_OUT
    if not left_out.exists():
        left_out.parent.mkdir(parents=True, exist_ok=True)
        left_out.write_text("// left out by Debian\n")
    return folder


def _series(folder: Path) -> str | None:
    release = folder / "odoo" / "release.py"
    if not release.exists():
        return None
    found = re.search(r"^version_info = \(\D*(\d+), (\d+)", release.read_text(), re.M)
    return f"{found[1]}.{found[2]}" if found else None
