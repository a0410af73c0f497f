-- a neutralized copy owns nothing of what production stored
DELETE FROM attachment_s3_garbage;
DELETE FROM attachment_s3_prefix;
-- nor does it go on with a move of production's
DELETE FROM attachment_s3_migration WHERE state IN ('waiting', 'running');
