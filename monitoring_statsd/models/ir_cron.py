import threading
import time

from odoo import models

from .. import memory, metrics, observers

# Odoo's cursor adds to these attributes of the thread.
_COUNTERS = ("query_count", "query_time")


class IrCron(models.Model):
    _inherit = "ir.cron"

    def _register_hook(self):
        """Listen to the stores of this server: now all addons are imported."""
        res = super()._register_hook()
        observers.connect()
        return res

    @classmethod
    def _run_job(cls, job):
        """Send how long the job ran, how it ended and what it asked of PostgreSQL."""
        if not metrics.active():
            return super()._run_job(job)
        thread = threading.current_thread()
        # The cursor counts only where these exist; requests set them, crons do not.
        # A request may run a job itself: its own figures are put back.
        own = {name: vars(thread).pop(name, None) for name in _COUNTERS}
        vars(thread).update(dict.fromkeys(_COUNTERS, 0))
        started = time.perf_counter()
        outcome = "crashed"
        try:
            outcome = super()._run_job(job)
            return outcome
        finally:
            seconds = time.perf_counter() - started
            # the access log removes one of them
            used = {name: vars(thread).pop(name, 0) for name in _COUNTERS}
            for name, value in own.items():
                if value is not None:
                    setattr(thread, name, value + used[name])
            cls._send_job_metrics(
                job["cron_name"],
                seconds,
                outcome,
                used["query_count"],
                used["query_time"],
            )

    @classmethod
    def _send_job_metrics(cls, name, seconds, outcome, queries, query_seconds):
        with metrics.errors_logged():
            if active := metrics.active():
                with active.batch() as batch:
                    batch.timing("cron.job", seconds, name)
                    batch.count("cron.outcome", 1, name, outcome)
                    batch.count("cron.sql_queries", queries, name)
                    batch.timing("cron.sql_time", query_seconds, name)
                    memory.sample(batch, "cron")
