The platform `exoscale` for `cloud_platform`: S3 and statsd.
