from odoo.http import Session

from .record import Stored


class RedisSession(Session):
    """A session that knows what Redis has of it."""

    __slots__ = ("_changed", "renewal_due", "stored")

    def __init__(self, data, sid, new=False):
        #: the session as it was last read or written; None: never
        self.stored: Stored | None = None
        #: whether the session has to be written so that it does not expire in use
        self.renewal_due = False
        super().__init__(data, sid, new)

    @classmethod
    def from_stored(cls, stored: Stored, renewal_due: bool) -> "RedisSession":
        session = cls({}, stored.sid)
        # Session.__setitem__ encodes and decodes each value, which JSON does not need
        session._Session__data = stored.view()
        session.stored = stored
        session.renewal_due = renewal_due
        return session

    def copy_values(self) -> dict:
        """Return ``dict(self)``, without a call for each of its keys."""
        return dict(self._Session__data)

    @property
    def is_dirty(self) -> bool:
        """Whether Odoo has to save the session, and to send its cookie again.

        Odoo clears the flag after it has read a session, hence two of them.
        """
        return self._changed or self.renewal_due

    @is_dirty.setter
    def is_dirty(self, value):
        self._changed = value

    def replace_values(self, values: dict) -> None:
        """Take over values from the store: no change that would have to be saved.

        Values that are equal stay the same objects, since the request may hold them.
        """
        own = self._Session__data
        for key in own.keys() - values.keys():
            del own[key]
        for key, value in values.items():
            if key not in own or own[key] != value:
                own[key] = value

    def forget_changes(self) -> None:
        """Let the request end without a write and without a cookie."""
        self._changed = self.renewal_due = False
        self.should_rotate = False
