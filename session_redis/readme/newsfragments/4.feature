Move existing sessions, support Sentinel, Cluster, TLS and access control lists, and add `odoo redissessions`.
