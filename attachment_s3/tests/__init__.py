from . import (
    test_configuration,
    test_ir_attachment,
    test_migration,
    test_serving,
    test_transactions,
)
