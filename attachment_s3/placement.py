"""Which contents are too small to be worth a request: they stay in the database."""

import json
from functools import lru_cache
from types import MappingProxyType

from .exceptions import S3ConfigurationError

#: system parameter: JSON, beginning of a mimetype → most bytes (0: no limit)
PLACEMENT = "ir_attachment.storage.force.database"
#: a list view must not make eighty requests, nor a page one for each of its bundles
DEFAULT_RULES = MappingProxyType(
    {"image/": 50 * 1024, "application/javascript": 0, "text/css": 0}
)
EXPECTED = 'expected JSON such as {"image/": 51200, "text/css": 0}'


@lru_cache(maxsize=16)
def parse_rules(value: str | None) -> MappingProxyType[str, int]:
    """Parse the system parameter.

    :return: beginning of a mimetype → most bytes, 0 for no limit; the defaults when
        there is no value
    :raises S3ConfigurationError: for a bad value, with the reason
    """
    if not value:
        return DEFAULT_RULES
    try:
        rules = json.loads(value)
    except ValueError as error:
        raise _wrong(value, f"is no JSON ({error})") from None
    if not isinstance(rules, dict):
        raise _wrong(value, "is no JSON object")
    for mimetype, size in rules.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 0:
            raise _wrong(value, f"has {size!r} for {mimetype!r}, not a number of bytes")
    return MappingProxyType(rules)


def is_kept(rules: MappingProxyType[str, int], mimetype: str | None, size: int) -> bool:
    """Tell whether a content stays in the database: the longest beginning decides."""
    best = max(
        (start for start in rules if (mimetype or "").startswith(start)),
        key=len,
        default=None,
    )
    return best is not None and (not rules[best] or size <= rules[best])


def _wrong(value, reason):
    return S3ConfigurationError(f"{PLACEMENT} is {value!r}, which {reason}: {EXPECTED}")
