import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from odoo import models
from odoo.exceptions import AccessError
from odoo.tools import SQL, config

from .. import probes, startup
from ..environment import named_environment
from ..faults import (
    CloudPlatformError,
    ConfigurationError,
    Fault,
    settings_faults,
)
from ..probes import Result
from ..providers import addon_of
from ..sessions import session_faults, session_store
from ..settings import CloudPlatformSettings

_logger = logging.getLogger(__name__)

CLIENT = r"[a-z0-9][a-z0-9-]*"
#: environments with a row of their own in the table of rules
ENVIRONMENTS = ("prod", "integration", "test", "dev")
#: a bucket named by the rule, or one whose name says it
PRODUCTION_BUCKET = re.compile(rf"{CLIENT}-odoo-prod|(.*[-.])?prod(uction)?([-.].*)?")


@dataclass(frozen=True)
class EnvironmentRules:
    """What an environment has to look like.

    :param locations: values of ``ir_attachment.location`` that it accepts; the first
        one is set at an installation
    :param bucket_environments: the ``<environment>`` that may end the bucket's name
    :param redis: whether sessions must be in Redis
    """

    locations: tuple[str, ...]
    bucket_environments: tuple[str, ...] = ()
    redis: bool = True


RULES = {
    "prod": EnvironmentRules(("s3://",), ("prod",)),
    "integration": EnvironmentRules(("s3://",), ("prod", "integration")),
    "test": EnvironmentRules(("db",)),
    "dev": EnvironmentRules(("db", "file"), redis=False),
}


@dataclass(frozen=True)
class Configuration:
    """What is checked: the current configuration, or the one to be installed.

    :param environment: the running environment
    :param kind: value of ``cloud.platform.kind``, empty when there is none
    :param location: value of ``ir_attachment.location``, which may hold secrets
    """

    environment: str
    kind: str
    location: str


@dataclass(frozen=True)
class ObjectStore:
    """The object store that attachments use, with the settings that say so.

    :param bucket: its name, empty when there is none
    :param readonly: whether nothing is written to it
    """

    bucket: str
    readonly: bool
    bucket_setting: str = "AWS_BUCKETNAME"
    readonly_setting: str = "AWS_ATTACHMENT_READONLY"


class CloudPlatform(models.AbstractModel):
    """Checks and installation of a platform.

    An addon for another provider extends ``_kinds``, ``_object_store``,
    ``_variable_faults`` and, if it has rules of its own, ``_environment_rules`` and
    ``_checks``. One whose store is S3 extends ``_s3_kinds`` of cloud_platform_generic.
    """

    _name = "cloud.platform"
    _description = "Cloud Platform"

    # overrides

    def _register_hook(self):
        super()._register_hook()
        self._check_at_load()

    # what a provider's addon extends

    def _kinds(self) -> dict[str, str]:
        """Return the kinds that can be installed, with their names for people."""
        return {}

    def _environment_rules(self, kind: str) -> dict[str, EnvironmentRules]:
        """Return the rules of a kind for each environment."""
        return RULES

    def _object_store(self, configuration: Configuration) -> ObjectStore | None:
        """Return the object store of a kind; ``None``: it has none.

        Called only when the variables are valid.
        """
        return None

    def _variable_faults(self, kind: str) -> list[Fault]:
        """Return what is wrong with the variables that a kind uses, on their own.

        The other checks are called only when there is none.
        """
        return [*settings_faults(CloudPlatformSettings), *session_faults()]

    def _checks(self, kind: str) -> dict[str, Callable[[Configuration], list[Fault]]]:
        """Return the checks, in their order, each with its title.

        A check takes the configuration and returns its faults.
        """
        return {
            self.env._("running environment"): self._check_environment,
            self.env._("location of attachments"): self._check_location,
            self.env._("name of the bucket"): self._check_bucket,
            self.env._("writes to a production bucket"): self._check_bucket_writes,
            self.env._("sessions in Redis"): self._check_sessions,
            self.env._("prefix of sessions"): self._check_session_prefix,
        }

    def _probes(self, configuration: Configuration) -> dict[str, Callable[[], Result]]:
        """Return questions to the services, each with its title.

        They are asked in threads, without a cursor, when the variables are valid.
        """
        kind, version = configuration.kind, self.env.cr._cnx.server_version
        addon = addon_of(kind) if kind else "cloud_platform"
        return {
            self.env._("server-wide modules"): partial(
                probes.server_wide_modules, addon
            ),
            "PostgreSQL": partial(probes.postgresql, version),
            "Redis": probes.redis,
        }

    # installation

    def install_exoscale(self) -> dict:
        """Install the kind ``exoscale``; see :meth:`install`."""
        return self.install("exoscale")

    def install_generic(self) -> dict:
        """Install the kind ``s3``, of any S3 store; see :meth:`install`."""
        return self.install("s3")

    def install(self, kind: str, dry_run: bool = False) -> dict:
        """Configure this database for a kind of platform.

        Sets ``cloud.platform.kind`` and ``ir_attachment.location`` for the running
        environment and moves the attachments when that is a writable object store. It
        can be run again, also after a change of the environment.

        :param kind: one of those that the installed provider addons offer
        :param dry_run: write nothing
        :return: ``environment``, the parameters that were (or would be) set under
            ``parameters``, the number of ``attachments`` that had (or have) to move,
            and the ``bytes`` of those that ``moved`` (or would move), ``failed``
        :raises AccessError: for others than administrators
        :raises CloudPlatformError: when no installed addon provides the kind
        :raises ConfigurationError: when the configuration would be wrong; nothing was
            written
        """
        self._check_administrator()
        configuration = self._installed_configuration(kind)
        if faults := self._find_faults(configuration):
            error = ConfigurationError(faults)
            if not startup.is_unsafe():
                raise error
            _logger.warning("ODOO_CLOUD_PLATFORM_UNSAFE is set, although: %s", error)
        parameters = {
            "cloud.platform.kind": configuration.kind,
            "ir_attachment.location": configuration.location,
        }
        number, size = self._attachments_to_move(configuration)
        report = {
            "environment": configuration.environment,
            # a location can hold the keys of the bucket
            "parameters": {
                **parameters,
                "ir_attachment.location": _shown(configuration.location),
            },
            "attachments": number,
            "bytes": size,
            "moved": 0,
            "failed": 0,
        }
        if dry_run:
            return report
        for key, value in parameters.items():
            self.env["ir.config_parameter"].sudo().set_param(key, value)
        _logger.info(
            "Environment %s: installed the platform %s, attachments are in %s",
            configuration.environment,
            kind,
            report["parameters"]["ir_attachment.location"],
        )
        if number:
            report.update(self.env["ir.attachment"].force_storage() or {})
        return report

    def _installed_configuration(self, kind):
        """Return the configuration that an installation leads to."""
        if kind not in self._kinds():
            raise CloudPlatformError(
                self.env._(
                    "No installed addon provides the platform %(kind)s: install "
                    "%(addon)s on this database, then try again.",
                    kind=kind,
                    addon=addon_of(kind),
                )
            )
        current = self._configuration()
        rules = self._rules(replace(current, kind=kind))
        accepted = current.location and _scheme(current.location) in rules.locations
        location = current.location if accepted else rules.locations[0]
        return replace(current, kind=kind, location=location)

    def _attachments_to_move(self, configuration: Configuration) -> tuple[int, int]:
        """Return number and bytes of the attachments that an installation moves."""
        if not self._writes_objects(configuration):
            return 0, 0
        self.env["ir.attachment"].flush_model(["type", "store_fname", "file_size"])
        [(number, size)] = self.env.execute_query(
            SQL(
                """SELECT count(*), coalesce(sum(file_size), 0) FROM ir_attachment
                    WHERE type = 'binary' AND file_size > 0
                      AND (store_fname IS NULL OR store_fname NOT LIKE %s)""",
                f"{_scheme(configuration.location)}%",
            )
        )
        return number, int(size)

    # checks

    def _check_at_load(self):
        """Stop a server whose configuration is wrong (see ``startup``)."""
        configuration = self._configuration()
        if not configuration.kind:
            _logger.warning(
                "Database %s has no cloud.platform.kind, so its configuration is not "
                "checked: run the song of a platform, for example "
                "odoo.addons.cloud_platform.songs::install_exoscale",
                self.env.cr.dbname,
            )
            return
        if faults := self._find_faults(configuration):
            error = ConfigurationError(faults)
            if startup.is_unsafe():
                _logger.warning(
                    "ODOO_CLOUD_PLATFORM_UNSAFE is set, so database %s is served "
                    "although: %s",
                    self.env.cr.dbname,
                    error,
                )
                return
            startup.refuse_database(self.env.cr.dbname, error, self.env.registry.ready)
            return
        if configuration.environment not in ENVIRONMENTS:
            _logger.info(
                "The environment %s follows the rules of dev", configuration.environment
            )
        startup.passed(self.env.cr.dbname)

    def _find_faults(self, configuration: Configuration | None = None) -> list[Fault]:
        """Return all faults of the current or of another configuration."""
        return [
            fault
            for faults in self._check_results(configuration).values()
            for fault in faults
        ]

    def _check_results(
        self, configuration: Configuration | None = None
    ) -> dict[str, list[Fault]]:
        """Return the faults of each check by its title.

        Checks that need variables which are invalid are left out.
        """
        configuration = configuration or self._configuration()
        results = {
            self.env._("platform"): self._check_kind(configuration),
            self.env._("variables"): self._variable_faults(configuration.kind),
        }
        if not any(results.values()):
            for title, check in self._checks(configuration.kind).items():
                results[title] = check(configuration)
        return results

    def _report(self, probe: bool = True) -> dict:
        """Return the outcome of all checks and probes, without secrets.

        :param probe: ask the services too
        :return: ``environment``, ``kind``, ``location``, ``ok`` and, by their titles,
            the :class:`Result` of the ``checks`` and of the ``probes``
        """
        configuration = self._configuration()
        checks = {
            title: Result(faults=faults)
            for title, faults in self._check_results(configuration).items()
        }
        answers = {}
        if probe and not self._variable_faults(configuration.kind):
            answers = {
                title: probes.run(title, question)
                for title, question in self._probes(configuration).items()
            }
        return {
            "environment": configuration.environment,
            "kind": configuration.kind,
            "location": _shown(configuration.location or "file"),
            "ok": not any(r.faults for r in [*checks.values(), *answers.values()]),
            "checks": checks,
            "probes": answers,
        }

    def _check_kind(self, configuration):
        if configuration.kind in self._kinds():
            return []
        if not configuration.kind:
            return [
                Fault(
                    "cloud.platform.kind",
                    self.env._("is not set"),
                    self.env._("Run the song of a platform"),
                )
            ]
        return [
            Fault(
                "cloud.platform.kind",
                self.env._(
                    "is %(kind)r, which no installed addon provides",
                    kind=configuration.kind,
                ),
                self.env._(
                    "Install the addon %s, or run the song of another platform",
                    addon_of(configuration.kind),
                ),
            )
        ]

    def _check_environment(self, configuration):
        name, source = named_environment(CloudPlatformSettings())
        if source is None:
            return [
                Fault(
                    "RUNNING_ENV",
                    self.env._(
                        "is not set, so that the environment is %r by default",
                        configuration.environment,
                    ),
                    self.env._("Name the environment, for example RUNNING_ENV=prod"),
                )
            ]
        if name != configuration.environment:
            return [
                Fault(
                    source,
                    self.env._(
                        "names the environment %(named)r, but server_environment runs "
                        "%(running)r",
                        named=name,
                        running=configuration.environment,
                    ),
                    self.env._("Unset RUNNING_ENV instead of leaving it empty"),
                )
            ]
        return []

    def _check_location(self, configuration):
        locations = self._rules(configuration).locations
        if _scheme(configuration.location or "file") in locations:
            return []
        return [
            Fault(
                "ir_attachment.location",
                self.env._(
                    "is %(location)r in the environment %(environment)s",
                    location=_shown(configuration.location or "file"),
                    environment=configuration.environment,
                ),
                self.env._(
                    "Set this system parameter to %s, or run the song of the platform "
                    "again",
                    self.env._(" or ").join(locations),
                ),
            )
        ]

    def _check_bucket(self, configuration):
        store = self._object_store(configuration)
        environments = self._rules(configuration).bucket_environments
        if not environments or not store or not self._stores_objects(configuration):
            return []
        expected = self.env._(" or ").join(
            f"<client>-odoo-{environment}" for environment in environments
        )
        if not store.bucket:
            return [
                Fault(
                    store.bucket_setting,
                    self.env._("is not set"),
                    self.env._("Set it to %s", expected),
                )
            ]
        if CloudPlatformSettings().unstructured_bucket_name or any(
            _has_name(store.bucket, environment) for environment in environments
        ):
            return []
        return [
            Fault(
                store.bucket_setting,
                self.env._(
                    "is %(bucket)r in the environment %(environment)s",
                    bucket=store.bucket,
                    environment=configuration.environment,
                ),
                self.env._(
                    "Name a bucket %s, with a client of lower case letters, digits and "
                    "hyphens; AWS_BUCKETNAME_UNSTRUCTURED=1 accepts another name",
                    expected,
                ),
            )
        ]

    def _check_bucket_writes(self, configuration):
        store = self._object_store(configuration)
        if store is None or not store.bucket:
            return []
        if configuration.environment == "prod":
            if not store.readonly or not self._stores_objects(configuration):
                return []
            return [
                Fault(
                    store.readonly_setting,
                    self.env._("is set in the environment prod"),
                    self.env._("Unset it: prod writes its own attachments"),
                )
            ]
        if store.readonly or not PRODUCTION_BUCKET.fullmatch(store.bucket):
            return []
        return [
            Fault(
                store.readonly_setting,
                self.env._(
                    "is not set, so that the environment %(environment)s could write "
                    "to the production bucket %(bucket)r",
                    environment=configuration.environment,
                    bucket=store.bucket,
                ),
                self.env._("Set AWS_ATTACHMENT_READONLY=1, or name another bucket"),
            )
        ]

    def _check_sessions(self, configuration):
        if not self._rules(configuration).redis:
            return []
        store = session_store()
        where = self.env._("in the environment %s", configuration.environment)
        if not store.redis:
            return [
                Fault(
                    "ODOO_SESSION_REDIS",
                    self.env._("is not on %s", where),
                    self.env._("Set ODOO_SESSION_REDIS=1"),
                )
            ]
        faults = []
        if not store.address:
            faults.append(
                Fault(
                    "ODOO_SESSION_REDIS_HOST",
                    self.env._("is not set %s", where),
                    self.env._(
                        "Set it, or ODOO_SESSION_REDIS_URL, or "
                        "ODOO_SESSION_REDIS_SENTINEL_HOST"
                    ),
                )
            )
        if not store.password:
            faults.append(
                Fault(
                    "ODOO_SESSION_REDIS_PASSWORD",
                    self.env._("is not set %s", where),
                    self.env._("Set the password of Redis"),
                )
            )
        return faults

    def _check_session_prefix(self, configuration):
        store = session_store()
        if not store.redis:
            return []
        environment = configuration.environment
        if not self._rules(configuration).redis:
            foreign = [
                name
                for name in ENVIRONMENTS
                if name != environment and _has_name(store.prefix, name)
            ]
            if not foreign:
                return []
        elif _has_name(store.prefix, environment):
            return []
        return [
            Fault(
                "ODOO_SESSION_REDIS_PREFIX",
                self.env._(
                    "is %(prefix)r in the environment %(environment)s",
                    prefix=store.prefix,
                    environment=environment,
                )
                if store.prefix
                else self.env._("is not set in the environment %s", environment),
                self.env._(
                    "Set it to <client>-odoo-%s, with a client of lower case letters, "
                    "digits and hyphens",
                    environment,
                ),
            )
        ]

    # facts

    def _configuration(self):
        parameter = self.env["ir.config_parameter"].sudo().get_param
        return Configuration(
            environment=config["running_env"],
            kind=parameter("cloud.platform.kind", ""),
            location=parameter("ir_attachment.location", ""),
        )

    def _rules(self, configuration):
        rules = self._environment_rules(configuration.kind)
        return rules.get(configuration.environment, rules["dev"])

    def _stores_objects(self, configuration):
        return _scheme(configuration.location).endswith("://")

    def _writes_objects(self, configuration):
        store = self._object_store(configuration)
        return (
            self._stores_objects(configuration)
            and store is not None
            and not store.readonly
        )

    def _check_administrator(self):
        if not self.env.is_system():
            raise AccessError(
                self.env._("Only administrators may configure the platform.")
            )


def _has_name(value, environment):
    return bool(re.fullmatch(rf"{CLIENT}-odoo-{re.escape(environment)}", value or ""))


def _scheme(location):
    """Return the kind of a location: ``s3://``, ``db``, ``file``."""
    scheme, separator, _rest = location.partition("://")
    if separator or scheme == "s3":
        return f"{scheme}://"
    return location


def _shown(location):
    """Return what may be shown of a location, which can hold a bucket's keys."""
    scheme = _scheme(location)
    return scheme if re.fullmatch(r"\w+(://)?", scheme) else f"{scheme[:2]}…"
