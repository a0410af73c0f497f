First version for Odoo 19: live, ready and status probes without a session.
