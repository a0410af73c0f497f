from . import test_checks, test_outage, test_settings, test_status
