Contents of many records are downloaded several at a time.
