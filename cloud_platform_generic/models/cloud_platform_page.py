from odoo import api, models
from odoo.tools import format_datetime


class CloudPlatformPage(models.AbstractModel):
    _inherit = "cloud.platform.page"

    # overrides

    @api.model
    def read_page(self):
        return {
            **super().read_page(),
            "migration": self._migration(),
            "collection": self._collection(),
            "inventory": self._inventory(),
        }

    @api.model
    def move_attachments(self):
        self._check_access()
        self.env["attachment.s3.migration"]._start_in_background()

    @api.model
    def cancel_move(self):
        self._check_access()
        self.env["attachment.s3.migration"]._current().action_cancel()

    # own methods

    def _migration(self):
        """Return the last move of attachments; empty when there was none."""
        run = self.env["attachment.s3.migration"].search([], limit=1)
        if not run:
            return {}
        names = (
            *("status", "total", "moved", "failed", "failures", "error"),
            *("percent", "megabytes_per_second", "seconds_left"),
        )
        titles = dict(run._fields["status"]._description_selection(self.env))
        # who died in the background goes on with the next turn of the action
        dead = run.background and run.status == "interrupted"
        return {
            **{name: run[name] for name in names},
            "status_title": titles[run.status],
            "moving": dead or run.status in ("waiting", "running"),
        }

    def _collection(self):
        """Return a sentence on the last run of the collector."""
        run = self.env["attachment.s3.collection"].search([], limit=1)
        if not run:
            return self.env._("never")
        return self.env._(
            "%(time)s: %(deleted)s objects deleted %(error)s",
            time=format_datetime(self.env, run.ended_at),
            deleted=run.deleted,
            error=run.error or "",
        ).strip()

    def _inventory(self):
        """Return a sentence on the last inventory that came to its end."""
        done = [("ended_at", "!=", False)]
        inventory = self.env["attachment.s3.inventory"].search(done, limit=1)
        if not inventory:
            return {"faulty": False, "text": self.env._("never")}
        return {
            "faulty": bool(inventory.missing or inventory.wrong_size),
            "text": self.env._(
                "%(time)s: %(objects)s objects, %(missing)s missing, %(wrong_size)s of "
                "wrong size, %(orphans)s orphans",
                time=format_datetime(self.env, inventory.ended_at),
                objects=inventory.objects,
                missing=inventory.missing,
                wrong_size=inventory.wrong_size,
                orphans=inventory.orphans,
            ),
        }
