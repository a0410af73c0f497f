First version for Odoo 19: the log as JSON, with one access record per request.
