from . import test_record, test_requests, test_settings, test_store
