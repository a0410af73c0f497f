"""A person with a browser before two front ends."""

import io
import re

import pytest
from playwright.sync_api import expect, sync_playwright
from toolbox import programs
from toolbox.proxy import Proxy

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture
def front_ends(services, make_database, start_front_end, odoo_folder):
    database = make_database("test_browser", "cloud_platform_exoscale,contacts")
    from toolbox import odoo_server

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
def page():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=programs.require("chromium"), args=ARGUMENTS
        )
        context = browser.new_context(viewport={"width": 1400, "height": 900})
        yield context.new_page()
        browser.close()


@pytest.fixture
def picture(tmp_path):
    from PIL import Image

    content = io.BytesIO()
    Image.effect_noise((640, 640), 80).convert("RGB").save(content, "PNG")
    path = tmp_path / "holiday.png"
    path.write_bytes(content.getvalue())
    return path


def test_attach_in_the_chatter_then_read_on_the_other_front_end(
    page, proxy, front_ends, picture, run_folder
):
    errors = []
    page.on(
        "console",
        lambda message: (
            errors.append(message.text) if message.type == "error" else None
        ),
    )
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{proxy.url}/web/login")
    page.fill("input[name=login]", "admin")
    page.fill("input[name=password]", "admin")
    page.click("button[type=submit]")
    page.wait_for_selector(".o_main_navbar")

    page.goto(f"{proxy.url}/odoo/contacts/3")
    page.wait_for_selector(".o-mail-Chatter")
    with page.expect_file_chooser() as chooser:
        page.click(".o-mail-Chatter-attachFiles")
    chooser.value.set_files(str(picture))
    expect(
        page.locator(".o-mail-AttachmentContainer, .o-mail-AttachmentImage")
    ).not_to_have_count(0)

    # the proxy takes the front ends in turn: stop one, the other must have it all
    front_ends[0].kill()
    page.goto(f"{proxy.url}/odoo/contacts/3")
    page.wait_for_selector(".o-mail-Chatter")
    expect(page.locator(".o_main_navbar")).to_be_visible()
    image = page.locator("img[src*='/web/image/']", has_not=page.locator("nav"))
    sources = image.evaluate_all("images => images.map(image => image.src)")
    attachment = next(
        found[0]
        for found in (re.search(r"/web/image/\d+", source) for source in sources)
        if found
    )
    width = page.evaluate(
        """url => new Promise((resolve, reject) => {
            const image = new Image();
            image.onload = () => resolve(image.naturalWidth);
            image.onerror = () => reject(new Error(url));
            image.src = url;
        })""",
        f"{attachment}?again",
    )
    page.screenshot(path=run_folder / "browser.png")
    assert width == 640
    assert not errors
