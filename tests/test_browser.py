"""A person with a browser before two front ends."""

import io
import re

import pytest
from playwright.sync_api import expect
from toolbox import odoo_server
from toolbox.proxy import Proxy


@pytest.fixture
def front_ends(services, make_database, start_front_end, odoo_folder):
    database = make_database("test_browser", "cloud_platform_exoscale,contacts")
    result = odoo_server.run_anthem(
        services,
        odoo_folder,
        "odoo.addons.cloud_platform.songs::install_exoscale",
        *("-d", database),
    )
    assert result.returncode == 0, result.stdout
    return [start_front_end(f"browser_{number}", database) for number in (1, 2)]


@pytest.fixture
def proxy(front_ends, run_folder):
    with Proxy(run_folder / "browser_nginx", front_ends) as proxy:
        yield proxy


@pytest.fixture
def picture(tmp_path):
    from PIL import Image

    content = io.BytesIO()
    Image.effect_noise((640, 640), 80).convert("RGB").save(content, "PNG")
    path = tmp_path / "holiday.png"
    path.write_bytes(content.getvalue())
    return path


def collect_errors(page):
    """Return a list that gets the errors of a page's console and scripts."""
    errors = []
    page.on("console", lambda told: told.type == "error" and errors.append(told.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    return errors


def test_attach_in_the_chatter_then_open_on_the_other_front_end(
    page, proxy, front_ends, picture, run_folder
):
    errors = collect_errors(page)
    page.goto(f"{proxy.url}/web/login")
    page.fill("input[name=login]", "admin")
    page.fill("input[name=password]", "admin")
    page.click("button[type=submit]")
    page.wait_for_selector(".o_main_navbar")

    page.goto(f"{proxy.url}/odoo/contacts/3")
    with page.expect_file_chooser() as chooser:
        page.click(".o-mail-Chatter-attachFiles")
    with page.expect_response("**/mail/attachment/upload") as upload:
        chooser.value.set_files(str(picture))
    assert upload.value.ok
    writer = upload.value.headers["x-front-end"]
    expect(page.locator(".o-mail-AttachmentImage")).to_be_visible()

    # from now on there is only the other one
    stopped = next(f for f in front_ends if f.url.endswith(writer))
    stopped.kill()
    # the same login, and nothing in a cache
    state = page.context.storage_state()
    page = page.context.browser.new_context(storage_state=state).new_page()
    later_errors = collect_errors(page)
    answers = []
    page.on("response", lambda answer: answers.append(answer))
    page.goto(f"{proxy.url}/odoo/contacts/3")
    page.click(".o-mail-Chatter-attachFiles")  # opens the box of the attachments
    page.click(".o-mail-AttachmentContainer")
    expect(page.locator(".o-FileViewer img")).to_be_visible()
    page.wait_for_function(
        "document.querySelector('.o-FileViewer img').naturalWidth === 640"
    )
    pictures = [a for a in answers if re.search(r"/web/image/\d+.*holiday", a.url)]
    assert pictures
    for answer in pictures:
        assert answer.headers["x-front-end"].split(", ")[-1] != writer
    assert not errors + later_errors


# Redis away


def cookies_set(answers):
    """Return the paths whose answer sets a cookie."""
    return [a.url for a in answers if "set-cookie" in a.all_headers()]


def test_outage_of_redis_is_a_lost_connection_and_no_logout(
    page, own_redis, make_database, start_front_end, run_folder
):
    database = make_database("test_browser_outage", "session_redis,mail")
    options = {"max_cron_threads": "0"}
    front_end = start_front_end(
        "browser_outage", database, options, **own_redis.env("odoo")
    )
    page.goto(f"{front_end.url}/web/login")
    page.fill("input[name=login]", "admin")
    page.fill("input[name=password]", "admin")
    page.click("button[type=submit]")
    page.wait_for_selector(".o_main_navbar")
    [cookie] = [c for c in page.context.cookies() if c["name"] == "session_id"]

    own_redis.stop()
    answers = []
    page.on("response", lambda answer: answers.append(answer))
    page.click(".o_user_menu button")
    with page.expect_response(lambda answer: answer.status == 503) as refused:
        page.click("[data-menu=preferences], [data-menu=settings]")
    assert refused.value.headers["retry-after"]
    expect(page.locator(".o_notification")).to_contain_text("Connection lost")
    page.screenshot(path=run_folder / "outage.png")
    # also for who opens a page now
    other = page.context.new_page()
    other.on("response", lambda answer: answers.append(answer))
    assert other.goto(f"{front_end.url}/odoo").status == 503
    assert not cookies_set(answers)

    own_redis.start()
    restored = page.locator(".o_notification", has_text="back online")
    expect(restored).to_be_visible(timeout=60_000)
    page.reload()
    page.wait_for_selector(".o_main_navbar")
    [same] = [c for c in page.context.cookies() if c["name"] == "session_id"]
    assert same["value"] == cookie["value"]
