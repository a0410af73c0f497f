"""The running environment, known before ``server_environment`` is imported."""

from importlib.util import find_spec
from pathlib import Path

from odoo.tools import config

from .faults import Fault
from .settings import CloudPlatformSettings

#: what ``server_environment`` takes, silently, when no environment is named
FALLBACK = "test"


def named_environment(settings: CloudPlatformSettings) -> tuple[str, str | None]:
    """Return the running environment and the setting that names it.

    The order is that of ``server_environment``. The setting is ``None`` when nothing
    names an environment.
    """
    # not config["running_env"], which server_environment itself sets at its import
    from_file = config._file_options.get("running_env")
    if from_file:
        return from_file, "running_env"
    if settings.running_env:
        return settings.running_env, "RUNNING_ENV"
    if settings.odoo_stage:
        return settings.odoo_stage, "ODOO_STAGE"
    return FALLBACK, None


def environment_folder_faults(settings: CloudPlatformSettings) -> list[Fault]:
    """Return a fault when the running environment has no configuration folder.

    ``server_environment`` raises for a missing folder while the server goes on, and
    takes any folder: also ``default`` or one without a configuration file.
    """
    spec = find_spec("odoo.addons.server_environment_files")
    if spec is None or not spec.submodule_search_locations:
        return []  # not installed: server_environment does without
    root = Path(next(iter(spec.submodule_search_locations)))
    names = sorted(
        path.parent.name
        for path in root.glob("*/*.conf")
        if path.parent.name != "default"
    )
    environment, source = named_environment(settings)
    if environment in names:
        return []
    return [
        Fault(
            source or "RUNNING_ENV",
            f"names the environment {environment!r}, which has no folder with a "
            "configuration file in server_environment_files",
            f"Set it to one of {', '.join(sorted(set(names)))}, or add the folder",
        )
    ]
