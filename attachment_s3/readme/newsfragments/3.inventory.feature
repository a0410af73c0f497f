`odoo s3inventory` compares the bucket with the database and deletes orphans.
