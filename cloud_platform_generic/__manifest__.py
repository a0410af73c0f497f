{
    "name": "Cloud Platform Generic",
    "summary": "The cloud platform on any S3 store: AWS, MinIO, Ceph",
    "version": "19.0.1.0.0",
    "category": "Tools",
    "author": "Odoo Stateless contributors",
    "license": "LGPL-3",
    "depends": ["cloud_platform", "attachment_s3"],
    "post_load": "post_load",
}
