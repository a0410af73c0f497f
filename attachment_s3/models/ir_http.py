from werkzeug.exceptions import HTTPException

from odoo import models

from ..exceptions import RETRY_AFTER_SECONDS, S3Error


class IrHttp(models.AbstractModel):
    _inherit = "ir.http"

    @classmethod
    def _handle_error(cls, exception):
        response = super()._handle_error(exception)
        # A plain request answers with the exception itself. JSON-RPC puts it into an
        # answer of status 200, and the website into a page.
        if isinstance(exception, S3Error) and not isinstance(response, HTTPException):
            response.status_code = exception.code
            response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        return response
