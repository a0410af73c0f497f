from odoo import models


class MonitoringStatus(models.AbstractModel):
    """The parts without which this server cannot do its work."""

    _name = "monitoring.status"
    _description = "Parts of the server to watch"

    @classmethod
    def _parts(cls):
        """Return the parts that ``/monitoring/ready`` checks beside PostgreSQL.

        Override it to add one. It is a class method, called without a database cursor,
        because PostgreSQL itself may be away; ``cls.pool`` is the registry.

        :return: the check of each part by its name. A check takes nothing, returns
            nothing and raises when the part does not work. It runs in a thread of its
            own, may open a cursor of its own, and has
            ``ODOO_MONITORING_TIMEOUT`` seconds.
        :rtype: dict[str, collections.abc.Callable[[], None]]
        """
        return {}
