"""One wheel with all addons, as packages below ``odoo.addons``.

``odoo`` and ``odoo.addons`` are namespaces that Odoo owns, so no ``__init__.py`` of
theirs is shipped.
"""

import re
from ast import literal_eval
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
ADDONS = sorted(path.parent.name for path in ROOT.glob("*/__manifest__.py"))
MANIFESTS = {
    addon: literal_eval((ROOT / addon / "__manifest__.py").read_text())
    for addon in ADDONS
}


def requirements():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def description():
    """Return the README's beginning: an index cannot follow its links and pictures."""
    beginning = (ROOT / "README.md").read_text().partition("\n## ")[0]
    return re.sub(r"!\[[^]]*\]\([^)]*\)\n*", "", beginning)


setup(
    name="odoo-stateless",
    version=max(manifest["version"] for manifest in MANIFESTS.values()),
    description="Odoo 19 addons that keep attachments in S3 and sessions in Redis",
    long_description=description(),
    long_description_content_type="text/markdown",
    author="Odoo Stateless contributors",
    license_expression="LGPL-3.0-only",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    install_requires=[*requirements(), "odoo==19.0.*"],
    extras_require={"anthem": ["anthem>=0.15,<1"]},
    package_dir={f"odoo.addons.{addon}": addon for addon in ADDONS},
    packages=[
        f"odoo.addons.{package}"
        for addon in ADDONS
        for package in [addon, *(f"{addon}.{p}" for p in find_packages(addon))]
    ],
    package_data={f"odoo.addons.{addon}": ["**/*"] for addon in ADDONS},
    exclude_package_data={"": ["__pycache__/*", "*.pyc"]},
    classifiers=[
        "Framework :: Odoo",
        "Framework :: Odoo :: 19.0",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        # those that scripts/versions tests
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Office/Business",
    ],
)
