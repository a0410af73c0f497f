"""The PDF of a report: wkhtmltopdf asks the front end for pictures as a user does."""

import io
import json
import re

import pytest
import redis
from PIL import Image, ImageStat
from PyPDF2 import PdfReader
from toolbox import odoo_server
from toolbox.web_client import WebClient

SIZE = (400, 400)
COLOURS = ((200, 40, 40), (40, 40, 200))  # left and right half
#: makes a report with a picture that only who is logged in may see
FILL = """
import io, json
from PIL import Image
env["ir.config_parameter"].set_param("ir_attachment.location", "s3://")
picture = Image.effect_noise(SIZE, 40).convert("RGB")
for half, colour in enumerate(COLOURS):
    box = (half * 200, 0, half * 200 + 200, 400)
    plain = Image.new("RGB", (200, 400), colour)
    picture.paste(Image.blend(picture.crop(box), plain, 0.8), box)
content = io.BytesIO()
picture.save(content, "PNG")
partner = env["res.partner"].create({"name": "Report"})
attachment = env["ir.attachment"].create({
    "name": "picture.png", "raw": content.getvalue(),
    "res_model": "res.partner", "res_id": partner.id})
assert attachment.store_fname.startswith("s3://"), attachment.store_fname
env["ir.ui.view"].create({
    "name": "report", "key": "stateless.report", "type": "qweb", "arch": f'''
    <t t-name="stateless.report"><t t-call="web.html_container">
      <t t-foreach="docs" t-as="o"><t t-call="web.basic_layout">
        <div class="page"><img src="/web/image/{attachment.id}"/></div>
      </t></t>
    </t></t>'''})
env["ir.actions.report"].create({
    "name": "Report", "model": "res.partner", "report_type": "qweb-pdf",
    "report_name": "stateless.report", "attachment": "f'report-{object.id}.pdf'",
    "attachment_use": True})
env.cr.commit()
print("MADE", json.dumps(partner.id))
"""


@pytest.fixture(scope="module")
def partner(services, make_database, odoo_folder):
    """Database and identifier of the record that is reported."""
    database = make_database("test_reports")
    script = FILL.replace("SIZE", str(SIZE)).replace("COLOURS", str(COLOURS))
    shell = ("shell", "-d", database, "--no-http")
    result = odoo_server.run_odoo(services, odoo_folder, *shell, stdin=script)
    made = re.search(r"^MADE (\d+)$", result.stdout, re.M)
    assert made, result.stdout
    return database, json.loads(made[1])


@pytest.mark.parametrize("serving", ["proxy", "redirect"])
def test_report_has_pictures_of_s3_and_is_kept_there(
    serving, partner, services, run_folder
):
    database, partner_id = partner
    folder = run_folder / f"reports_{serving}"
    with odoo_server.OdooServer(
        services,
        folder,
        database,
        {"workers": "2", "max_cron_threads": "0"},
        AWS_ATTACHMENT_SERVING=serving,
        QT_QPA_PLATFORM="offscreen",  # wkhtmltopdf as Debian has it wants a display
    ) as server:
        user = WebClient(server.url)
        user.login()
        user.call("ir.config_parameter", "set_param", "report.url", server.url)
        name = f"report-{partner_id}.pdf"
        found = user.call("ir.attachment", "search", [("name", "=", name)])
        user.call("ir.attachment", "unlink", found)
        before = session_keys(services)
        path = f"/report/pdf/stateless.report/{partner_id}"
        content = user.get(path).content

        images = PdfReader(io.BytesIO(content)).pages[0].images
        [picture] = [Image.open(io.BytesIO(image.data)) for image in images]
        assert picture.size == SIZE
        for half, colour in enumerate(COLOURS):
            part = picture.convert("RGB").crop((half * 200, 0, half * 200 + 200, 400))
            mean = ImageStat.Stat(part).mean
            assert all(abs(a - b) < 40 for a, b in zip(mean, colour, strict=True))

        sql = "SELECT store_fname FROM ir_attachment WHERE name = %s"
        [(place,)] = odoo_server.query(services, database, sql, name)
        assert place.startswith("s3://")
        assert user.get(path).content == content  # made once, then read
        # the session that wkhtmltopdf had
        assert session_keys(services) == before
    assert "network error" not in server.log.read_text()
    assert not list(server.data_dir.glob("sessions/*/*"))
    assert not list(server.data_dir.glob("filestore/*/*/*"))


def session_keys(services):
    env = services.env
    with redis.Redis(
        port=int(env["ODOO_SESSION_REDIS_PORT"]),
        password=env["ODOO_SESSION_REDIS_PASSWORD"],
    ) as client:
        return set(client.scan_iter("session:*"))
