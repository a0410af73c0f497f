"""Which addon provides a kind of platform."""

#: those that are not named cloud_platform_<kind>
_ADDONS = {"s3": "cloud_platform_generic"}


def addon_of(kind: str) -> str:
    """Return the name of the addon that provides a kind; it may not be installed."""
    return _ADDONS.get(kind, f"cloud_platform_{kind}")
