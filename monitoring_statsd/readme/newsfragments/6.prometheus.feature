Metrics for Prometheus at `/metrics` with a token, of all processes and with the names that statsd_exporter makes.
