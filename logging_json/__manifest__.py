{
    "name": "Logging: JSON",
    "summary": "Write the server's log as one JSON object per line",
    "version": "19.0.1.0.0",
    "author": "Odoo Stateless contributors",
    "license": "LGPL-3",
    "category": "Hidden/Tools",
    "depends": ["base"],
    "external_dependencies": {
        "python": ["python-json-logger>=3.2.1,<5", "pydantic-settings>=2.6,<3"],
    },
    "post_load": "post_load",
}
