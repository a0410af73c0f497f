First version for Odoo 19: metrics of requests, buttons, remote calls and scheduled actions to statsd.
