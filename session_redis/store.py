"""Odoo's session store over Redis."""

import functools
import hashlib
import itertools
import logging
import os
import time
from collections.abc import Callable, Iterable

import psycopg2
from redis.exceptions import NoScriptError, RedisClusterException, RedisError

from odoo import http
from odoo.http import (
    SESSION_DELETION_TIMER,
    STORED_SESSION_BYTES,
    _session_identifier_re,
)
from odoo.tools import config
from odoo.tools._vendor import sessions

from . import connection, legacy, record
from .exceptions import SessionStoreUnavailable
from .observer import observers, take_retries
from .record import Previous, Stored, short
from .session import RedisSession
from .settings import Settings

_logger = logging.getLogger(__name__)

#: how often a write is tried again because others have changed the same session
MAX_CONFLICTS = 64
#: identifiers per pipeline
BATCH = 1000
#: A session in use is written again when its record is older than a twentieth of its
#: lifetime, at most this long: often enough that "unused for a week" means what it
#: says, and far from a write per request. Odoo's own traces of devices use an hour.
MAX_RENEWAL_SECONDS = 3600
#: ten years: whoever sets more means "never"
MAX_LIFETIME_SECONDS = 3650 * 24 * 60 * 60


class Script:
    """A Lua script, and the digest by which Redis finds it again."""

    def __init__(self, text: str):
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


# KEYS: session, previous. ARGV: version that was read, or "" when there was none; new
# version, new value, its life in ms; value and life of "previous" for a rotation.
# Returns 1 (written, maybe by an earlier try whose answer was lost), 0 (deleted
# meanwhile) or both present values (changed meanwhile).
_WRITE = Script(f"""
local current = redis.call('GET', KEYS[1])
if not current then
  if ARGV[1] ~= '' then return 0 end
else
  local version = string.sub(current, {record.VERSION_SLICE})
  if version == ARGV[2] then return 1 end
  if version ~= ARGV[1] then return {{current, redis.call('GET', KEYS[2])}} end
end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
if ARGV[5] then redis.call('SET', KEYS[2], ARGV[5], 'PX', ARGV[6]) end
return 1
""")

# KEYS: session, previous. ARGV: digest of the session id that asks for the deletion.
# Whoever holds the present session id or its predecessor ends the login as a whole.
_DELETE = Script(f"""
local current = redis.call('GET', KEYS[1])
if not current then return 0 end
if string.sub(current, {record.DIGEST_SLICE}) ~= ARGV[1] then
  local previous = redis.call('GET', KEYS[2])
  if not previous then return 0 end
  if string.sub(previous, 1, {record.DIGEST_BYTES}) ~= ARGV[1] then return 0 end
end
return redis.call('DEL', KEYS[1], KEYS[2])
""")

# KEYS: session, previous, session that follows. ARGV: digest of the session id;
# version, value and life in ms of what follows; "1" when it may only follow a living
# session.
# Returns whether it follows. In one script, because a session that is deleted before
# its successor could be stored is a login lost; it is stored first, because that fails
# when the memory is full.
_REPLACE = Script(f"""
local made = redis.call('GET', KEYS[3])
if made and string.sub(made, {record.VERSION_SLICE}) == ARGV[2] then return 1 end
local found = false
local current = redis.call('GET', KEYS[1])
if current then
  found = string.sub(current, {record.DIGEST_SLICE}) == ARGV[1]
  local previous = not found and redis.call('GET', KEYS[2])
  if previous then
    found = string.sub(previous, 1, {record.DIGEST_BYTES}) == ARGV[1]
  end
end
if ARGV[5] == '1' and not found then return 0 end
redis.call('SET', KEYS[3], ARGV[3], 'PX', ARGV[4])
if found then redis.call('DEL', KEYS[1], KEYS[2]) end
return 1
""")

# A session of Odoo's files. KEYS: session, previous, mark of a revocation. ARGV:
# version, value, life in ms. Returns 0 (revoked) or else what _WRITE returns.
_IMPORT = Script(f"""
if redis.call('EXISTS', KEYS[3]) > 0 then return 0 end
local current = redis.call('GET', KEYS[1])
if current then
  if string.sub(current, {record.VERSION_SLICE}) == ARGV[1] then return 1 end
  return {{current, redis.call('GET', KEYS[2])}}
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
""")

# KEYS: key of the 2016 addon, session, mark of a revocation. ARGV: value, life in ms.
# As above, what may fail for want of memory comes first.
_MOVE = Script("""
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local moved = redis.call('EXISTS', KEYS[2], KEYS[3]) == 0
if moved then redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2]) end
redis.call('DEL', KEYS[1])
return moved and 1 or 0
""")


class RedisSessionStore(sessions.SessionStore):
    """Where Odoo loads and saves sessions, with the methods of its own file store.

    Every method raises :class:`SessionStoreUnavailable` when Redis cannot be asked:
    none ever takes a session for missing because of an outage.

    :param settings: lifetimes and prefix
    :param connect: function that returns the client; called when it is first needed
    """

    def __init__(self, settings: Settings, connect: Callable):
        super().__init__(session_class=RedisSession)
        self._settings = settings
        self._connect = connect
        self.key_prefix = (
            f"session:{settings.prefix}:" if settings.prefix else ("session:")
        )
        #: sessions.max_inactivity_seconds by database, as last seen
        self._max_inactivity: dict[str, int] = {}

    # Odoo's contract

    def generate_key(self, salt=None):
        return http.FilesystemSessionStore.generate_key(self, salt)

    def is_valid_key(self, key):
        return http.FilesystemSessionStore.is_valid_key(self, key)

    def get(self, sid):
        """Return the session, or a new one when there is none (``is_new`` tells)."""
        if not self.is_valid_key(sid):
            return self.new()
        current, previous = self._run("get", self._read, sid)
        if current is None and self._settings.import_sessions:
            stored = self._import(sid)
        else:
            stored = self._decode(sid, current, previous)
        if stored is None:
            return self.new()
        try:
            return RedisSession.from_stored(stored, self._renewal_due(stored))
        except record.UnreadableRecord as error:
            self._ignore(sid, error)
            return self.new()

    def save(self, session):
        """Store a session, unless it was deleted or revoked since it was read.

        Changes that others have made to other keys meanwhile are kept. A session that
        may not be stored loses its changes, and its request sends no cookie.
        """
        self._save(session, self._values(session))

    def delete(self, session):
        """End a login: the session, also when ``session`` has its previous id."""
        sid = session.sid
        if not self.is_valid_key(sid):
            return
        self._run("delete", self._eval, _DELETE, self._keys(sid), record.digest(sid))
        self._delete_file(sid)

    def rotate(self, session, env, soft=False):
        """Give a session a new id, and store it.

        :param soft: keep the identifier, and let late requests with the old id find
            their way for two minutes; otherwise the old session is deleted
        :raises ValueError: when a user is logged in and ``env`` is missing
        """
        if session.uid and env is None:
            raise ValueError("rotating a user's session requires an environment")
        if soft and self._stored(session):
            self._rotate_soft(session, env)
        else:
            self._rotate_hard(session, env)

    def delete_old_sessions(self, session):
        """Do what is left to do after a rotation: nothing, Redis forgets by itself.

        Only sessions that come from Odoo's files have the mark.
        """
        session.pop("gc_previous_sessions", None)

    def vacuum(self, max_lifetime=http.SESSION_LIFETIME):
        """Do nothing: every key has a time to live."""

    def get_missing_session_identifiers(self, identifiers: Iterable[str]) -> set[str]:
        """Return the identifiers without a session.

        :raises SessionStoreUnavailable: rather than call a session missing, since
            Odoo then marks its device as revoked
        """
        missing = set()
        for batch in _batches(set(identifiers)):
            pipeline = self.client.pipeline(transaction=False)
            for identifier in batch:
                pipeline.exists(self._key(identifier))
            found = self._run("missing", pipeline.execute)
            missing.update(
                identifier
                for identifier, exists in zip(batch, found, strict=True)
                if not exists
            )
        return missing

    def delete_from_identifiers(self, identifiers: list[str]):
        """End the logins with these identifiers.

        :raises ValueError: when one of them is no identifier
        """
        identifiers = list(identifiers)
        for identifier in identifiers:
            if not _session_identifier_re.match(identifier):
                raise ValueError(
                    "expected a list of session identifiers of "
                    f"{STORED_SESSION_BYTES} characters"
                )
        for batch in _batches(identifiers):
            pipeline = self.client.pipeline(transaction=False)
            for identifier in batch:
                if self._settings.import_sessions:
                    # Keys of the 2016 addon cannot be found by an identifier. Before
                    # the deletion, or an import in between would come back.
                    lifetime = self._settings.expiration
                    pipeline.set(self._revoked_key(identifier), "", ex=lifetime)
                    legacy.delete_files(self.path, identifier)
                for key in self._keys(identifier):
                    pipeline.delete(key)  # one by one: so a cluster's pipeline wants
            self._run("delete", pipeline.execute)

    # for addons that look at Odoo's files

    @property
    def path(self) -> str:
        """Folder of Odoo's own file store, which this store does not create."""
        return os.path.join(config["data_dir"], "sessions")

    def get_session_filename(self, sid):
        """Return the file that Odoo's own store has for a session; there is none here.

        :raises ValueError: when the session id is none
        """
        if not self.is_valid_key(sid):
            raise ValueError("Invalid session id")
        return os.path.join(self.path, sid[:2], sid)

    # reading

    def _decode(self, sid, current, previous):
        try:
            return record.decode(sid, current, previous)
        except record.UnreadableRecord as error:
            self._ignore(sid, error)
            return None

    def _decode_present(self, sid, outcome):
        """Return what a write has found instead of what it expected, if readable."""
        stored = self._decode(sid, *outcome)
        try:
            if stored:
                stored.view()
        except record.UnreadableRecord as error:
            self._ignore(sid, error)
            return None
        return stored

    def _ignore(self, sid, error):
        _logger.error("Session %s is ignored: %s", short(sid), error)

    def _renewal_due(self, stored):
        if stored.previous:
            return False
        interval = min(stored.lifetime_seconds / 20, MAX_RENEWAL_SECONDS)
        return time.time() - stored.written_at > interval

    def _stored(self, session):
        """Return what was read or written under the id that the session has now."""
        stored = session.stored
        return stored if stored and stored.sid == session.sid else None

    def _values(self, session):
        """Return the values to store for a session.

        A request with a rotated session id has other ones in front of it; what it has
        changed belongs to the successor.
        """
        values = session.copy_values()
        stored = self._stored(session)
        if stored and stored.previous:
            return record.changed(
                stored.view(), values, stored.values(), ignore=record.PREVIOUS_ONLY
            )
        return values

    def _import(self, sid):
        """Move a session of before the switch to Redis, with its session id.

        Of the requests of one page, the first moves it and the others find it moved.
        """
        values = legacy.read_file(self.path, sid, self._settings.expiration)
        if values is not None:
            return self._import_file(sid, values)
        if not self._settings.cluster:  # where the 2016 addon never ran
            keys = legacy.keys(self._settings.prefix, sid)
            texts = self._run("import", self.client.mget, keys)
            for key, text in zip(keys, texts, strict=True):
                values = legacy.parse(text) if text else None
                if values is None:
                    continue
                written = self._imported(sid, values)
                if self._run("import", self._move, key, written):
                    _logger.info("Session %s moved from an old key", short(sid))
                    return written
        return self._decode(sid, *self._run("get", self._read, sid))

    def _import_file(self, sid, values):
        written = self._imported(sid, values)
        outcome = self._run("import", self._write_imported, written)
        if outcome == 0:  # revoked on another front end, which has not this file
            legacy.delete_file(self.path, sid)
            return None
        if outcome != 1:
            return self._decode(sid, *outcome)  # of the one that deletes the file
        if not legacy.delete_file(self.path, sid):
            # another request has moved it, and it was ended, before we have written
            keys = self._keys(sid)
            self._run("delete", self._eval, _DELETE, keys, written.digest)
            return None
        _logger.info("Session %s moved from its file", short(sid))
        return written

    def _delete_file(self, sid):
        """Delete what an import has left that did not come to its end."""
        if self._settings.import_sessions:
            legacy.delete_file(self.path, sid)

    def _imported(self, sid, values):
        return Stored(
            sid,
            record.new_version(),
            record.digest(sid),
            self._lifetime_seconds(values),
            int(time.time()),
            record.dumps(values),
        )

    # writing

    def _save(self, session, values):
        """Store values, merged with those of others.

        :return: whether they were stored
        """
        stored = self._stored(session)
        lifetime = self._lifetime_seconds(session)
        merged = bool(stored and stored.previous)
        for _attempt in range(MAX_CONFLICTS):
            written = Stored(
                session.sid,
                record.new_version(),
                stored.digest if stored else record.digest(session.sid),
                lifetime,
                int(time.time()),
                record.dumps(values),
                stored.previous if stored else None,
            )
            outcome = self._run("save", self._write, stored, written)
            if outcome == 1:
                session.stored = written
                if merged:
                    session.replace_values(written.view())
                session.is_dirty = session.is_dirty  # the cookie has to follow
                session.renewal_due = False
                return True
            if outcome == 0:
                break
            read = self._decode_present(session.sid, outcome)
            if read is None and session.is_new and not session.stored:
                # The cookie's identifier is in use with another secret: it was
                # rotated away long ago, or somebody made it up.
                session.sid = self.generate_key()
                return self._save(session, values)
            values = self._merge(stored, read, values)
            if values is None:
                break
            stored, merged = read, True
        else:
            raise SessionStoreUnavailable("too many concurrent changes of one session")
        self._refuse(session)
        return False

    def _merge(self, before, now, values):
        """Merge a request's values with what others have stored meanwhile.

        :param before: what the request has read
        :param now: what is stored
        :return: the values to store, or ``None`` when the request may not write
        """
        if now is None:
            return None
        return record.merge(
            before.values() if before else {},
            values,
            now.values(),
            rotated=bool(now.previous),
        )

    def _refuse(self, session):
        _logger.info(
            "Session %s was ended meanwhile: changes dropped", short(session.sid)
        )
        session.forget_changes()

    def _rotate_soft(self, session, env):
        stored = session.stored
        values = self._values(session)
        token = values.get("session_token")
        token_changed = session.session_token != stored.view().get("session_token")
        lifetime = self._lifetime_seconds(session, env)
        for _attempt in range(MAX_CONFLICTS):
            if stored.previous:
                if token_changed:  # the password, say: the token has to follow it
                    sid = record.successor_sid(session.sid, stored.previous.nonce)
                    values["session_token"] = self._token(session, sid, env)
                self._adopt(session, stored, values)
                return
            nonce = record.new_nonce()
            sid = record.successor_sid(session.sid, nonce)
            previous = Previous(
                stored.digest,
                nonce,
                {
                    "session_token": token,
                    "create_time": values.get("create_time"),
                },
            )
            written = Stored(
                sid,
                record.new_version(),
                record.digest(sid),
                lifetime,
                int(time.time()),
                record.dumps(self._successor_values(session, values, sid, env)),
            )
            outcome = self._run("rotate", self._write, stored, written, previous)
            if outcome == 1:
                self._become(session, written)
                return
            if outcome == 0:
                break
            read = self._decode_present(session.sid, outcome)
            values = self._merge(stored, read, values)
            if values is None:
                break
            stored = read
        else:
            raise SessionStoreUnavailable("too many concurrent changes of one session")
        self._refuse(session)

    def _adopt(self, session, stored, values):
        """Continue with the session id that another request has rotated to."""
        session.stored = stored
        if values != stored.values() and not self._save(session, values):
            return
        stored = session.stored
        self._become(
            session,
            stored._replace(
                sid=record.successor_sid(session.sid, stored.previous.nonce),
                previous=None,
            ),
        )

    def _rotate_hard(self, session, env):
        stored = self._stored(session)
        sid = self.generate_key()
        if stored:  # one slot of a cluster for both, see record.TAG_BYTES
            sid = session.sid[: record.TAG_BYTES] + sid[record.TAG_BYTES :]
        values = self._successor_values(session, dict(session), sid, env)
        written = Stored(
            sid,
            record.new_version(),
            record.digest(sid),
            self._lifetime_seconds(session, env),
            int(time.time()),
            record.dumps(values),
        )
        if not stored:
            self._run("rotate", self._write, None, written)
        else:
            # When it keeps its login, and did not prove anew who it is, a session
            # that was revoked meanwhile stays so.
            keeps_login = session.uid and stored.values().get("uid") == session.uid
            command = self._replace, session.sid, written, bool(keeps_login)
            replaced = self._run("rotate", *command)
            self._delete_file(session.sid)
            if not replaced:
                self._refuse(session)
                return
        self._become(session, written)

    def _successor_values(self, session, values, sid, env):
        values = {
            key: value
            for key, value in values.items()
            if key not in ("gc_previous_sessions", "next_sid", "deletion_time")
        }
        if session.uid:
            values["session_token"] = self._token(session, sid, env)
        values["create_time"] = time.time()
        return values

    def _token(self, session, sid, env):
        return env["res.users"].browse(session.uid)._compute_session_token(sid)

    def _become(self, session, stored):
        session.sid = stored.sid
        session.stored = stored
        session.replace_values(stored.values())
        session.should_rotate = False
        session.renewal_due = False
        session.is_dirty = True  # the cookie has to follow

    # lifetimes

    def _lifetime_seconds(self, session, env=None) -> int:
        """Return how long a session lives from now on when nobody uses it."""
        lifetime = self._user_lifetime_seconds(session, env)
        if not session.get("uid"):
            lifetime = min(lifetime, self._settings.expiration_anonymous)
        elif session.get("_trace_disable"):
            # what Odoo sets for "automated technical sessions": those of reports
            lifetime = min(lifetime, self._settings.expiration_temporary)
        return min(max(lifetime, 1), MAX_LIFETIME_SECONDS)

    def _user_lifetime_seconds(self, session, env):
        parameter = self._max_inactivity_seconds(session.get("db"), env)
        if parameter is None:
            return self._settings.expiration
        if "expiration" in self._settings.model_fields_set:
            return min(parameter, self._settings.expiration)
        return parameter

    def _max_inactivity_seconds(self, db, env):
        """Return the system parameter of a database, or ``None`` when it is unknown.

        ``save`` gets no environment: the request's may be used while it is open.
        Without one, as in a websocket's thread, it is what was last seen.
        """
        if not db:
            return None
        if env is None and http.request:
            env = http.request.env
        if env is not None and env.cr.dbname == db and not env.cr.closed:
            try:
                self._max_inactivity[db] = http.get_session_max_inactivity(env)
            except psycopg2.Error:
                # the request's transaction is broken; its session still matters
                _logger.debug("sessions.max_inactivity_seconds not read", exc_info=True)
        return self._max_inactivity.get(db)

    # Redis

    @functools.cached_property
    def client(self):
        """The client of redis-py.

        :raises SessionStoreUnavailable: when the file of the password cannot be read
            any more; and a cluster's client connects when it is made
        """
        try:
            return self._connect()
        except (RedisError, RedisClusterException, OSError) as error:
            raise self._unavailable("connect", error) from error

    def _key(self, identifier):
        tag, rest = identifier[: record.TAG_BYTES], identifier[record.TAG_BYTES :]
        return f"{self.key_prefix}{{{tag}}}{rest}"

    def _keys(self, sid):
        key = self._key(sid[:STORED_SESSION_BYTES])
        return key, key + ":previous"

    def _read(self, sid):
        # not client.mget, whose wrappers take a tenth of the time
        return self.client.execute_command("MGET", *self._keys(sid))

    def _eval(self, script, keys, *arguments):
        """Run a script that Redis has, or send it when it has not."""
        execute = self.client.execute_command
        try:
            return execute("EVALSHA", script.digest, len(keys), *keys, *arguments)
        except NoScriptError:
            return execute("EVAL", script.text, len(keys), *keys, *arguments)

    def _revoked_key(self, identifier):
        return self._key(identifier) + ":revoked"

    def _move(self, key, written):
        session_key, _previous = self._keys(written.sid)
        keys = key, session_key, self._revoked_key(written.sid[:STORED_SESSION_BYTES])
        milliseconds = written.lifetime_seconds * 1000
        return self._eval(_MOVE, keys, written.encode(), milliseconds)

    def _write(self, stored, written, previous=None):
        arguments = [
            stored.version if stored else b"",
            written.version,
            written.encode(),
            written.lifetime_seconds * 1000,
        ]
        if previous:
            arguments += [
                record.encode_previous(previous),
                SESSION_DELETION_TIMER * 1000,
            ]
        return self._eval(_WRITE, self._keys(written.sid), *arguments)

    def _write_imported(self, written):
        identifier = written.sid[:STORED_SESSION_BYTES]
        keys = *self._keys(written.sid), self._revoked_key(identifier)
        milliseconds = written.lifetime_seconds * 1000
        return self._eval(
            _IMPORT, keys, written.version, written.encode(), milliseconds
        )

    def _replace(self, old_sid, written, keeps_login):
        """Store a session and delete the one that it follows.

        :param keeps_login: only when the old one was there
        :return: whether it was stored
        """
        key, _previous = self._keys(written.sid)
        return self._eval(
            _REPLACE,
            (*self._keys(old_sid), key),
            record.digest(old_sid),
            written.version,
            written.encode(),
            written.lifetime_seconds * 1000,
            "1" if keeps_login else "",
        )

    def _run(self, operation, command, *arguments):
        """Ask Redis, and tell the observers.

        :raises SessionStoreUnavailable: for any error of Redis or of its connection
        """
        if not observers:
            try:
                return command(*arguments)
            except (RedisError, RedisClusterException) as error:
                raise self._unavailable(operation, error) from error
        take_retries()  # of one that nobody has watched
        started = time.perf_counter()
        failure = None
        try:
            return command(*arguments)
        except (RedisError, RedisClusterException) as error:
            failure = error
            raise self._unavailable(operation, error) from error
        finally:
            seconds = time.perf_counter() - started
            retries = take_retries()
            for observe in observers:
                observe(operation, seconds, failure, retries)

    def _unavailable(self, operation, error):
        text = connection.explain(self._settings, error)
        return SessionStoreUnavailable(f"{operation}: {text}")


def _batches(items):
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, BATCH)):
        yield batch
