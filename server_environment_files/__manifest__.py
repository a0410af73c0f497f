{
    "name": "Server environment files",
    "summary": "Configuration per running environment: prod, integration, test, dev",
    "version": "19.0.1.0.0",
    "category": "Tools",
    "author": "Odoo Stateless contributors",
    "license": "LGPL-3",
    "depends": ["server_environment"],
}
