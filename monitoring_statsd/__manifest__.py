{
    "name": "Monitoring: statsd",
    "summary": "Request, RPC and cron metrics for statsd and Prometheus",
    "version": "19.0.1.0.0",
    "author": "Odoo Stateless contributors",
    "license": "LGPL-3",
    "category": "Hidden/Tools",
    "depends": ["base", "web", "server_environment"],
    "external_dependencies": {
        "python": [
            "prometheus-client>=0.20,<1",
            "statsd>=4,<5",
            "pydantic-settings>=2.6,<3",
        ],
    },
    "post_load": "post_load",
}
