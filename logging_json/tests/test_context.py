import threading
from unittest.mock import patch

from odoo.tests import BaseCase, TransactionCase, tagged

from .. import context
from ..context import Correlation

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN_ID = "00f067aa0ba902b7"


@tagged("post_install", "-at_install")
class TestContext(BaseCase):
    def test_identifiers_are_made_when_absent(self):
        one, other = Correlation.new(), Correlation.new()
        self.assertRegex(one.request_id, r"\A[0-9a-f]{32}\Z")
        self.assertRegex(one.traceparent, r"\A00-[0-9a-f]{32}-[0-9a-f]{16}-00\Z")
        self.assertNotEqual(one.request_id, other.request_id)

    def test_valid_request_id_is_taken_over(self):
        for value in ("a", "Root=1-67891233-abcdef", "x" * 128):
            self.assertEqual(Correlation.new(value).request_id, value)

    def test_other_request_id_is_replaced(self):
        for value in ("", "x" * 129, "a b", "a\r\nSet-Cookie: x", "é", '"'):
            self.assertNotEqual(Correlation.new(value).request_id, value)

    def test_valid_traceparent_continues_the_trace(self):
        for version, more in (("00", ""), ("cc", ""), ("cc", "-later")):
            made = Correlation.new(
                traceparent=f"{version}-{TRACE_ID}-{SPAN_ID}-01{more}"
            )
            self.assertEqual(made.trace_id, TRACE_ID)
            self.assertNotEqual(made.span_id, SPAN_ID)
            self.assertRegex(made.traceparent, rf"\A00-{TRACE_ID}-[0-9a-f]{{16}}-01\Z")

    def test_invalid_traceparent_starts_a_trace(self):
        for value in (
            f"ff-{TRACE_ID}-{SPAN_ID}-01",
            f"00-{'0' * 32}-{SPAN_ID}-01",
            f"00-{TRACE_ID}-{'0' * 16}-01",
            f"00-{TRACE_ID}-{SPAN_ID}-01-more",
            f"00-{TRACE_ID.upper()}-{SPAN_ID}-01",
            "x" * 10000,
        ):
            self.assertNotEqual(Correlation.new(traceparent=value).trace_id, TRACE_ID)

    def test_former_identifiers_are_back_after_the_block(self):
        with context.use(Correlation.new("outer")):
            with (
                self.assertRaises(ZeroDivisionError),
                context.use(Correlation.new("inner")),
            ):
                self.assertEqual(context.current().request_id, "inner")
                raise ZeroDivisionError
            self.assertEqual(context.current().request_id, "outer")
        self.assertIsNone(context.current())

    def test_threads_do_not_see_each_other(self):
        seen = []
        with context.use(Correlation.new("mine")):
            thread = threading.Thread(target=lambda: seen.append(context.current()))
            thread.start()
            thread.join()
        self.assertEqual(seen, [None])


@tagged("post_install", "-at_install")
class TestCron(TransactionCase):
    def test_records_of_a_cron_job_share_an_identifier(self):
        seen = []

        def _run_job(job):
            seen.append(context.current())
            return "fully done"

        cron = self.env.ref("base.autovacuum_job")
        model = self.registry["ir.cron"]
        with patch.object(model, "_run_job", _run_job):
            for _turn in range(2):
                job = model._acquire_one_job(
                    self.env.cr, cron.id, include_not_ready=True
                )
                model._process_job(self.env.cr, job)
        self.assertIsNotNone(seen[0])
        self.assertNotEqual(seen[0].request_id, seen[1].request_id)
        self.assertIsNone(context.current())
