{
    "name": "Monitoring: statsd",
    "summary": "Send request, RPC and cron metrics to statsd",
    "version": "19.0.1.0.0",
    "author": "Odoo Stateless contributors",
    "license": "LGPL-3",
    "category": "Hidden/Tools",
    "depends": ["base", "web", "server_environment"],
    "external_dependencies": {
        "python": ["statsd", "pydantic-settings"],
    },
    "post_load": "post_load",
}
