from . import (
    attachment_s3_collection,
    attachment_s3_garbage,
    attachment_s3_inventory,
    attachment_s3_migration,
    attachment_s3_missing,
    attachment_s3_prefix,
    ir_attachment,
    ir_config_parameter,
    ir_http,
)
