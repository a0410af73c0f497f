from . import test_configuration, test_ir_attachment, test_serving, test_transactions
