from . import (
    test_access,
    test_context,
    test_formatter,
    test_mask,
    test_server,
    test_settings,
)
