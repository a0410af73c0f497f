from odoo import api, models
from odoo.exceptions import AccessError, UserError
from odoo.tools import SQL

from ..probes import Result
from ..sessions import count_sessions


class CloudPlatformPage(models.AbstractModel):
    """What the page in Settings → Cloud Platform shows and does.

    Its methods are called by ``static/src/page``; all are for those who may change the
    settings, and none returns a secret.
    """

    _name = "cloud.platform.page"
    _description = "Page of the Cloud Platform"

    @api.model
    def read_page(self) -> dict:
        """Return what the page shows before it asks any service.

        An addon for a store adds ``stores``, ``migration``, ``collection`` and
        ``inventory``.
        """
        self._check_access()
        platform = self.env["cloud.platform"]
        report = platform._report(probe=False)
        return {
            "environment": report["environment"],
            "kind": platform._kinds().get(report["kind"], report["kind"]),
            "location": report["location"],
            "checks": self._lines(report["checks"]),
            "places": self._places(),
        }

    @api.model
    def check_connections(self) -> list[dict]:
        """Ask the services, within bounded time; return a line for each."""
        self._check_access()
        return self._lines(self.env["cloud.platform"]._report()["probes"])

    @api.model
    def count_sessions(self) -> dict:
        """Return how many sessions there are, see :func:`..sessions.count_sessions`."""
        self._check_access()
        return count_sessions()

    @api.model
    def move_attachments(self) -> None:
        """Move the attachments to where they belong, in the background.

        :raises UserError: when no installed addon can
        """
        self._check_access()
        raise UserError(self._cannot_move())

    @api.model
    def cancel_move(self) -> None:
        """Stop the move of the attachments; what was moved stays moved."""
        self._check_access()
        raise UserError(self._cannot_move())

    def _cannot_move(self):
        return self.env._(
            "No installed addon moves attachments: install cloud_platform_generic or "
            "another platform."
        )

    def _check_access(self):
        if not self.env.is_system():
            raise AccessError(
                self.env._("Only administrators of the settings may do this.")
            )

    def _lines(self, results: dict[str, Result]) -> list[dict]:
        return [
            {
                "title": title,
                "detail": result.detail,
                "faults": [str(fault) for fault in result.faults],
                "advice": result.advice,
            }
            for title, result in results.items()
        ]

    def _places(self):
        """Return number and bytes of the contents in each place."""
        self.env["ir.attachment"].flush_model()
        rows = self.env.execute_query(
            SQL(
                """SELECT CASE WHEN store_fname LIKE '%%://%%' THEN 'bucket'
                               WHEN store_fname IS NULL THEN 'database'
                               ELSE 'files' END place,
                          count(*), coalesce(sum(file_size), 0)
                     FROM ir_attachment
                    WHERE type = 'binary' AND file_size > 0
                    GROUP BY place"""
            )
        )
        counted = {place: (number, int(size)) for place, number, size in rows}
        titles = {
            "bucket": self.env._("Bucket"),
            "database": self.env._("Database"),
            "files": self.env._("Local files"),
        }
        return [
            {"title": title, "number": counted.get(place, (0, 0))[0]}
            | {"bytes": counted.get(place, (0, 0))[1]}
            for place, title in titles.items()
        ]
