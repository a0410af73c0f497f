from . import (
    test_admin,
    test_deployments,
    test_failure,
    test_import,
    test_record,
    test_requests,
    test_settings,
    test_store,
)
