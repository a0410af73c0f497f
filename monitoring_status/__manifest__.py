{
    "name": "Monitoring: status",
    "summary": "Answer live and ready probes without creating a session",
    "version": "19.0.1.0.0",
    "author": "Odoo Stateless contributors",
    "license": "LGPL-3",
    "category": "Hidden/Tools",
    "depends": ["base", "web"],
    "external_dependencies": {
        "python": ["pydantic-settings>=2.6,<3"],
    },
    "post_load": "post_load",
}
