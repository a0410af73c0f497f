import inspect

from odoo.addons.cloud_platform.sessions import count_sessions
from odoo.exceptions import AccessError, UserError
from odoo.tests import HttpCase, TransactionCase, new_test_user, tagged
from odoo.tools import config

from .common import CheckCase

GROUPS = ("base.group_user", "base.group_portal", "base.group_public")
#: what those who may not change the settings may not call
PUBLIC = {
    "cloud.platform": {
        "install": ("s3",),
        "install_exoscale": (),
        "install_generic": (),
    },
    "cloud.platform.page": {
        "read_page": (),
        "check_connections": (),
        "count_sessions": (),
        "move_attachments": (),
        "cancel_move": (),
    },
}


@tagged("post_install", "-at_install")
class TestAccess(TransactionCase):
    def test_others_than_administrators_are_refused(self):
        for group in (*GROUPS, "base.group_erp_manager"):
            user = new_test_user(self.env, group.replace(".", "_"), group)
            for model, methods in PUBLIC.items():
                records = self.env[model].with_user(user)
                for method, arguments in methods.items():
                    with (
                        self.subTest(group=group, method=method),
                        self.assertRaises(AccessError),
                    ):
                        getattr(records, method)(*arguments)

    def test_no_public_method_is_forgotten(self):
        for model, methods in PUBLIC.items():
            own = {
                name
                for model_class in type(self.env[model]).mro()
                if ".cloud_platform" in model_class.__module__
                for name, method in vars(model_class).items()
                if inspect.isfunction(method) and not name.startswith("_")
            }
            self.assertEqual(own, set(methods))


class TestPage(CheckCase):
    kind = "test"

    def page(self):
        self.env["ir.config_parameter"].set_param("cloud.platform.kind", self.kind)
        return self.env["cloud.platform.page"].read_page()

    def test_page_tells_environment_kind_and_places(self):
        self.set_environment("test")
        self.env["ir.config_parameter"].set_param("ir_attachment.location", "db")
        before = {place["title"]: place for place in self.page()["places"]}
        self.env["ir.attachment"].create({"name": "a", "raw": b"12345"})
        page = self.page()
        self.assertEqual(page["kind"], "A kind for tests")
        self.assertEqual(page["environment"], config["running_env"])
        self.assertEqual(page["location"], "db")
        after = {place["title"]: place for place in page["places"]}
        self.assertEqual(list(after), ["Bucket", "Database", "Local files"])
        self.assertEqual(after["Database"]["number"], before["Database"]["number"] + 1)
        self.assertEqual(after["Database"]["bytes"], before["Database"]["bytes"] + 5)

    def test_faults_have_the_text_of_cloudcheck(self):
        self.set_environment("prod", ODOO_SESSION_REDIS_PREFIX="acme-odoo-test")
        page = self.page()
        faults = [fault for check in page["checks"] for fault in check["faults"]]
        expected = [str(fault) for fault in self.platform._find_faults()]
        self.assertEqual(faults, expected)
        self.assertTrue(any("ODOO_SESSION_REDIS_PREFIX" in text for text in faults))

    def test_page_shows_no_secret(self):
        self.set_environment("prod")
        location = "s3://key:topsecret@bucket"
        self.env["ir.config_parameter"].set_param("ir_attachment.location", location)
        shown = repr([self.page(), self.env["cloud.platform.page"].count_sessions()])
        self.assertNotIn("topsecret", shown)
        self.assertNotIn("open-sesame", shown)

    def test_sessions_that_cannot_be_counted_are_told(self):
        self.set_environment("dev", ODOO_SESSION_REDIS=None)
        self.assertIn("sessions are in files", count_sessions()["error"])
        nowhere = {"ODOO_SESSION_REDIS_HOST": "127.0.0.1"}
        self.set_environment("test", **nowhere, ODOO_SESSION_REDIS_PORT="1")
        self.assertIn("127.0.0.1", count_sessions()["error"])

    def test_each_service_is_told_with_its_fault(self):
        self.set_environment(
            "test",
            ODOO_SESSION_REDIS_HOST="127.0.0.1",
            ODOO_SESSION_REDIS_PORT="1",
            ODOO_SESSION_REDIS_RETRIES="0",
        )
        self.set_parameters("db")
        lines = self.env["cloud.platform.page"].check_connections()
        lines = {line["title"]: line for line in lines}
        self.assertEqual(lines["PostgreSQL"]["faults"], [])
        [fault] = lines["Redis"]["faults"]
        self.assertIn("ConnectionError", fault)

    def test_move_without_a_store_is_refused(self):
        if "attachment.s3.migration" in self.env:
            self.skipTest("an addon that moves attachments is installed")
        with self.assertRaises(UserError):
            self.env["cloud.platform.page"].move_attachments()


@tagged("post_install", "-at_install")
class TestSessionInfo(HttpCase):
    def test_internal_users_are_told_the_environment(self):
        for group, expected in zip(
            GROUPS[:2], (config["running_env"], None), strict=True
        ):
            user = new_test_user(self.env, f"info_{group}", group)
            self.authenticate(user.login, user.login)
            answer = self.make_jsonrpc_request("/web/session/get_session_info", {})
            self.assertEqual(answer.get("cloud_platform_environment"), expected)

    def test_nobody_else_is_told(self):
        self.authenticate(None, None)
        for url in ("/web/login", "/web/health", "/monitoring/live"):
            self.assertNotIn("cloud_platform", self.url_open(url).text)
