from odoo import models

from .. import context


class IrCron(models.Model):
    _inherit = "ir.cron"

    @classmethod
    def _process_job(cls, cron_cr, job):
        """Give all records of one job's run the same identifiers."""
        with context.use(context.Correlation.new()):
            return super()._process_job(cron_cr, job)
