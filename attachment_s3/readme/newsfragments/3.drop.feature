With `AWS_ATTACHMENT_DELETE_ON_DROP` the drop of a database deletes what it stored in the bucket.
