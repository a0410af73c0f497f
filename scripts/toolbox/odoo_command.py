"""Odoo's command line, configured for this checkout and its services."""

import os
from pathlib import Path

from .project import ODOO, PYTHON, ROOT, RUN, SERVER_WIDE_MODULES, VENV
from .services import Services

DATA_DIR = RUN / "odoo"


def addons_path() -> str:
    """Return the value of ``addons_path`` for the addons of this checkout."""
    paths = [ROOT]
    home = os.environ.get("ODOO_HOME")
    if home and (Path(home) / "addons").is_dir():
        paths.append(Path(home).resolve() / "addons")
    return ",".join(map(str, paths))


def write_configuration(folder: Path, **options: str) -> Path:
    """Write an ``odoo.conf`` for the addons of this checkout.

    :param folder: where to write it; made when it does not exist
    :param options: further options of Odoo
    :return: the file's path, for ``-c`` or ``ODOO_RC``
    """
    values = {
        "addons_path": addons_path(),
        "data_dir": folder / "data",
        "http_interface": "127.0.0.1",
        "server_wide_modules": ",".join(SERVER_WIDE_MODULES),
        **options,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "odoo.conf"
    lines = [f"{name} = {value}" for name, value in values.items()]
    text = "\n".join(["[options]", *lines, ""])
    if not path.exists() or path.read_text() != text:
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_text(text)
        temporary.rename(path)
    return path


def prepare() -> dict[str, str]:
    """Start the services unless they run, and return the environment for Odoo."""
    services = Services()
    if not services.running:
        services.start()
    return services.process_env(ODOO_RC=str(write_configuration(DATA_DIR)))


def run_odoo(arguments: list[str]) -> None:
    """Replace this process with Odoo's command line."""
    os.execve(PYTHON, [str(PYTHON), str(ODOO), *arguments], prepare())


def anthem_command(arguments: list[str]) -> list[str]:
    """Return the command line of anthem, with the arguments of anthem and Odoo."""
    return [str(PYTHON), str(VENV / "bin" / "anthem"), *arguments]


def run_anthem(arguments: list[str]) -> None:
    """Replace this process with anthem; its own options come before Odoo's."""
    env = prepare()
    if not {"-c", "--config"} & set(arguments):
        arguments = [*arguments, "-c", env["ODOO_RC"]]
    os.execve(PYTHON, anthem_command(arguments), env)
