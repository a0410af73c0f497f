"""What monitoring_statsd makes of its variables."""

from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

from odoo.addons.cloud_platform.faults import Fault, settings_faults
from odoo.addons.cloud_platform.probes import Result, resolve


def statsd_faults() -> list[Fault]:
    """Return what is wrong with the variables of statsd."""
    settings = _settings()
    if faults := settings_faults(settings.StatsdSettings):
        return faults
    try:
        settings.StatsdSettings().check()
    except settings.StatsdSettingsError as error:
        return [Fault("ODOO_STATSD", str(error).rstrip("."), "Correct the variables")]
    return []


def statsd_probe() -> Result:
    """Resolve the name of the statsd server; UDP gives no answer."""
    settings = _settings().StatsdSettings()
    if not settings.enabled:
        return Result("not used: ODOO_STATSD is off")
    return resolve("STATSD_HOST", settings.host, settings.port)


def _settings():
    """Return the module ``settings`` of monitoring_statsd, without its package.

    The package imports ``server_environment``, which raises in an environment without
    a folder: then the faults of statsd could not be told with that one.
    """
    package = find_spec("odoo.addons.monitoring_statsd")
    path = Path(package.origin).with_name("settings.py")
    spec = spec_from_file_location(f"{__package__}.statsd_settings", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
