"""Hide what must not be read in a log."""

import base64
import binascii
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
    "basic ",
    "login(",
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
      | \\+ (?P<{0}>["']) (?: (?! \\{{1,8}} (?P={0}) ) . )*
      | (?! (?:None|null|True|False|true|false) \b ) [^&\s"'<>\#;,)\]}}\\]+
    )
"""
_ASSIGNED = r""" (?: \\* ["'] )? \s{0,3} (?: = | %(?:25){0,2}3d ) \s{0,3}"""
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
# The whole header: a scheme and what it needs (RFC 9110, 11.6.2). Without its name, no
# word that a person writes.
_AUTHORIZATION = re.compile(
    r"""(?ix)
    ( authorization \\* ["']? \s{0,3} [:=,] \s{0,3} b? \\* ["']? )
    [^\r\n"'\\]+
    | ( \b bearer \s{1,3} )
      (?! (?-i: [A-Z]?[a-z]+ ) (?![a-z0-9_~+/=-]) ) [a-z0-9._~+/=-]{12,}
    """
)
# User and password in base 64 (RFC 7617).
_BASIC = re.compile(r"(?i)(\bbasic {1,3})([a-z0-9+/]{4,}={0,2})")
# Options of a command line whose value is the next word, if that is one; those of
# Odoo's have a short form as well. Each may be an item of a list in Python.
_WORD = r"""
    (?! ["']? - | (?: an? | and | argument | for | has | in | is | must | needs? | not
        | of | option | or | requires? | to | was | with ) \b )
    (?: " (?: \\. | [^"\\] )* | ' (?: \\. | [^'\\] )* | [^\s"']+ )
"""
_OPTION = re.compile(
    rf"""(?ixs)
    ( (?<![\w-]) -- (?!no-) [a-z0-9_-]{{0,40}}
        (?: token | secret | passw(?:or)?d | passwd | pwd | (?: api | secret )[_-]?key )
        \s{{1,3}} )
    {_WORD}
    """
)
_ODOO_OPTION = re.compile(
    rf"""(?ixs) ( (?<![\w-]) -w (?: \s{{1,3}} | ["'] , \s{{0,3}} (?=["']) ) ) {_WORD}"""
)
# What a call was given, as Odoo logs it (service/model.py) and as it would be typed.
_CALL = re.compile(
    r"""(?ix)
    ( (?<![a-z0-9_]) (?: [a-z_]{0,32} (?: password | credentials )
        | _?login | _?authenticate ) \( )
    (?= \s{0,3} (?: b? ["'] | \d ) ) [^()]{1,1024}
    """
)
# Names that mean other things as well, unless the text tells of OAuth or the value can
# hardly be anything else: a code is long, Odoo's state is JSON that may hold a token
# (RFC 6749, 4.1.2).
_OAUTH_WORDS = ("oauth", "openid", "oidc")
_PARAMETER_START = r"(?: (?<![a-z0-9_.-]) | (?<=%[0-9a-f][0-9a-f]) )"
_OAUTH = re.compile(
    rf"""(?ix)
    ( {_PARAMETER_START} (?: code(?:_verifier)? | state ) {_ASSIGNED} )
    [^&\s"'<>\#]{{4,}}
    | ( {_PARAMETER_START} code ["'] \s{{0,3}} : \s{{0,3}} ["'] ) [^\s"']{{16,}}
    """
)
_OAUTH_PARAMETER = re.compile(
    r"""(?ix)
    ( (?<=[?&]) code (?:_verifier)? = ) [^&\s"'<>\#]{16,}
    | ( (?<=[?&]) state = ) (?: %7b | \{ ) [^&\s<>\#]{1,}
    """
)
# A password may have `/` and `@`, as S3's keys do: what ends it is the last `@`. A port
# and a path are none. With HTTP a user is a token more often than not; others have
# names, such as that of a role in PostgreSQL.
_PASSWORD = r""" : (?! \d{1,5} (?: [/?\#] | $ ) ) [^\s"'<>]"""
_USERINFO = re.compile(
    rf"""(?ix)
    ( (?<![a-z0-9+.-]) (?: [a-z0-9.-]{{1,16}} \+ )? https?:// )
    [^\s/:@"'?\#<>(),]{{0,256}} (?: {_PASSWORD}{{0,256}} )? (?=@)
    | ( (?<![a-z0-9+.-]) [a-z][a-z0-9+.-]{{0,31}}:// [^\s/:@"'?\#]{{0,256}}
        (?={_PASSWORD}) : )
    [^\s"'<>]{{1,256}} (?=@)
    | ( :// ) [^\s/:@"'?\#]{{20,256}} (?=@)
    """
)


def mask_secrets(text):
    """Replace what a text tells of secrets.

    The values whose name tells a secret (``name=value`` of a URL or a command,
    ``--name value``, ``"name": value`` of JSON, Python or a header), credentials of
    ``Authorization``, the arguments of a login, the code and state of OAuth, the
    password of ``scheme://user:password@host``, and with HTTP its user.

    :param str text:
    :rtype: str
    """
    # Cheap searches, because nearly no record has anything to hide.
    lower = text.lower()
    for hint in _HINTS:
        if hint in lower:
            text = _mask_named(text, lower)
            break
    if "code" in lower or "state=" in lower:
        if any(word in lower for word in _OAUTH_WORDS):
            text = _OAUTH.sub(_masked_rest, text)
        elif "=" in text:
            text = _OAUTH_PARAMETER.sub(_masked_rest, text)
    if "-w" in text and "odoo" in lower:
        text = _ODOO_OPTION.sub(_masked_secret, text)
    if "://" in text and "@" in text:
        text = _USERINFO.sub(_masked_rest, text)
    return text


def _mask_named(text, lower):
    if "authorization" in lower or "bearer" in lower:
        text = _AUTHORIZATION.sub(_masked_rest, text)
    if "basic " in lower:
        text = _BASIC.sub(_masked_basic, text)
    if "--" in text:
        text = _OPTION.sub(_masked_secret, text)
    if "(" in text:
        text = _CALL.sub(_masked_rest, text)
    # what is between a name and its value
    if "=" in text or ":" in text or "," in text or "%" in text:
        text = _SECRET.sub(_masked_secret, text)
    return text


def _masked_secret(match):
    start = match[1]
    value = match[0][len(start) :]
    quote = re.match(r"b?\\*[\"']?", value)[0]
    return f"{start}{quote}{MASK}"


def _masked_rest(match):
    return f"{match[match.lastindex]}{MASK}"


def _masked_basic(match):
    try:
        credentials = base64.b64decode(match[2], validate=True)
    except binascii.Error:
        return match[0]
    return f"{match[1]}{MASK}" if b":" in credentials else match[0]
