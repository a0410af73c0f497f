import os
from unittest.mock import patch

from odoo.addons.cloud_platform.models.cloud_platform import (
    CloudPlatform,
    ObjectStore,
)
from odoo.tests import TransactionCase
from odoo.tools import SQL, config

PREFIXES = ("AWS_", "ODOO_SESSION_REDIS", "ODOO_STATSD", "STATSD_", "ODOO_CLOUD")
GOOD = {
    "ODOO_SESSION_REDIS": "1",
    "ODOO_SESSION_REDIS_HOST": "redis.example",
    "ODOO_SESSION_REDIS_PASSWORD": "open-sesame",
    "ODOO_SESSION_REDIS_PREFIX": "acme-odoo-{environment}",
}


class CheckCase(TransactionCase):
    """A database of the kind ``test``, with an object store that each test sets."""

    kind = "test"

    def setUp(self):
        super().setUp()
        self.platform = self.env["cloud.platform"]
        self.store = None
        self.start_patch(patch.object(CloudPlatform, "_kinds", lambda _: self.kinds()))
        self.start_patch(
            patch.object(CloudPlatform, "_object_store", lambda *_: self.object_store())
        )

    def kinds(self):
        return {self.kind: "A kind for tests"}

    def object_store(self):
        return self.store

    def start_patch(self, patcher):
        self.addCleanup(patcher.stop)
        return patcher.start()

    def set_environment(self, environment, **variables):
        """Run the rest of the test in an environment.

        :param variables: instead of those that are right; ``None``: not set
        """
        values = {"RUNNING_ENV": environment, **GOOD, **variables}
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith((*PREFIXES, "RUNNING_ENV", "ODOO_STAGE"))
        }
        clean |= {
            name: value.format(environment=environment)
            for name, value in values.items()
            if value is not None
        }
        self.start_patch(patch.dict(os.environ, clean, clear=True))
        self.start_patch(
            patch.dict(config._runtime_options, {"running_env": environment})
        )

    def set_parameters(self, location, kind=None):
        """Set the system parameters, also to values that an addon would refuse."""
        for key, value in (
            ("cloud.platform.kind", self.kind if kind is None else kind),
            ("ir_attachment.location", location),
        ):
            self.env["ir.config_parameter"].flush_model()
            self.env.cr.execute(
                SQL(
                    """INSERT INTO ir_config_parameter (key, value) VALUES (%s, %s)
                       ON CONFLICT (key) DO UPDATE SET value = excluded.value""",
                    key,
                    value,
                )
            )
        self.env.invalidate_all()
        self.env.registry.clear_cache("stable")

    def subjects(self):
        """Return what the faults are about."""
        return [fault.subject for fault in self.platform._find_faults()]

    def bucket(self, name, readonly=False):
        self.store = ObjectStore(name, readonly)
