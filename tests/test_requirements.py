"""What the addons import is what the wheel and the manifests require."""

import ast
import importlib.metadata
import sys

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from toolbox import project, versions

#: Libraries that another one brings, is made of and shows in its own interface: a
#: second range could only contradict the first.
BROUGHT_BY = {"botocore": "boto3", "pydantic": "pydantic-settings"}


def requirements(lines):
    """Return ranges of versions by the libraries' names at PyPI."""
    lines = (line.partition("#")[0].strip() for line in lines)
    found = [Requirement(line) for line in lines if line]
    return {canonicalize_name(one.name): one.specifier for one in found}


def required(path):
    return requirements((project.ROOT / path).read_text().splitlines())


OWN = {k: v for k, v in required("requirements.txt").items() if "odoo" not in k}
OF_ODOO = set(required("scripts/requirements-odoo.txt")) | {"psycopg2"}


def imported(addon):
    """Return the libraries that an addon imports, by their names at PyPI."""
    packages = importlib.metadata.packages_distributions()
    found = set()
    for path in (project.ROOT / addon).rglob("*.py"):
        if "tests" in path.relative_to(project.ROOT).parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules = [node.module]
            for module in modules:
                top = module.partition(".")[0]
                if top != "odoo" and top not in sys.stdlib_module_names:
                    found |= {canonicalize_name(d) for d in packages.get(top, [top])}
    return {BROUGHT_BY.get(name, name) for name in found}


def declared(addon):
    """Return the libraries of an addon's manifest."""
    manifest = (project.ROOT / addon / "__manifest__.py").read_text()
    found = ast.literal_eval(manifest).get("external_dependencies", {})
    return requirements(found.get("python", []))


@pytest.mark.parametrize("addon", project.addons())
def test_manifest_declares_what_the_addon_imports(addon):
    assert imported(addon) - OF_ODOO == set(declared(addon))


@pytest.mark.parametrize("addon", project.addons())
def test_manifest_has_the_ranges_of_the_wheel(addon):
    """So Odoo refuses what pip would, in an image that was built without it."""
    assert declared(addon).items() <= OWN.items()


def test_wheel_requires_nothing_else():
    assert set(OWN) == set().union(*map(declared, project.addons()))


def test_ranges_begin_with_a_version_that_can_be_tested():
    """``scripts/versions`` takes the lower bounds."""
    lowest = {line.partition("==")[0] for line in versions.lowest_versions()}
    assert set(map(canonicalize_name, lowest)) == set(OWN)
