Mapping, alert rules and dashboards for Prometheus and Grafana; the label of scheduled actions is `cron`.
