from . import (
    common,
    test_checks,
    test_faults,
    test_install,
    test_page,
    test_probes,
    test_startup,
)
