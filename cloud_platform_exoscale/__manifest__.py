{
    "name": "Cloud Platform Exoscale",
    "summary": "The cloud platform on Exoscale: attachments in S3, metrics to statsd",
    "version": "19.0.1.0.0",
    "category": "Tools",
    "author": "Odoo Stateless contributors",
    "license": "LGPL-3",
    "depends": ["cloud_platform_generic", "monitoring_statsd"],
    "post_load": "post_load",
}
