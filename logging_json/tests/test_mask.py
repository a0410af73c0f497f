import base64
import time

from odoo.tests import BaseCase, tagged

from ..mask import mask_secrets


@tagged("post_install", "-at_install")
class TestMask(BaseCase):
    def test_secrets_in_urls_are_masked(self):
        for name in (
            "access_token",
            "token",
            "csrf_token",
            "session_id",
            "sid",
            "password",
            "new_passwd",
            "api_key",
            "client_secret",
            "X-Amz-Signature",
            "X-Amz-Credential",
        ):
            for text in (
                f"/web/content/1?{name}=s3cret",
                f"/a?x=1&{name}=s3cret&y=2",
                f"redirect=%2Fa%3F{name}%3Ds3cret",
                f"GET /a?{name.upper()}=s3cret HTTP/1.1",
            ):
                with self.subTest(text):
                    masked = mask_secrets(text)
                    self.assertNotIn("s3cret", masked)
                    self.assertIn("***", masked)

    def test_what_follows_a_secret_stays(self):
        self.assertEqual(
            mask_secrets('"GET /a?token=abc&id=3 HTTP/1.1" 200'),
            '"GET /a?token=***&id=3 HTTP/1.1" 200',
        )

    def test_password_of_a_url_is_masked(self):
        self.assertEqual(
            mask_secrets("redis://user:s3cret@host:6379/0"),
            "redis://user:***@host:6379/0",
        )

    def test_user_information_with_any_characters_is_masked(self):
        for text in (
            "redis://:s3cret@host",
            "redis://user:s3c@s3cret@host:1/0",
            "s3://AKIA:s3cret/s3cret+x@bucket",
            "ftp://s3cret-token-of-a-robot@host/x",
            "https://s3cret@host/",
            "pip install git+https://s3cret@host/repository.git@main",
            "https://s3cret:x-oauth-basic@host/",
            "https://s3cret:@host/",
            "Fetching 'https://s3cret@host'",
        ):
            masked = mask_secrets(text)
            self.assertNotIn("s3c", masked)
            self.assertIn("***@", masked)

    def test_secrets_in_python_json_and_headers_are_masked(self):
        for text in (
            "{'password': 's3cret', 'x': 1}",
            "{'password': 's3cret with \\' more s3cret'}",
            '{"new_password": "s3cret"}',
            '"{\\"password\\": \\"s3cret\\"}"',
            "('password', 's3cret')",
            "Client(aws_secret_access_key='s3cret', region='eu')",
            "AWS_SECRET_ACCESS_KEY=s3cret",
            "password: s3cret",
            "SET password = 's3cret'",
            "{'X-Amz-Signature': 's3cret'}",
            "x-amz-security-token: s3cret",
            "X-Api-Key: s3cret",
            "Set-Cookie: session_id=s3cret; HttpOnly",
            "/a%253FX-Amz-Signature%253Ds3cret",
            "Authorization: Bearer s3cret",
            "{'Authorization': 'Basic s3cret', 'x': 1}",
            "{b'authorization': b'Basic s3cret'}",
            "'HTTP_AUTHORIZATION': 'Basic s3cret'",
            "Authorization: AWS4-HMAC-SHA256 Credential=s3cret/x/y, Signature=s3cret",
            "sent Bearer s3cret.s3cret.s3cret",
        ):
            with self.subTest(text):
                masked = mask_secrets(text)
                self.assertNotIn("s3cret", masked)
                self.assertIn("***", masked)

    def test_secrets_of_command_lines_are_masked(self):
        for text in (
            "odoo --db_password s3cret -d db",
            "odoo --db_password 's3cret s3cret' -d db",
            "psql --password s3c,s3cret;s3cret",
            "run --api-key  s3cret",
            "/usr/bin/odoo -w s3cret -d db",
            "Command '['odoo', '-w', 's3cret', '-d', 'db']' returned 1",
            "Command '['odoo', '--db_password', 's3cret']' returned 1",
            'odoo -w "s3cret with more s3cret"',
        ):
            with self.subTest(text):
                masked = mask_secrets(text)
                self.assertNotIn("s3c", masked)
                self.assertIn("***", masked)

    def test_secrets_of_oauth_are_masked(self):
        state = "%7B%22d%22%3A+%22db%22%2C+%22t%22%3A+%22s3cret%22%7D"
        for text in (
            "GET /auth_oauth/signin?code=s3cret&scope=a HTTP/1.1",
            f"/auth_oauth/signin?state={state}",
            "/auth_oauth/signin?state=s3cret&code=s3cret",
            "redirect=%2Fauth_oauth%2Fsignin%3Fcode%3Ds3cret",
            f"/web/login?state={state}&x=1",
            "/my/callback?code=s3cret-0123456789abcdef",
            "POST https://oauth2.host/token {'code': 's3cret-0123456789abcdef'}",
            "https://openid.host/token?code_verifier=s3cret",
        ):
            with self.subTest(text):
                masked = mask_secrets(text)
                self.assertNotIn("s3cret", masked)
                self.assertIn("***", masked)

    def test_arguments_of_a_login_are_masked(self):
        for text in (
            "call res.users(2,).change_password('s3cret', 's3cret')",
            "call res.users()._check_credentials(2, 's3cret')",
            "common.login('db', 'admin', 's3cret')",
            "common.authenticate('db', 'admin', 's3cret', {})",
            'session.authenticate("db", "admin", "s3cret")',
        ):
            with self.subTest(text):
                masked = mask_secrets(text)
                self.assertNotIn("s3cret", masked)
                self.assertTrue(masked.endswith("(***)"), masked)

    def test_credentials_without_their_header_are_masked(self):
        basic = base64.b64encode(b"admin:s3cret").decode()
        for text in (f"sent Basic {basic}", f"Cookie: a=b; session_id={basic}"):
            self.assertNotIn(basic, mask_secrets(text))
        bearer = "sent Bearer abcdefghijKLmnopqrstuvwx, answered"
        self.assertEqual(mask_secrets(bearer), "sent Bearer ***, answered")

    def test_what_surrounds_a_secret_stays(self):
        for text, expected in (
            ("{'password': 's3', 'x': 1}", "{'password': '***', 'x': 1}"),
            ('{"token":"s3","x":1}', '{"token":"***","x":1}'),
            ("f(api_key='s3', x=1)", "f(api_key='***', x=1)"),
            ("{'Authorization': 'A b', 'x': 1}", "{'Authorization': '***', 'x': 1}"),
            (
                "UPDATE a SET \"password\"='s3', x=1",
                "UPDATE a SET \"password\"='***', x=1",
            ),
            ("https://s3@host/a?b=c", "https://***@host/a?b=c"),
            ("https://user:s3@host/a?b=c", "https://***@host/a?b=c"),
            ("odoo --db_password s3 -d db", "odoo --db_password *** -d db"),
            ("['odoo', '-w', 's3', '-d']", "['odoo', '-w', '***', '-d']"),
            ("/auth_oauth/x?code=s3cr&a=b", "/auth_oauth/x?code=***&a=b"),
            ("Cookie: session_id=s3; cids=1", "Cookie: session_id=***; cids=1"),
        ):
            self.assertEqual(mask_secrets(text), expected)

    def test_harmless_text_stays(self):
        for text in (
            "/web/image?model=res.partner&id=3&field=image_128",
            "http://host:8069/a@b",
            "outside=1 inside=2",
            "tokens: 3",
            "{'token': None, 'x': 3}",
            "authentication failed: x",
            "Login failed for login: admin",
            "a key: 3",
            "route(auth='user')",
            "postgresql://odoo@localhost/db",
            "git clone ssh://git@host/repository.git",
            "see https://host/a, or write to me@host",
            "https://host:8443/@user/x",
            "the option --password is required",
            "--db_password option requires 1 argument",
            "pg_dump --no-password db",
            "psql -w -d db",
            "grep -w word",
            "odoo -w",
            "docker login --password-stdin host",
            "--token-file /run/token",
            "/web/image?code=fr_FR&state=draft",
            "/shop?country_code=BE",
            "process ended with code=3 state=failed",
            "OAuth provider answered with status code: 400",
            "def login(db, login, password):",
            "user, login = self._login(credential, env)",
            "session.authenticate(env, credential)",
            "change_password() takes 2 positional arguments",
            "url_open_authenticate('/website/theme', {'enable': []})",
            "Basic configuration of a basic authentication",
            "a bearer certificate: Bearer authentication.",
        ):
            self.assertEqual(mask_secrets(text), text)

    def test_no_text_makes_it_slow(self):
        for text in (
            "token" * 4000 + "=",
            "a." * 8000 + "=",
            "a://" * 4000 + "@",
            "a://x:y" * 3000 + "@",
            "token='" * 3000,
            "token:" + "\\" * 16000,
            'token:\\"' + "\\" * 16000,
            "bearer " * 3000,
            "authorization" * 2000,
            "https://" * 2000 + "@",
            "https://a:" * 2000 + "@",
            "git+" * 4000 + "https://a@",
            "a.b-c+" * 3000 + "https://@",
            "--" + "password" * 2000,
            "--password " * 1500,
            "--" * 8000 + "token ",
            "odoo" + " -w" * 5000,
            "odoo -w '" + "\\" * 16000,
            "password(" * 1800,
            "a_" * 8000 + "password('",
            "login('" + "x" * 16000,
            "basic " + "A" * 16000,
            "basic AAAA " * 1500,
            "oauth" + "code=" * 3000,
            "oauth" + "%3d" * 3000 + "code",
            "?state={" * 2000,
            "?code=" * 2500,
            'oauth code" : "' * 1000,
        ):
            started = time.perf_counter()
            mask_secrets(text)
            self.assertLess(time.perf_counter() - started, 0.5, text[:10])
