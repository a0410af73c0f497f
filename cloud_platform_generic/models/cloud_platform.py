from functools import partial

from odoo import models
from odoo.addons.cloud_platform.faults import Fault
from odoo.addons.cloud_platform.models.cloud_platform import ObjectStore

from .. import probes
from ..variables import s3_faults


class CloudPlatform(models.AbstractModel):
    _inherit = "cloud.platform"

    # what an addon for another S3 provider extends

    def _s3_kinds(self) -> dict[str, str]:
        """Return the kinds that keep attachments in S3, with their names for people."""
        return {"s3": "S3"}

    # overrides

    def _kinds(self):
        return {**super()._kinds(), **self._s3_kinds()}

    def _variable_faults(self, kind):
        faults = super()._variable_faults(kind)
        return faults + s3_faults() if kind in self._s3_kinds() else faults

    def _checks(self, kind):
        checks = super()._checks(kind)
        if kind in self._s3_kinds():
            checks[self.env._("configuration of S3")] = self._check_s3
        return checks

    def _object_store(self, configuration):
        if configuration.kind not in self._s3_kinds():
            return super()._object_store(configuration)
        from odoo.addons.attachment_s3.configuration import LOCATION, READONLY
        from odoo.addons.attachment_s3.exceptions import S3ConfigurationError

        try:
            s3 = self._s3_configuration(configuration)
        except S3ConfigurationError:
            return None  # told by _check_s3
        try:
            bucket = s3.bucket
        except S3ConfigurationError:
            bucket = ""  # told by _check_bucket where one is needed
        readonly_setting = "AWS_ATTACHMENT_READONLY"
        if s3.settings.disabled:
            readonly_setting = "DISABLE_ATTACHMENT_STORAGE"
        elif s3.readonly and not s3.settings.readonly:
            readonly_setting = READONLY
        in_location = s3.location and s3.location.bucket
        return ObjectStore(
            bucket=bucket,
            readonly=s3.readonly or s3.settings.disabled,
            bucket_setting=LOCATION if in_location else "AWS_BUCKETNAME",
            readonly_setting=readonly_setting,
        )

    def _attachments_to_move(self, configuration):
        if configuration.kind not in self._s3_kinds():
            return super()._attachments_to_move(configuration)
        if not self._writes_objects(configuration):
            return 0, 0
        from odoo.addons.attachment_s3.configuration import STORAGE

        number, size = self.env["attachment.s3.migration"].sudo()._count(STORAGE)
        return number, int(size)

    def _probes(self, configuration):
        questions = super()._probes(configuration)
        if s3 := self._s3_to_probe(configuration):
            questions["S3"] = partial(probes.s3, *s3)
        return questions

    # checks

    def _check_s3(self, configuration):
        from odoo.addons.attachment_s3.exceptions import S3ConfigurationError

        try:
            # computed: it looks at the credentials
            _connection = self._s3_configuration(configuration).connection
        except S3ConfigurationError as error:
            problem, _colon, expected = str(error).partition(": ")
            subject, _is, problem = problem.partition(" ")
            return [Fault(subject, problem, expected.capitalize())]
        return []

    # facts

    def _s3_to_probe(self, configuration):
        """Return the arguments of the probe of S3, or ``None`` when it is not used."""
        from odoo.addons.attachment_s3.exceptions import S3ConfigurationError

        if configuration.kind not in self._s3_kinds() or not self._stores_objects(
            configuration
        ):
            return None
        try:
            s3 = self._s3_configuration(configuration)
            store = s3.store()
        except S3ConfigurationError:
            return None  # told by _check_s3 and _check_bucket
        prefix = self.env["attachment.s3.prefix"].sudo()._own_prefix()
        return store, prefix, s3.writable

    def _s3_configuration(self, configuration):
        """Return what attachment_s3 makes of a configuration.

        :raises S3ConfigurationError: for a wrong parameter, without its secrets
        """
        # not at the top: an import before attachment_s3 is loaded would skip its
        # post_load
        from odoo.addons.attachment_s3.configuration import HOST, READONLY
        from odoo.addons.attachment_s3.configuration import (
            configuration as s3_configuration,
        )

        get_param = self.env["ir.config_parameter"].sudo().get_param
        return s3_configuration(
            self.env.cr.dbname,
            configuration.location,
            get_param(HOST),
            get_param(READONLY),
        )
