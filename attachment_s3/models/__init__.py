from . import attachment_s3_transfer  # first: others inherit from it

# isort: split
from . import (
    attachment_s3_collection,
    attachment_s3_garbage,
    attachment_s3_inventory,
    attachment_s3_migration,
    attachment_s3_missing,
    attachment_s3_prefix,
    attachment_s3_sweep,
    ir_attachment,
    ir_config_parameter,
    ir_http,
)
