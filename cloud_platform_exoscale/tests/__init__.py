from . import test_exoscale
