"""Hide what must not be read in a log."""

import re

MASK = "***"

# Parts of the names below, and all that is looked for in nearly all texts.
_HINTS = (
    "token",
    "secret",
    "passw",
    "pwd",
    "key",
    "sid",
    "session",
    "signature",
    "credential",
    "hash",
    "auth",
    "bearer",
)

# Ends of names of values that open something: Odoo's own (access_token, token,
# csrf_token, session_id...), those of its payment and mail links, of S3's requests and
# presigned URLs.
_NAME = r"""
    (?: token | secret | secret[_.-]?(?:access[_.-]?)?key | passw(?:or)?d | passwd | pwd
      | api[_.-]?key | private[_.-]?key | session_?id | signature | amz-credential
      | (?: (?<![a-z0-9]) | (?<=%[0-9a-f][0-9a-f]) ) sid
    )
    \d{0,9}
"""
# ... that mean other things as well, unless they are parameters of a URL
_PARAMETER_NAME = (
    r"(?: (?<![a-z0-9]) | (?<=%[0-9a-f][0-9a-f]) ) (?: hash | auth ) \d{0,9}"
)

# Quoted with an end, that a cut text may have lost, or a word. Quotes may be escaped,
# where JSON is in JSON.
_VALUE = r"""
    (?: b? " (?: \\. | [^"\\] )*
      | b? ' (?: \\. | [^'\\] )*
      | \\+ (?P<{0}>["']) (?: (?! \\+ (?P={0}) ) . )*
      | (?! (?:None|null|True|False|true|false) \b ) [^&\s"'<>\#;,)\]}}\\]+
    )
"""
_ASSIGNED = r"\s{0,3} (?: = | %(?:25){0,2}3d ) \s{0,3}"
# 'name': value · name: value · ('name', value)
_TOLD = r"""
    (?: \\* ["']? \s{0,3} : \s{0,3} | \\* ["'] \s{0,3} , \s{0,3} (?= b?["'] ) )
"""

_SECRET = re.compile(
    rf"""(?ixs)
    (
        {_NAME} (?: {_ASSIGNED} | {_TOLD} ) | {_PARAMETER_NAME} (?: = | %3d ) (?!["'])
    )
    {_VALUE.format("quote")}
    """
)
# The whole header: a scheme and what it needs (RFC 9110, 11.6.2).
_AUTHORIZATION = re.compile(
    r"""(?ix)
    ( authorization \\* ["']? \s{0,3} [:=,] \s{0,3} b? \\* ["']? )
    [^\r\n"'\\]+
    | ( \b bearer \s{1,3} ) [a-z0-9._~+/=-]{12,}
    """
)
# A password may have `/` and `@`, as S3's keys do: what ends it is the last `@`. A port
# and a path are none.
_USERINFO = re.compile(
    r"""(?ix)
    ( (?<![a-z0-9+.-]) [a-z][a-z0-9+.-]{0,31}:// [^\s/:@"'?\#]{0,256} : )
    (?! \d{1,5} (?: [/?\#] | $ ) ) [^\s"'<>]{1,256} (?=@)
    | ( :// ) [^\s/:@"'?\#]{20,256} (?=@)
    """
)


def mask_secrets(text):
    """Replace what a text tells of secrets.

    The values whose name tells a secret (``name=value`` of a URL or a command,
    ``"name": value`` of JSON, Python or a header), credentials of ``Authorization``,
    and the password of ``scheme://user:password@host``.

    :param str text:
    :rtype: str
    """
    # Cheap searches, because nearly no record has anything to hide.
    lower = text.lower()
    for hint in _HINTS:
        if hint in lower:
            if "authorization" in lower or "bearer" in lower:
                text = _AUTHORIZATION.sub(_masked_rest, text)
            # what is between a name and its value
            if "=" in text or ":" in text or "," in text or "%" in text:
                text = _SECRET.sub(_masked_secret, text)
            break
    if "://" in text and "@" in text:
        text = _USERINFO.sub(_masked_rest, text)
    return text


def _masked_secret(match):
    start = match[1]
    value = match[0][len(start) :]
    quote = re.match(r"b?\\*[\"']?", value)[0]
    return f"{start}{quote}{MASK}"


def _masked_rest(match):
    return f"{match[1] or match[2]}{MASK}"
