Attachments are kept in S3 or an S3-compatible object store.
