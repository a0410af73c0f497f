What all S3 stores have in common comes from `cloud_platform_generic`.
