Attachments move with `odoo s3migrate`, which can tell beforehand what would move, or in
the background; a move tells its progress, can be cancelled and survives a crash.
What modules write to the local disk during an upgrade is taken to the bucket before
requests are served, and base reads contents in the bucket when `attachment_s3` is among
the server-wide modules.
