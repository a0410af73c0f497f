import configparser
from pathlib import Path

from odoo.addons import server_environment_files
from odoo.addons.server_environment import server_env
from odoo.tests import BaseCase, tagged

FOLDER = Path(server_environment_files.__file__).parent


@tagged("post_install", "-at_install")
class TestServerEnvironmentFiles(BaseCase):
    def test_server_environment_finds_this_addon(self):
        self.assertEqual(Path(server_env._dir), FOLDER)

    def test_every_environment_has_a_readable_file(self):
        for name in ("default", "prod", "integration", "test", "dev"):
            with self.subTest(environment=name):
                files = server_env._listconf(str(FOLDER / name))
                self.assertTrue(files)
                parser = configparser.ConfigParser()
                self.assertEqual(parser.read(files), files)
