Optionally, contents that were read are kept in a bounded folder on the local disk.
