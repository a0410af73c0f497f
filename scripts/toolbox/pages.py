"""A page per addon in docs/addons, from its readme fragments and its settings.

``python -m toolbox.pages`` (in ``scripts/``) writes them; a test fails when one is
stale.
"""

import ast
import importlib
import inspect
import re
from pathlib import Path

from .project import ROOT, addons, say

PAGES = ROOT / "docs" / "addons"
VARIABLES = "Environment variables"
#: heading of each fragment, in the order of a page; the table of variables comes after
#: the configuration
FRAGMENTS = {"DESCRIPTION": None, "CONFIGURE": "Configuration", "USAGE": "Usage"}


def page_path(addon: str) -> Path:
    return PAGES / f"{addon}.md"


def page(addon: str) -> str:
    """Return the text of an addon's page."""
    folder = ROOT / addon
    manifest = ast.literal_eval((folder / "__manifest__.py").read_text())
    own = [name for name in manifest["depends"] if (ROOT / name).is_dir()]
    depends = ", ".join(
        f"[`{name}`]({name}.md)" if name in own else f"`{name}`"
        for name in manifest["depends"]
    )
    parts = [
        f"<!-- made by scripts/toolbox/pages.py from {addon}/readme and settings.py: "
        "edit these -->",
        f"# {addon}",
        f"{manifest['summary']}.",
        f"Depends on {depends}. [All addons](../../README.md#the-addons)",
    ]
    for fragment, title in FRAGMENTS.items():
        path = folder / "readme" / f"{fragment}.md"
        if path.exists():
            text = path.read_text().strip()
            parts.append(f"## {title}\n\n{_lower(text)}" if title else text)
        if fragment == "CONFIGURE" and (rows := variables(addon)):
            head = "| variable | default | meaning |\n| --- | --- | --- |"
            parts.append("\n".join([f"## {VARIABLES}\n", head, *rows]))
    return "\n\n".join(parts) + "\n"


def variables(addon: str) -> list[str]:
    """Return a row of the table for each variable that an addon reads."""
    rows = []
    for cls in settings_classes(addon):
        for field in cls.model_fields.values():
            variable = str(field.validation_alias or "")
            if not re.fullmatch(r"[A-Z][A-Z0-9_]+", variable):
                continue
            description = (field.description or "").replace("|", "\\|")
            description = re.sub(r"<(\w+)>", r"&lt;\1&gt;", description)
            row = f"| `{variable}` | {_default(field)} | {description} |"
            if row not in rows:  # of a base class
                rows.append(row)
    return rows


def settings_classes(addon: str) -> list[type]:
    """Return the settings classes that an addon defines, in their order."""
    from pydantic_settings import BaseSettings

    import odoo.addons

    if str(ROOT) not in odoo.addons.__path__:
        odoo.addons.__path__.append(str(ROOT))
    if not (ROOT / addon / "settings.py").exists():
        return []
    name = f"odoo.addons.{addon}.settings"
    module = importlib.import_module(name)
    return [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, BaseSettings)
        and value.__module__ == name
    ]


def _lower(text: str) -> str:
    """Lower the headings of a fragment, outside of code, by one level."""
    parts = re.split(r"(^```.*?^```)", text, flags=re.M | re.S)
    parts[::2] = [re.sub(r"^(#+ )", r"#\1", part, flags=re.M) for part in parts[::2]]
    return "".join(parts)


def _default(field) -> str:
    default = field.get_default(call_default_factory=True)
    if default is None or field.is_required():
        return "–"
    if isinstance(default, bool):
        return f"`{int(default)}`"
    return f"`{default}`" if str(default) else "–"


if __name__ == "__main__":
    PAGES.mkdir(parents=True, exist_ok=True)
    for path in PAGES.glob("*.md"):
        if path.stem not in addons():
            path.unlink()
    for addon in addons():
        page_path(addon).write_text(page(addon))
    say(f"{PAGES.relative_to(ROOT)} is up to date")
