"""Download of an attachment through HTTP, in constant memory."""

from werkzeug.exceptions import NotFound
from werkzeug.http import parse_content_range_header, parse_range_header

from odoo.http import Response, Stream, request

from .exceptions import S3ObjectMissing
from .serving import Serving
from .store import Download, S3Store


class S3Stream(Stream):
    """A stream of type ``data`` whose content stays in the object store.

    Who asks for ``data`` or calls ``read()`` gets the content in memory, as of any
    stream; a response passes it on chunk by chunk. Who assigns ``data`` (an image that
    was resized) has an ordinary stream from then on.

    :param store: where the object is
    :param key: of the object
    :param serving: who sends the content to the client
    :param kwargs: attributes of the stream; ``size`` in bytes is required
    """

    type = "data"

    def __init__(self, store: S3Store, key: str, serving: Serving, **kwargs):
        self._content = None
        self.store = store
        self.key = key
        self.serving = serving
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
            wanted = parse_range_header(environ.get("HTTP_RANGE"))
            if (
                not wanted
                or wanted.units != "bytes"
                or len(wanted.ranges) > 1
                or wanted.ranges[0][0] < -size
            ):
                # An invalid range is none (RFC 9110, 14.2; werkzeug answers 416), and
                # the whole is an allowed answer to several (werkzeug knows no
                # multipart/byteranges) and what more last bytes than there are mean
                # (RFC 9110, 14.1.2).
                environ = {k: v for k, v in environ.items() if k != "HTTP_RANGE"}
            response.make_conditional(environ, accept_ranges=True, complete_length=size)
        if request.httprequest.method == "HEAD":
            return response
        if response.status_code not in (200, 206):
            return response
        return self.serving.hand_over(self.key, response) or self._send(response)

    def _send(self, response: Response) -> Response:
        """Pass the content on in a response."""
        start, stop = 0, self.size
        if response.status_code == 206:
            content_range = parse_content_range_header(
                response.headers["Content-Range"]
            )
            start, stop = content_range.start, content_range.stop
        if start == stop:
            return response
        try:
            download = Download(self.store, self.key, start, stop, self.size)
        except S3ObjectMissing as error:
            raise NotFound() from error
        response.response = download
        response.call_on_close(download.close)
        return response
