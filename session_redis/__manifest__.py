{
    "name": "Sessions in Redis",
    "summary": "Keep HTTP sessions in Redis instead of local files",
    "version": "19.0.1.0.0",
    "author": "Odoo Stateless contributors",
    "license": "LGPL-3",
    "category": "Hidden/Tools",
    "depends": ["base"],
    "external_dependencies": {
        "python": ["pydantic-settings>=2.6,<3", "redis>=8,<9"],
    },
    "post_load": "post_load",
}
