A JSON Schema of a record for each format.
