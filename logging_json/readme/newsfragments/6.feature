Templates for Elasticsearch with the type of each field.
