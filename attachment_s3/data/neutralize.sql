-- a neutralized copy owns nothing of what production stored
DELETE FROM attachment_s3_garbage;
DELETE FROM attachment_s3_prefix;
