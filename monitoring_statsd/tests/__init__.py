from . import (
    test_client,
    test_cron,
    test_metrics,
    test_observers,
    test_prometheus,
    test_requests,
)
