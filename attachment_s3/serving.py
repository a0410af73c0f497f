"""Who sends the content of a download: Odoo, the store, or the proxy before Odoo.

Odoo has checked the access rights and made all headers when it hands a download over.
An answer without content (304, 416, HEAD) is always Odoo's own.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from odoo.http import Response, request

from .store import S3Store

PROXY = "proxy"
REDIRECT = "redirect"
X_ACCEL = "x-accel"

#: request header by which nginx says that it knows the location below; without it, as
#: in a request of wkhtmltopdf straight to Odoo, Odoo passes the content on
ACCEL_HEADER = "X-Attachment-S3"
#: internal location in ``deploy/nginx``
ACCEL_LOCATION = "/attachment_s3/content"
#: response headers for nginx, which does not pass them on: the address of the content,
#: the part of it, and headers that must not stay when the store has an error
ACCEL_URL = "X-Attachment-S3-URL"
ACCEL_RANGE = "X-Attachment-S3-Range"
ACCEL_HEADERS = {
    "Cache-Control": "X-Attachment-S3-Cache-Control",
    "Content-Disposition": "X-Attachment-S3-Content-Disposition",
}

#: types of which browsers run nothing in the origin that sends them
INERT_TYPES = frozenset(
    {
        "application/pdf",
        "image/avif",
        "image/bmp",
        "image/gif",
        "image/jpeg",
        "image/png",
        "image/webp",
    }
)


def may_redirect(
    method: str, headers: Mapping[str, str], mimetype: str, as_attachment: bool
) -> bool:
    """Tell whether a client may be sent to the store for a content.

    Odoo sends ``Content-Security-Policy: default-src 'none'`` and
    ``X-Content-Type-Options: nosniff`` with it. The store cannot: a presigned URL sets
    no other headers than those of S3's ``GetObject`` (``response-content-type``…). So:

    - A file to save may be of any type: ``Content-Disposition: attachment`` is part of
      what is signed, and no browser runs what it saves.
    - A file to show must be of a type in :data:`INERT_TYPES`, in which nothing runs
      and which no browser takes for HTML. Not HTML, SVG, XML, nor any unknown type.
    - A browser must say that it navigates (``Sec-Fetch-Mode``, W3C Fetch Metadata).
      What scripts fetch, as pdf.js does and Odoo's own ``download()``, would fail at
      another origin without CORS, and a picture from there spoils a canvas. A client
      that does not say it (a program; a browser over plain http) is sent away only
      for files to save.
    - The whole must be asked for. Players go on to ask the address to which they were
      sent for parts, after it has expired.
    """
    if method != "GET" or "Range" in headers:
        return False
    mode = headers.get("Sec-Fetch-Mode")
    if as_attachment:
        return mode in (None, "navigate")
    shown_alone = mode == "navigate" and headers.get("Sec-Fetch-Dest") == "document"
    return shown_alone and mimetype in INERT_TYPES


@dataclass(frozen=True)
class Serving:
    """How contents of a bucket are sent to clients.

    :param policy: ``proxy``, ``redirect`` or ``x-accel``
    :param store: the bucket, by the name by which the sender reaches it
    :param url_seconds: for which a presigned URL is valid
    """

    policy: str
    store: S3Store
    url_seconds: int

    def hand_over(self, key: str, response: Response) -> Response | None:
        """Let somebody else send the content of a response.

        :param key: of the content
        :param response: with all headers, and the status 200 or 206
        :return: what to answer instead; ``None``: Odoo sends the content itself
        :raises S3Error: when no address can be made
        """
        headers = request.httprequest.headers
        if self.policy == X_ACCEL and headers.get(ACCEL_HEADER) == X_ACCEL:
            return self._to_proxy(key, response)
        if self.policy == REDIRECT:
            disposition = response.headers.get("Content-Disposition", "")
            as_attachment = disposition.startswith("attachment")
            method = request.httprequest.method
            if may_redirect(method, headers, response.mimetype, as_attachment):
                return self._to_store(key, response)
        return None

    def _to_store(self, key, response):
        url = self.store.presigned_url(
            key,
            self.url_seconds,
            ResponseContentType=response.headers["Content-Type"],
            ResponseContentDisposition=response.headers["Content-Disposition"],
            ResponseCacheControl=f"private, max-age={self.url_seconds}",
        )
        # Never kept: a browser would use the address again, for whatever it asks next
        # and after it has expired.
        return Response(
            status=302, headers={"Location": url, "Cache-Control": "no-store, private"}
        )

    def _to_proxy(self, key, response):
        headers = response.headers
        headers["X-Accel-Redirect"] = ACCEL_LOCATION
        headers[ACCEL_URL] = self.store.presigned_url(key, self.url_seconds)
        if content_range := headers.pop("Content-Range", None):
            part = content_range.removeprefix("bytes ").partition("/")[0]
            headers[ACCEL_RANGE] = f"bytes={part}"
        for name, handed in ACCEL_HEADERS.items():
            if value := headers.pop(name, None):
                headers[handed] = value
        headers.pop("Expires", None)  # Cache-Control says the same
        response.status_code = 200
        response.content_length = 0  # nginx would wait for it
        return response
