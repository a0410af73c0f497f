What a database does not use any more is kept while another database of the same PostgreSQL user refers to it.
