"""Find the programs of the services, and unpack the missing ones privately."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from . import debian
from .project import DEBIAN, ProjectError

#: of Playwright's driver, which brings no libraries; unpacked when it is missing and
#: something else is, too
LIBRARIES = {"libatomic1"}
#: private root of the unpacked packages, and start scripts for their programs
SYSTEM = DEBIAN / "system"
BIN = DEBIAN / "bin"


@dataclass(frozen=True)
class Program:
    #: names it may have
    names: tuple[str, ...]
    #: Debian package
    package: str
    #: where it may be beside PATH, relative to ``/`` or a private root
    places: tuple[str, ...] = ("usr/bin", "usr/sbin")


POSTGRESQL = ("usr/lib/postgresql/*/bin", "usr/bin", "usr/pgsql-*/bin")
PROGRAMS = {
    "postgres": Program(("postgres",), "postgresql", POSTGRESQL),
    "initdb": Program(("initdb",), "postgresql", POSTGRESQL),
    # Odoo dumps, restores and duplicates databases with these
    "pg_dump": Program(("pg_dump",), "postgresql-client", POSTGRESQL),
    "psql": Program(("psql",), "postgresql-client", POSTGRESQL),
    # the guides do it with these
    "pg_restore": Program(("pg_restore",), "postgresql-client", POSTGRESQL),
    "createdb": Program(("createdb",), "postgresql-client", POSTGRESQL),
    "dropdb": Program(("dropdb",), "postgresql-client", POSTGRESQL),
    "redis-server": Program(("redis-server",), "redis-server"),
    "redis-cli": Program(("redis-cli",), "redis-tools"),
    "nginx": Program(("nginx",), "nginx-light"),
    # checks deploy/prometheus
    "promtool": Program(("promtool",), "prometheus"),
    # Odoo makes the PDF of a report with it
    "wkhtmltopdf": Program(("wkhtmltopdf",), "wkhtmltopdf"),
    # the file in lib is the program itself: the one in bin is a shell script that
    # looks for its configuration outside of the private root
    "chromium": Program(
        ("chromium", "chromium-browser", "google-chrome"),
        "chromium",
        ("usr/lib/chromium", "usr/bin"),
    ),
}


def find(name: str) -> Path | None:
    """Return the program's path: on the machine, else in the private root."""
    private = BIN / name
    if private.exists():
        return private
    program = PROGRAMS[name]
    for candidate in program.names:
        found = shutil.which(candidate)
        if found:
            return Path(found)
    return _search(program, Path("/"))


def require(name: str) -> Path:
    """Return the program's path.

    :raises ProjectError: when it is neither installed nor unpacked
    """
    path = find(name)
    if not path:
        raise ProjectError(f"{name} is missing: run scripts/setup")
    return path


def provide() -> None:
    """Unpack the packages of all programs that this machine does not have."""
    missing = {name for name in PROGRAMS if not find(name)}
    if not missing:
        return
    # the private root is made anew: with what it has, too
    missing |= {name for name in PROGRAMS if (BIN / name).exists()}
    packages = sorted({PROGRAMS[name].package for name in missing} | LIBRARIES)
    root = debian.unpack(packages, SYSTEM.name)
    BIN.mkdir(exist_ok=True)
    for name in missing:
        path = _search(PROGRAMS[name], root)
        if not path:
            raise ProjectError(
                f"{name} is not in Debian package {PROGRAMS[name].package}: "
                "install it with your system's package manager"
            )
        _write_start_script(BIN / name, path, root)


def path_variable() -> str:
    """Return a ``PATH`` on which all programs are found."""
    folders = [BIN] if BIN.exists() else []
    folders += [find(name).parent for name in ("postgres", "psql") if find(name)]
    unique = dict.fromkeys(str(folder) for folder in folders)
    return os.pathsep.join([*unique, os.environ.get("PATH", os.defpath)])


def library_path() -> str:
    """Return the folders of the unpacked libraries, joined by colons."""
    # packages ship libraries in both, on a machine one is a link to the other
    libraries = [*SYSTEM.glob("lib/**/*.so*"), *SYSTEM.glob("usr/lib/**/*.so*")]
    return os.pathsep.join(sorted({str(library.parent) for library in libraries}))


def _search(program: Program, root: Path) -> Path | None:
    for place in program.places:
        for folder in sorted(root.glob(place), reverse=True):
            for name in program.names:
                path = folder / name
                if path.is_file() and os.access(path, os.X_OK):
                    return path
    return None


def _write_start_script(script: Path, path: Path, root: Path) -> None:
    fonts = script.with_name("fonts.conf")
    fonts.write_text(
        f"<fontconfig><dir>{root}/usr/share/fonts</dir>"
        f"<cachedir>{root}/var/cache/fontconfig</cachedir></fontconfig>\n"
    )
    plugins = os.pathsep.join(map(str, root.glob("usr/lib/*/qt5/plugins")))
    script.write_text(
        "#!/bin/sh\n"
        f'export QT_PLUGIN_PATH="{plugins}"\n'
        # Chromium without any font draws no text
        f'[ -e /etc/fonts ] || export FONTCONFIG_FILE="{fonts}"\n'
        f'LD_LIBRARY_PATH="{library_path()}'
        '${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" \\\n'
        f'exec "{path}" "$@"\n'
    )
    script.chmod(0o755)
