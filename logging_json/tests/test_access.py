import logging

from odoo.tests import BaseCase, tagged

from .. import access, context
from ..access import Access, AccessBody


@tagged("post_install", "-at_install")
class TestAccess(BaseCase):
    """What a whole server cannot easily be made to do; see test_server.py."""

    def setUp(self):
        super().setUp()
        self.addCleanup(context.set_current, None)
        self.addCleanup(access._current.set, None)
        self.sent = []

    def request(self, body, status="200 OK", headers=(), route=None, **environ):
        record = Access(
            {"REQUEST_METHOD": "GET", "PATH_INFO": "/a", "QUERY_STRING": "", **environ}
        )
        record.route = route
        start = record.start_response(lambda *args: self.sent.append(args))
        start(status, list(headers))
        return AccessBody(body, record)

    def logged(self, logs):
        return [record.logging_json_fields for record in logs.records]

    def logs(self):
        # not "INFO", by which Odoo means a level of its own
        return self.assertLogs("werkzeug", logging.INFO)

    def test_written_when_the_body_is_complete(self):
        body = self.request([b"abc", b"de"])
        with self.assertNoLogs("werkzeug", logging.INFO):
            self.assertEqual(list(body), [b"abc", b"de"])
        with self.logs() as logs:
            body.close()
            body.close()
        [record] = self.logged(logs)
        self.assertEqual(record["response_bytes"], 5)
        self.assertEqual(record["status"], 200)

    def test_identifiers_last_until_the_body_is_closed(self):
        body = self.request([b""], HTTP_X_REQUEST_ID="mine")
        self.assertEqual(context.current().request_id, "mine")
        body.close()
        self.assertIsNone(context.current())
        self.assertIsNone(access.current())

    def test_body_that_fails_is_logged_with_what_was_sent(self):
        def chunks():
            yield b"abc"
            raise ConnectionError

        body = self.request(chunks())
        with self.logs() as logs:
            with self.assertRaises(ConnectionError):
                list(body)
            body.close()
        self.assertEqual(self.logged(logs)[0]["response_bytes"], 3)

    def test_written_before_a_websocket_begins_its_life(self):
        order = []

        class Upgraded:
            def __iter__(self):
                return iter([b""])

            def close(self):
                order.append(f"served as {context.current().request_id}")

        body = self.request(
            Upgraded(), "101 Switching Protocols", HTTP_X_REQUEST_ID="mine"
        )
        handler = logging.Handler()
        handler.emit = lambda record: order.append(record.logging_json_fields["status"])
        logger = logging.getLogger("werkzeug")
        with self.logs():
            logger.addHandler(handler)
            body.close()
        self.assertEqual(order, [101, "served as mine"])
        self.assertIsNone(context.current())

    def test_close_of_the_body_that_fails_still_clears(self):
        class Failing:
            def close(self):
                raise ConnectionError

        body = self.request(Failing())
        with self.assertRaises(ConnectionError):
            body.close()
        self.assertIsNone(context.current())

    def test_identifiers_are_sent_once(self):
        self.request([], headers=[("x-request-id", "theirs")], HTTP_X_REQUEST_ID="mine")
        [(_status, headers)] = self.sent
        self.assertEqual(headers[0], ("x-request-id", "theirs"))
        self.assertEqual([name for name, _value in headers[1:]], ["traceparent"])

    def test_path_that_holds_a_token_is_not_written(self):
        body = self.request(
            [],
            route="/survey/start/<string:survey_token>",
            PATH_INFO="/survey/start/s3",
        )
        with self.logs() as logs:
            body.close()
        record = self.logged(logs)[0]
        self.assertEqual(record["path"], "/survey/start/<string:survey_token>")
        self.assertNotIn("s3", logs.output[0])

    def test_path_is_what_the_client_meant(self):
        body = self.request(
            [], PATH_INFO="/\N{SNOWMAN}".encode().decode("latin-1"), QUERY_STRING="a=1"
        )
        with self.logs() as logs:
            body.close()
        self.assertEqual(self.logged(logs)[0]["path"], "/\N{SNOWMAN}?a=1")

    def test_model_and_method_of_a_remote_call(self):
        for path, model, method in (
            ("/web/dataset/call_kw/res.partner.read", "res.partner", "read"),
            ("/json/2/res.partner/read", "res.partner", "read"),
            ("/web/login", None, None),
        ):
            body = self.request([], PATH_INFO=path)
            with self.logs() as logs:
                body.close()
            record = self.logged(logs)[0]
            self.assertEqual((record["model"], record["model_method"]), (model, method))
