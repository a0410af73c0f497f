"""Texts that can be translated are in the .pot files, and translated in the .po."""

import re

import polib
import pytest
from playwright.sync_api import expect
from test_addons import MODULES
from test_browser import collect_errors
from test_settings_page import PAGE, open_page
from toolbox import odoo_server, project
from toolbox.web_client import WebClient

#: addons whose texts the settings page shows
TRANSLATED = (
    "attachment_s3",
    "cloud_platform",
    "cloud_platform_exoscale",
    "cloud_platform_generic",
)
LANGUAGES = {"fr": "fr_FR", "de": "de_DE"}
#: what a translation keeps: %s, %(name)r, <client>, names like RUNNING_ENV=prod
KEPT = re.compile(r"%(?:\(\w+\))?[a-z]|<\w+>|[\w.]*_[\w.]+(?:=\w+)?|\w+://")
#: what the settings page shows in each language, and what it shows in English
SHOWN = {
    "fr": {
        "h1": ("Plateforme cloud", "Cloud Platform"),
        "section > h2": ("Pièces jointes", "Attachments"),
        ".alert-danger": ("n'a pas de valeur", "is not set"),
        "[name=places]": ("Emplacement", "Place"),
        "[name=move_attachments]": ("Déplacer les pièces jointes", "Move attachments"),
        "[name=check_connections]": ("Vérifier les connexions", "Check connections"),
    },
    "de": {
        "h1": ("Cloud-Plattform", "Cloud Platform"),
        "section > h2": ("Anhänge", "Attachments"),
        ".alert-danger": ("ist nicht gesetzt", "is not set"),
        "[name=places]": ("Anzahl", "Number"),
        "[name=move_attachments]": ("Anhänge verschieben", "Move attachments"),
        "[name=check_connections]": ("Verbindungen prüfen", "Check connections"),
    },
}


@pytest.fixture(scope="module")
def database(make_database):
    return make_database("test_translations", MODULES)


@pytest.fixture
def export(database, services, odoo_folder):
    """Return a function that returns an addon's texts as Odoo's command finds them.

    An addon at a time: several in one export share their common texts.
    """

    def export(addon):
        path = odoo_folder / f"{addon}.pot"
        result = odoo_server.run_odoo(
            services,
            odoo_folder,
            *("i18n", "export", addon, "-d", database, "-l", "pot", "-o", str(path)),
        )
        assert result.returncode == 0, result.stdout
        return messages(path)

    return export


@pytest.fixture(scope="module")
def languages(database, services, odoo_folder):
    result = odoo_server.run_odoo(
        services,
        odoo_folder,
        *("i18n", "loadlang", "-d", database, "-l", *LANGUAGES),
    )
    assert result.returncode == 0, result.stdout


def messages(path):
    return {entry.msgid for entry in polib.pofile(str(path))}


def source(addon):
    return project.ROOT / addon / "i18n" / f"{addon}.pot"


@pytest.mark.parametrize("addon", project.addons())
def test_source_is_fresh(addon, export):
    path = source(addon)
    recorded = messages(path) if path.exists() else set()
    hint = f"write {path.name} anew: scripts/odoo i18n export {addon} -d <database>"
    assert recorded == export(addon), hint


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("addon", TRANSLATED)
def test_every_text_is_translated(addon, language):
    translations = polib.pofile(source(addon).with_name(f"{language}.po"))
    assert translations.metadata["Language"] == language
    assert {entry.msgid for entry in translations} == messages(source(addon))
    for entry in translations:
        # neither empty nor fuzzy nor obsolete
        assert entry.translated(), entry.msgid
        assert kept(entry.msgstr) == kept(entry.msgid), entry.msgid
        assert margins(entry.msgstr) == margins(entry.msgid), entry.msgid


def kept(text):
    return sorted(KEPT.findall(text))


def margins(text):
    return re.match(r"\s*", text)[0], re.search(r"\s*$", text)[0]


def test_settings_page_speaks_the_language(page, database, languages, start_front_end):
    # nothing is configured, so that the page shows faults, which are texts too
    front_end = start_front_end(
        "translations", database, ODOO_CLOUD_PLATFORM_UNSAFE="1"
    )
    errors = collect_errors(page)
    administrator = WebClient(front_end.url)
    user = administrator.login()["uid"]
    open_page(page, front_end)
    for language, code in LANGUAGES.items():
        administrator.call("res.users", "write", [user], {"lang": code})
        page.goto(front_end.url + PAGE)
        shown = page.locator(".o_cloud_platform_page")
        for selector, (translation, english) in SHOWN[language].items():
            element = shown.locator(selector).first
            expect(element).to_contain_text(translation)
            expect(element).not_to_contain_text(english)
    assert errors == []
