{
    "name": "Cloud Platform",
    "summary": "Refuses an environment that could damage another one's data",
    "version": "19.0.1.0.0",
    "category": "Tools",
    "author": "Odoo Stateless contributors",
    "license": "LGPL-3",
    "depends": [
        "session_redis",
        "logging_json",
        "monitoring_status",
        "server_environment",
    ],
    "external_dependencies": {"python": ["pydantic-settings>=2.6,<3", "redis>=8,<9"]},
    "data": ["views/cloud_platform_page.xml"],
    "assets": {
        "web.assets_backend": ["cloud_platform/static/src/**/*"],
    },
    "post_load": "post_load",
}
