from . import test_checks, test_settings, test_status
