from . import (
    test_cache,
    test_configuration,
    test_faults,
    test_inventory,
    test_ir_attachment,
    test_migration,
    test_odoo,
    test_prefetch,
    test_serving,
    test_store,
    test_tls,
    test_transactions,
)
