"""Download of an attachment through HTTP, in constant memory."""

from werkzeug.exceptions import NotFound
from werkzeug.http import parse_content_range_header

from odoo.http import Response, Stream, request

from .exceptions import S3ObjectMissing
from .store import Download, S3Store


class S3Stream(Stream):
    """A stream of type ``data`` whose content stays in the object store.

    Who asks for ``data`` or calls ``read()`` gets the content in memory, as of any
    stream; a response passes it on chunk by chunk. Who assigns ``data`` (an image that
    was resized) has an ordinary stream from then on.

    :param store: where the object is
    :param key: of the object
    :param kwargs: attributes of the stream; ``size`` in bytes is required
    """

    type = "data"

    def __init__(self, store: S3Store, key: str, **kwargs):
        self._content = None
        self.store = store
        self.key = key
        super().__init__(**kwargs)

    @property
    def data(self):
        if self._content is None:
            try:
                self._content = self.store.get(self.key)
            except S3ObjectMissing as error:
                raise NotFound() from error
        return self._content

    @data.setter
    def data(self, content):
        self._content = content

    def get_response(
        self,
        as_attachment=None,
        immutable=None,
        content_security_policy="default-src 'none'",
        **send_file_kwargs,
    ):
        """Create the response; see :meth:`odoo.http.Stream.get_response`.

        :raises RequestedRangeNotSatisfiable: for a range beyond the content
        :raises NotFound: when the object is missing
        :raises S3Error: when the store cannot be used
        """
        if self._content is not None:
            return super().get_response(
                as_attachment, immutable, content_security_policy, **send_file_kwargs
            )
        # Odoo makes all headers for an empty content, then the real one is put in
        conditional = send_file_kwargs.pop("conditional", self.conditional)
        size, content = self.size, self._content
        self._content = b""
        try:
            response = super().get_response(
                as_attachment,
                immutable,
                content_security_policy,
                conditional=False,
                **send_file_kwargs,
            )
        finally:
            self._content = content
        response.content_length = size
        response.headers["Accept-Ranges"] = "bytes"
        environ = request.httprequest.environ
        if conditional:
            if "," in environ.get("HTTP_RANGE", ""):
                # werkzeug knows no multipart/byteranges; the whole is an answer that
                # RFC 9110, 14.2 allows
                environ = {k: v for k, v in environ.items() if k != "HTTP_RANGE"}
            response.make_conditional(environ, accept_ranges=True, complete_length=size)
        if request.httprequest.method != "HEAD" and response.status_code in (200, 206):
            self._attach_content(response)
        return response

    def _attach_content(self, response: Response):
        """Open the download that a response passes on."""
        start, stop = 0, self.size
        if response.status_code == 206:
            content_range = parse_content_range_header(
                response.headers["Content-Range"]
            )
            start, stop = content_range.start, content_range.stop
        if start == stop:
            return
        try:
            download = Download(self.store, self.key, start, stop, self.size)
        except S3ObjectMissing as error:
            raise NotFound() from error
        response.response = download
        response.call_on_close(download.close)
