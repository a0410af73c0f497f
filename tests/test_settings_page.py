"""Settings → Cloud Platform, as an administrator's browser shows it."""

import re

import pytest
from playwright.sync_api import expect
from test_browser import collect_errors
from toolbox import odoo_server
from toolbox.web_client import WebClient

DATABASE = "test_settings_page"
PAGE = "/odoo/cloud-platform"
#: attachments that a test moves
NUMBER = 2000


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
    return start_front_end("settings_page", database, {"max_cron_threads": "1"})


@pytest.fixture
def attachments_in_database(services, database):
    """Contents that belong in the bucket, enough to see them move."""
    sql = """
        INSERT INTO ir_attachment (name, type, mimetype, db_datas, file_size)
        SELECT 'moved ' || number, 'binary', 'application/octet-stream',
               convert_to(repeat(md5(number::text), 200), 'UTF8'), 6400
          FROM generate_series(1, %s) number
    """
    odoo_server.query(services, database, sql, NUMBER)
    yield
    sql = "DELETE FROM ir_attachment WHERE name LIKE 'moved %%'"
    odoo_server.query(services, database, sql)


def open_page(page, front_end, language=None):
    page.goto(f"{front_end.url}/web/login")
    page.fill("input[name=login]", "admin")
    page.fill("input[name=password]", "admin")
    page.click("button[type=submit]")
    page.wait_for_selector(".o_main_navbar")
    page.goto(front_end.url + PAGE)
    page.wait_for_selector(".o_cloud_platform_page")


def test_page_tells_where_everything_is(page, front_end, screenshot):
    errors = collect_errors(page)
    open_page(page, front_end)
    expect(page.locator(".alert-success")).to_contain_text("configuration is right")
    expect(page.locator("h1 + .badge")).to_have_text("prod")
    rows = page.locator("[name=places] tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.first).to_contain_text("Bucket")
    expect(page.locator("[name=sessions] dd").first).to_have_text(re.compile(r"[1-9]"))
    page.click("[name=check_connections]")
    lines = page.locator("[name=connections] li")
    # each service has some seconds to answer
    redis = lines.filter(has_text="Redis 7")
    expect(redis).to_be_visible(timeout=60_000)
    expect(lines.filter(has_text="S3").first).to_be_visible()
    screenshot("settings_page")
    assert errors == []


def test_move_survives_a_reload_of_page_and_server(
    page, front_end, services, attachments_in_database, screenshot
):
    open_page(page, front_end)
    page.click("[name=move_attachments]")
    progress = page.locator("[name=progress]")
    expect(progress).to_contain_text(f"of {NUMBER:,} moved")
    page.reload()
    expect(progress).to_contain_text("moved")
    screenshot("settings_page_moving")
    front_end.kill()
    front_end.start()
    # else the new server looks for due actions after a minute
    odoo_server.query(services, "postgres", f"NOTIFY cron_trigger, '{DATABASE}'")
    expect(page.locator("[name=last_move]")).to_contain_text("Done", timeout=90_000)
    sql = """
        SELECT count(*), count(store_fname), count(DISTINCT store_fname)
          FROM ir_attachment WHERE name LIKE 'moved %%'
    """
    assert odoo_server.query(services, DATABASE, sql) == [(NUMBER, NUMBER, NUMBER)]


def test_move_is_cancelled(page, front_end, services, attachments_in_database):
    open_page(page, front_end)
    page.click("[name=move_attachments]")
    page.click("[name=cancel_move]")
    expect(page.locator("[name=last_move]")).to_contain_text("Cancelled")
    page.click("[name=move_attachments]")
    expect(page.locator("[name=last_move]")).to_contain_text("Done", timeout=90_000)


@pytest.mark.parametrize(("environment", "badge"), [("prod", 0), ("test", 1)])
def test_badge_names_the_environment(
    page, database, start_front_end, environment, badge
):
    front_end = start_front_end(
        "settings_page",
        database,
        RUNNING_ENV=environment,
        ODOO_CLOUD_PLATFORM_UNSAFE="1",
    )
    open_page(page, front_end)
    badges = page.locator(".o_cloud_platform_environment")
    expect(badges).to_have_count(badge)
    if badge:
        expect(badges).to_have_text(environment)
        # production's configuration is wrong in another environment
        expect(page.locator(".alert-danger")).to_contain_text("AWS_ATTACHMENT_READONLY")


def test_others_do_not_see_the_page(front_end, services, database, odoo_folder):
    script = """
from odoo.tests import new_test_user
for group in ("base.group_user", "base.group_portal"):
    new_test_user(env, group, group)
env.cr.commit()
"""
    result = odoo_server.run_odoo(
        services, odoo_folder, "shell", "-d", database, stdin=script
    )
    assert result.returncode == 0, result.stdout
    for login in ("base.group_user", "base.group_portal"):
        client = WebClient(front_end.url)
        client.login(login, login)
        for method in ("read_page", "check_connections", "move_attachments"):
            with pytest.raises(RuntimeError, match="AccessError"):
                client.call("cloud.platform.page", method)
