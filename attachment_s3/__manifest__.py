{
    "name": "Attachments in S3",
    "summary": "Keep the contents of attachments in S3 or an S3-compatible store",
    "version": "19.0.1.0.0",
    "author": "Odoo Stateless contributors",
    "license": "LGPL-3",
    "category": "Hidden/Tools",
    "depends": ["base"],
    "external_dependencies": {
        "python": ["boto3>=1.36,<2", "pydantic-settings>=2.6,<3"],
    },
    "data": ["security/ir.model.access.csv", "data/ir_cron.xml"],
    "post_load": "post_load",
}
