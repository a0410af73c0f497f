"""The README's table of environment variables, from the addons' settings.

``python -m toolbox.variables`` (in ``scripts/``) writes it; a test fails when it is
stale.
"""

import importlib
import inspect
import re

from .project import ROOT, addons, say

README = ROOT / "README.md"
START, END = "<!-- variables -->", "<!-- end of variables -->"


def settings_classes(addon: str) -> list[type]:
    """Return the settings classes that an addon defines, in their order."""
    from pydantic_settings import BaseSettings

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


def tables() -> str:
    """Return one Markdown table per addon."""
    import odoo.addons

    if str(ROOT) not in odoo.addons.__path__:
        odoo.addons.__path__.append(str(ROOT))
    parts, seen = [], set()
    for addon in addons():
        rows = []
        for cls in settings_classes(addon):
            for field in cls.model_fields.values():
                variable = str(field.validation_alias or "")
                if variable in seen or not re.fullmatch(r"[A-Z][A-Z0-9_]+", variable):
                    continue
                seen.add(variable)
                description = (field.description or "").replace("|", "\\|")
                rows.append(f"| `{variable}` | {_default(field)} | {description} |")
        if rows:
            head = "| variable | default | meaning |\n| --- | --- | --- |"
            parts.append(f"### {addon}\n\n{head}\n" + "\n".join(rows))
    return "\n\n".join(parts)


def updated_readme() -> str:
    """Return the README's text with the tables as they must be."""
    before, _start, rest = README.read_text().partition(START)
    _old, _end, after = rest.partition(END)
    return f"{before}{START}\n\n{tables()}\n\n{END}{after}"


def _default(field) -> str:
    default = field.get_default(call_default_factory=True)
    if default is None or field.is_required():
        return "–"
    if isinstance(default, bool):
        return f"`{int(default)}`"
    return f"`{default}`" if str(default) else "–"


if __name__ == "__main__":
    README.write_text(updated_readme())
    say(f"{README.name} is up to date")
