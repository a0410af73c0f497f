"""Settings → Cloud Platform, as an administrator's browser shows it."""

import pytest
from playwright.sync_api import expect
from test_browser import collect_errors, page  # noqa: F401
from toolbox import odoo_server

DATABASE = "test_settings_page"
PAGE = "/odoo/cloud-platform"


@pytest.fixture(scope="module")
def database(services, make_database, odoo_folder):
    make_database(DATABASE)
    result = odoo_server.run_anthem(
        services,
        odoo_folder,
        "odoo.addons.cloud_platform.songs::install_exoscale",
        *("-d", DATABASE),
    )
    assert result.returncode == 0, result.stdout
    return DATABASE


@pytest.fixture
def front_end(database, start_front_end):
    return start_front_end("settings_page", database)


def open_page(page, front_end, language=None):  # noqa: F811
    page.goto(f"{front_end.url}/web/login")
    page.fill("input[name=login]", "admin")
    page.fill("input[name=password]", "admin")
    page.click("button[type=submit]")
    page.wait_for_selector(".o_main_navbar")
    page.goto(front_end.url + PAGE)
    page.wait_for_selector(".o_cloud_platform_page")


def test_page_tells_where_everything_is(page, front_end, run_folder):  # noqa: F811
    errors = collect_errors(page)
    open_page(page, front_end)
    expect(page.locator(".alert-success")).to_contain_text("configuration is right")
    expect(page.locator("h1 + .badge")).to_have_text("prod")
    rows = page.locator("[name=places] tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.first).to_contain_text("Bucket")
    expect(page.locator("[name=sessions] dd").first).to_have_text("1")
    page.click("[name=check_connections]")
    lines = page.locator("[name=connections] li")
    expect(lines.filter(has_text="Redis")).to_contain_text("Redis 7")
    expect(lines.filter(has_text="S3").first).to_be_visible()
    page.screenshot(path=run_folder / "settings_page.png", full_page=True)
    assert errors == []
