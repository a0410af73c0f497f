from odoo import api, models
from odoo.exceptions import ValidationError

from ..configuration import (
    HOST,
    LOCATION,
    READONLY,
    parse_host,
    parse_location,
    parse_readonly,
)
from ..exceptions import S3ConfigurationError
from ..placement import PLACEMENT, parse_rules

PARSERS = {
    LOCATION: parse_location,
    HOST: parse_host,
    READONLY: parse_readonly,
    PLACEMENT: parse_rules,
}


class IrConfigParameter(models.Model):
    _inherit = "ir.config_parameter"

    @api.constrains("key", "value")
    def _check_attachment_s3(self):
        for parameter in self:
            if parse := PARSERS.get(parameter.key):
                try:
                    parse(parameter.value)
                except S3ConfigurationError as error:
                    raise ValidationError(str(error)) from error
