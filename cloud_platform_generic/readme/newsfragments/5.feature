The platform `s3` for `cloud_platform`, of any S3 store, and what other S3 providers build on.
