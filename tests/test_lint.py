"""Style, Odoo's conventions, and who may import whom."""

import ast
import re
import subprocess

import pytest
from toolbox import project

#: addon: addons of this repository that it may import (design: each is useful alone)
MAY_IMPORT = {
    "cloud_platform": {"session_redis", "logging_json", "monitoring_status"},
    "cloud_platform_generic": {"cloud_platform", "attachment_s3"},
    "cloud_platform_exoscale": {"cloud_platform", "cloud_platform_generic"},
}


def run(*command):
    result = subprocess.run(
        [str(project.VENV / "bin" / command[0]), *command[1:]],
        cwd=project.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    print(result.stdout)
    return result.returncode


def test_ruff_finds_nothing():
    assert run("ruff", "check", ".") == 0


def test_ruff_would_format_nothing():
    assert run("ruff", "format", "--check", ".") == 0


def test_pylint_odoo_finds_nothing():
    # README.rst is what OCA's bot makes of the readme/ fragments, which we have
    options = ["--rcfile", ".pylintrc", "--disable", "missing-readme"]
    assert run("pylint", *options, *project.addons()) == 0


def test_oca_checks_find_nothing():
    assert run("oca-checks-odoo-module", *project.addons()) == 0


@pytest.mark.parametrize("addon", project.addons())
def test_imports_only_what_it_depends_on(addon):
    imported = set()
    for path in (project.ROOT / addon).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module, *(f"{node.module}.{n.name}" for n in node.names)]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                found = re.match(r"odoo\.addons\.(\w+)", name)
                if found:
                    imported.add(found[1])
    others = (imported & set(project.addons())) - {addon}
    assert others <= MAY_IMPORT.get(addon, set())


@pytest.mark.parametrize("addon", project.addons())
def test_addon_is_complete(addon):
    folder = project.ROOT / addon
    manifest = ast.literal_eval((folder / "__manifest__.py").read_text())
    assert re.fullmatch(r"19\.0\.\d+\.\d+\.\d+", manifest["version"])
    assert manifest["license"] == "LGPL-3"
    assert (folder / "static/description/icon.png").stat().st_size > 500
    assert (folder / "readme/DESCRIPTION.md").read_text().strip()
    assert list((folder / "tests").glob("test_*.py"))
