import json
import logging
import math
import os
import sys
import time
from datetime import date, datetime

from odoo import netsvc
from odoo.tests import BaseCase, tagged
from odoo.tools import mute_logger

from ..formatter import ECS_NAMES, OdooJsonFormatter


class Unprintable:
    def __str__(self):
        raise ValueError("no")

    __repr__ = __str__


class Recursive:
    def __str__(self):
        return f"{self}"

    __repr__ = __str__


class BrokenNumber(int):
    def __int__(self):
        raise ValueError("no")


def no_constant(name):
    raise ValueError(f"{name} is no JSON")


@tagged("post_install", "-at_install")
class TestFormatter(BaseCase):
    def setUp(self):
        super().setUp()
        self.formatter = OdooJsonFormatter(max_text_chars=1000)

    def parse(self, line):
        self.assertNotIn("\n", line)
        line.encode("ascii")
        parsed = json.loads(line, parse_constant=no_constant)
        # no lone surrogates, at which other readers stop
        json.dumps(parsed, ensure_ascii=False).encode()
        return parsed

    def format(self, msg="text", *args, exc_info=None, extra=None):
        logger = logging.getLogger("some.logger")
        record = logger.makeRecord(
            logger.name, logging.INFO, "file.py", 1, msg, args, exc_info, extra=extra
        )
        return self.parse(self.formatter.format(record))

    def test_fields(self):
        record = netsvc.LogRecord("a.b", logging.WARNING, "f", 1, "%s!", ("x",), None)
        record.created = 0.123456
        record.dbname = "db"
        record.process = 42
        record.logging_json_context = (2, "r", "t")
        line = self.parse(self.formatter.format(record))
        self.assertEqual(
            line,
            {
                "timestamp": "1970-01-01T00:00:00.123Z",
                "level": "WARNING",
                "logger": "a.b",
                "message": "x!",
                "pid": 42,
                "thread": "MainThread",
                "dbname": "db",
                "uid": 2,
                "request_id": "r",
                "trace_id": "t",
            },
        )

    def test_no_database_is_null(self):
        record = netsvc.LogRecord("a", logging.INFO, "f", 1, "x", (), None)
        record.dbname = "?"
        self.assertIsNone(self.parse(self.formatter.format(record))["dbname"])

    def test_level_without_the_colours_of_another_formatter(self):
        record = netsvc.LogRecord("a", logging.ERROR, "f", 1, "x", (), None)
        netsvc.ColoredFormatter("%(levelname)s").format(record)
        self.assertEqual(self.parse(self.formatter.format(record))["level"], "ERROR")

    def test_exception(self):
        try:
            raise json.JSONDecodeError("bad\nnews", "doc", 0)
        except ValueError:
            line = self.format(exc_info=sys.exc_info())
        self.assertEqual(line["exception_type"], "json.decoder.JSONDecodeError")
        self.assertIn("bad\nnews", line["exception_message"])
        self.assertIn("Traceback (most recent call last)", line["exception_stack"])
        self.assertIn("test_exception", line["exception_stack"])

    def test_exception_that_cannot_be_printed(self):
        class Broken(Exception):
            __str__ = Unprintable.__str__

        try:
            raise Broken
        except Broken:
            line = self.format(exc_info=sys.exc_info())
        self.assertIn("Broken", line["exception_type"])
        self.assertIn("cannot be printed", line["exception_message"])
        self.assertIn("test_exception_that", line["exception_stack"])

    def test_stack_info(self):
        record = netsvc.LogRecord("a", 20, "f", 1, "x", (), None, sinfo="a\nb")
        self.assertEqual(self.parse(self.formatter.format(record))["stack"], "a\nb")

    def test_message_of_any_kind_is_kept(self):
        circular = {}
        circular["self"] = circular
        for message in (
            "é \N{PILE OF POO} \x00 \x1b[0m \ud800 \u2028",
            b"\xff",
            {"a": math.nan},
            circular,
            None,
            ["x"],
            Unprintable(),
            Recursive(),
            object(),
        ):
            with self.subTest(type(message)):
                self.assertIn("message", self.format(message))

    def test_wrong_arguments_are_told_and_kept(self):
        line = self.format("%d apples and %s", "three")
        self.assertIn("%d apples", line["message"])
        self.assertIn("three", line["message"])
        self.assertEqual(line["format_error"], "TypeError")
        line = self.format("value %s", Unprintable())
        self.assertIn("value %s", line["message"])
        self.assertEqual(line["format_error"], "ValueError")

    def test_extra_of_any_kind_is_valid(self):
        circular = {"x": 1}
        circular["self"] = [circular]
        wide = {n: [list(range(200))] * 200 for n in range(200)}
        extra = {
            "nan": math.nan,
            "infinite": -math.inf,
            "huge": 2**100,
            "bytes": b"\xffabc",
            "keys": {1: "a", None: "b", (1, 2): "c", b"x": "d", math.nan: "e"},
            "circular": circular,
            "wide": wide,
            "unprintable": {"a": Unprintable()},
            "unprintable_key": {Unprintable(): 1},
            "recursive": [Recursive()],
            "moment": datetime(2020, 1, 2, 3, 4, 5),
            "day": date(2020, 1, 2),
            "set": {1},
            "surrogate": "\udcff",
            "level": "no field",
            "timestamp": "no field",
            "request_id": "no field",
            "json_fields": {"message": "no field"},
            "number": BrokenNumber(3),
            "password": "s3cret",
            "nested": {"access_token": "s3cret", "url": "/?token=s3cret"},
        }
        logger = logging.getLogger("some.logger")
        record = logger.makeRecord("a", 20, "f", 1, "x", (), None, extra=extra)
        text = self.formatter.format(record)
        line = self.parse(text)
        self.assertEqual(line["level"], "INFO")
        self.assertEqual(line["message"], "x")
        self.assertIsNone(line["request_id"])
        self.assertEqual(line["extra"]["level"], "no field")
        self.assertEqual(line["extra"]["request_id"], "no field")
        self.assertIn("cannot be printed", line["extra"]["number"])
        self.assertEqual(line["extra"]["nan"], "nan")
        self.assertEqual(line["extra"]["infinite"], "-inf")
        self.assertEqual(line["extra"]["moment"], "2020-01-02T03:04:05")
        self.assertEqual(line["extra"]["keys"]["1"], "a")
        self.assertEqual(line["extra"]["circular"]["x"], 1)
        self.assertNotIn("s3cret", text)
        self.assertNotIn("format_error", line)
        self.assertLess(len(text), 200_000)

    def test_huge_message_is_bounded(self):
        line = self.format("%s", "x" * 10_000_000)
        self.assertLess(len(line["message"]), 1100)
        self.assertIn("9999000 characters cut", line["message"])

    def test_huge_message_is_no_work_whatever_it_holds(self):
        self.formatter = OdooJsonFormatter()
        for part in (
            "token='",
            "password: \\\\",
            "https://a:",
            "odoo oauth code=",
            "login('_",
            "--password ",
            "basic AAAA ",
            "Authorization: ",
        ):
            text = part * (10_000_000 // len(part))
            started = time.thread_time()
            self.format("%s", text)
            self.assertLess(time.thread_time() - started, 0.5, part)

    def test_end_of_a_huge_stack_is_kept(self):
        record = netsvc.LogRecord("a", 20, "f", 1, "x", (), (ValueError, None, None))
        record.exc_text = "x" * 10_000 + "the end"
        stack = self.parse(self.formatter.format(record))["exception_stack"]
        self.assertTrue(stack.endswith("the end"))
        self.assertLess(len(stack), 1100)

    def test_value_that_logs_when_printed_ends(self):
        formatter = self.formatter
        lines = []

        class Handler(logging.Handler):
            def emit(self, record):
                lines.append(formatter.format(record))

        logger = logging.Logger("recursive")
        logger.addHandler(Handler())

        class Chatty:
            def __str__(self):
                logger.info("inside %s", self)
                return "chatty"

        logger.info("outside %s", Chatty())
        messages = [self.parse(line)["message"] for line in lines]
        self.assertEqual(messages, ["inside %s", "outside chatty"])

    def test_secrets_in_urls_are_masked(self):
        self.assertEqual(self.format("GET /?token=abc")["message"], "GET /?token=***")

    def test_secrets_are_masked_wherever_they_are(self):
        for log_format in ("flat", "ecs"):
            self.formatter = OdooJsonFormatter(log_format)
            try:
                url = "redis://user:s3cret@host"
                headers = {"Authorization": "Basic s3cret"}
                raise ConnectionError(f"{url} {headers} X-Amz-Signature=s3cret")
            except ConnectionError:
                exc_info = sys.exc_info()
            extra = {
                "logging_json_fields": {"path": "/web/signup?token=s3cret"},
                "headers": headers,
                "pairs": [("password", "s3cret"), ["Cookie", "session_id=s3cret"]],
                "nested": {"a": [{"reset_password_token": "s3cret"}]},
                "raw": b'{"password": "s3cret"}',
            }
            values = ({"password": "s3cret"}, ["token=s3cret"])
            line = self.format("%s %s", *values, exc_info=exc_info, extra=extra)
            record = netsvc.LogRecord("a", 20, "f", 1, "x", (), None)
            record.stack_info = "File: password='s3cret'"
            stack = self.parse(self.formatter.format(record))
            for told in (line, stack, self.format("%s %s", "api_key=s3cret")):
                self.assertNotIn("s3cret", json.dumps(told))
                self.assertIn("***", json.dumps(told))

    def test_cut_parts_no_secret_from_its_name(self):
        for start in range(970, 1010):
            text = "x" * start + " token='secret_of_somebody' "
            for cut in (
                text + "y" * 3000,
                "redis://user:secret_of_somebody@host" + text,
            ):
                self.assertNotIn("secret_of", self.format("%s", cut)["message"])
        for end in range(970, 1010):
            record = netsvc.LogRecord(
                "a", 20, "f", 1, "x", (), (ValueError, None, None)
            )
            record.exc_text = "y" * 3000 + " token='secret_of_somebody'" + " " * end
            stack = self.parse(self.formatter.format(record))["exception_stack"]
            self.assertNotIn("somebody", stack)

    def test_record_survives_a_fault_of_the_formatter(self):
        class Faulty(OdooJsonFormatter):
            def _line(self, record, nested=False):
                raise RuntimeError

        self.formatter = Faulty()
        line = self.format("text %s", 1)
        self.assertEqual(line["message"], "text %s")
        self.assertEqual(line["format_error"], "RuntimeError")

    def test_record_of_another_process_is_kept_whatever_it_is_made_of(self):
        for log_format in ("flat", "ecs"):
            self.formatter = OdooJsonFormatter(log_format)
            for wrong in (
                {"created": None},
                {"created": math.nan},
                {"created": math.inf},
                {"levelno": "INFO"},
                {"levelno": []},
                {"name": []},
                {"process": "some"},
                {"process": math.nan},
                {"threadName": []},
                {"exc_info": True},
                {"logging_json_fields": 3},
            ):
                with self.subTest(wrong):
                    made = {"msg": "text %s", "args": ("x",), **wrong}
                    record = logging.makeLogRecord(made)
                    line = self.parse(self.formatter.format(record))
                    self.assertEqual(line["message"], "text x")
                    name = ECS_NAMES["format_error"] if log_format == "ecs" else None
                    self.assertIn(name or "format_error", line)

    def test_process_and_time_are_told_of_any_record(self):
        record = logging.makeLogRecord({"process": None, "created": -0.5})
        line = self.parse(self.formatter.format(record))
        self.assertEqual(line["pid"], os.getpid())
        self.assertEqual(line["timestamp"], "1969-12-31T23:59:59.500Z")
        # a thread's `uid` may be set by anybody
        for uid in ("x", math.nan, Unprintable(), []):
            record.logging_json_context = (uid, None, None)
            self.assertIsNone(self.parse(self.formatter.format(record))["uid"])

    def test_ecs_names(self):
        self.formatter = OdooJsonFormatter("ecs")
        try:
            raise ValueError("no")
        except ValueError:
            line = self.format(
                exc_info=sys.exc_info(),
                extra={"logging_json_fields": {"status": 200, "duration_ms": 1.5}},
            )
        self.assertRegex(line["@timestamp"], r"\A\d{4}-\d\d-\d\dT.*\.\d{3}Z\Z")
        self.assertEqual(line["log.level"], "INFO")
        self.assertEqual(line["error.type"], "ValueError")
        self.assertEqual(line["http.response.status_code"], 200)
        self.assertEqual(line["event.duration"], 1_500_000)
        known = {*ECS_NAMES.values(), "ecs.version", "event.duration"}
        self.assertLessEqual(line.keys(), known)

    @mute_logger("some.logger")
    def test_cost_is_at_most_twice_the_plain_formatter(self):
        plain = logging.Formatter(
            "%(asctime)s %(pid)s %(levelname)s %(dbname)s %(name)s: %(message)s "
            "%(perf_info)s"
        )
        record = netsvc.LogRecord(
            "odoo.modules.loading", 20, "f", 1, "loading %s (%d/%d)", ("a", 1, 2), None
        )

        # who measures coverage slows our lines only
        self.addCleanup(sys.settrace, sys.gettrace())
        sys.settrace(None)

        def cost(formatter):
            best = math.inf
            for _turn in range(5):
                started = time.perf_counter()
                for _record in range(2000):
                    formatter.format(record)
                best = min(best, time.perf_counter() - started)
            return best

        # the best of several turns, because other programs run beside
        ratio = min(cost(self.formatter) / cost(plain) for _turn in range(3))
        logging.getLogger(__name__).info("cost of JSON: %.2f × plain", ratio)
        self.assertLess(ratio, 2)
