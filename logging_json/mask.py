"""Hide what must not be read in a log."""

import re

MASK = "***"

# Names of parameters whose values open something: Odoo's own (access_token, token,
# csrf_token, session_id...), those of its payment and mail links, and of S3's
# presigned URLs.
_PARAMETER = re.compile(
    r"""(?ix)
    (
        (?: (?<![a-z0-9]) | (?<=%[0-9a-f][0-9a-f]) )
        # bounded, so that no text can make the search slow
        (?: [a-z0-9_.-]{0,32} (?: token|secret|passw(?:or)?d|passwd|pwd|api_?key )
          | session_?id | sid | signature | hash | auth | x-amz-signature
          | x-amz-credential | x-amz-security-token
        )
        \d* (?: = | %3d )
    )
    [^&\s"'<>#;,)\]}]+
    """
)
_USERINFO = re.compile(r"(?i)([a-z][a-z0-9+.-]*://[^\s/:@\"']*:)[^\s/@\"']+(?=@)")


def mask_secrets(text):
    """Replace secrets in the URLs of a text.

    Values of ``name=value`` pairs whose name tells a secret, and the password of
    ``scheme://user:password@host``.

    :param str text:
    :rtype: str
    """
    # Two cheap searches, because nearly no record has anything to hide.
    if "=" in text or "%3" in text:
        text = _PARAMETER.sub(rf"\1{MASK}", text)
    if "://" in text and "@" in text:
        text = _USERINFO.sub(rf"\1{MASK}", text)
    return text
