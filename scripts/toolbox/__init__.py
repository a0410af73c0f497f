"""What the scripts of this folder share."""

import sys

# checked before the other modules, which an older Python cannot even import
if sys.version_info < (3, 10):  # noqa: UP036
    sys.exit("Python %s.%s: expected 3.10 or newer" % sys.version_info[:2])  # noqa: UP031
