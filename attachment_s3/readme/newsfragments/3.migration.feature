Attachments move with `odoo s3migrate`, which can tell beforehand what would move, or in
the background; a move tells its progress, can be cancelled and survives a crash.
