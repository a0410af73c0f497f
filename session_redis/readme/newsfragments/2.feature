Keep HTTP sessions in Redis.
