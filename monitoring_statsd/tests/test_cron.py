import threading
from unittest.mock import patch

from odoo.addons.base.models.ir_cron import IrCron
from odoo.tests import TransactionCase, tagged
from odoo.tools import mute_logger

from .common import StatsdMixin


@tagged("post_install", "-at_install")
class TestCron(StatsdMixin, TransactionCase):
    def setUp(self):
        super().setUp()
        self.start_statsd()

    def run_job(self, status=None, error=None):
        def _run_job(cls, job):
            self.env.cr.execute("SELECT 1")
            if error:
                raise error
            return status

        job = {"cron_name": "Base: Auto-vacuum internal data"}
        with patch.object(IrCron, "_run_job", classmethod(_run_job)):
            return self.registry["ir.cron"]._run_job(job)

    def test_job_sends_time_outcome_and_sql(self):
        self.assertEqual(self.run_job("fully done"), "fully done")
        lines = self.statsd.lines("odoo.cron.sql_time")
        name = "acme.prod.Base_Auto-vacuum_internal_data"
        self.assertRegex(lines[0], rf"^odoo\.cron\.job\.{name}:\d+\.\d+\|ms$")
        self.assertEqual(
            lines[1:3],
            [
                f"odoo.cron.outcome.{name}.fully_done:1|c",
                f"odoo.cron.sql_queries.{name}:1|c",
            ],
        )

    @mute_logger("odoo.sql_db")
    def test_job_that_raises_is_counted_and_still_raises(self):
        with self.assertRaises(ZeroDivisionError):
            self.run_job(error=ZeroDivisionError())
        lines = self.statsd.lines("odoo.cron.sql_time")
        self.assertTrue(any(line.endswith(".crashed:1|c") for line in lines))

    def test_figures_of_the_thread_are_put_back(self):
        thread = threading.current_thread()
        former = {
            name: vars(thread).pop(name, None) for name in ("query_count", "query_time")
        }
        self.addCleanup(
            vars(thread).update, {k: v for k, v in former.items() if v is not None}
        )
        self.run_job("failed")
        self.assertFalse(hasattr(thread, "query_count"))
        thread.query_count = 5
        thread.query_time = 0.5
        self.run_job("failed")
        self.assertEqual(thread.query_count, 6)
        self.assertGreater(thread.query_time, 0.5)
