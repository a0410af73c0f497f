"""Sessions: bare redis-py, this store, and Odoo's own files.

Every operation is measured in turn on each of them, so that what else the machine does
meets them all. Two databases of one Redis hold 10,000 and 1,000,000 sessions; files
are measured at 10,000 only: a million of them would take 4 GB and minutes to write.
"""

import base64
import functools
import hashlib
import json
import os
import random
import statistics
import tempfile
import threading
import time
from types import SimpleNamespace

import hiredis
import redis
import results
from toolbox import project

import odoo.addons
import odoo.http

odoo.addons.__path__.append(str(project.ROOT))

from odoo.addons.session_redis import connection, record, settings  # noqa: E402
from odoo.addons.session_redis.store import RedisSessionStore  # noqa: E402

FEW, MANY = 10_000, 1_000_000
#: sessions that are read and written; the others are there to be many
IN_USE = 500
ROUNDS = 6000
#: calls before it is the next one's turn
BLOCK = 20
#: of the operation with 10,000 identifiers
MISSING_ROUNDS = 40
JSON_BYTES = 470
#: what 16 threads, or 4 processes, do together, and how often it is measured
MIXED_OPERATIONS = 16_000
MIXED_ROUNDS = 5
WEEK = 7 * 24 * 60 * 60


class TokenEnv:
    """An environment that computes a token without a database."""

    cr = SimpleNamespace(dbname=None, closed=True)

    def __getitem__(self, _model):
        return self

    def browse(self, _uid):
        return self

    def _compute_session_token(self, sid):
        return hashlib.sha256(sid.encode()).hexdigest()


ENV = TokenEnv()


def typical_values():
    """Values of a logged-in user's session, of 470 bytes as JSON."""
    now = int(time.time())
    values = {
        **odoo.http.get_default_session(),
        "create_time": time.time(),
        "db": "client-odoo-prod",
        "login": "",
        "uid": 2,
        "session_token": "a" * 64,
        "context": {"lang": "en_US", "tz": "Europe/Zurich", "uid": 2},
        "_trace": [
            {
                "platform": "linux",
                "browser": "firefox",
                "ip_address": "192.0.2.100",
                "first_activity": now,
                "last_activity": now,
            }
        ],
    }
    values["login"] = "x" * (JSON_BYTES - len(record.dumps(values)))
    return values


VALUES = typical_values()


class Bare:
    """What somebody would write with redis-py and no other thought."""

    name = "bare redis-py"

    def __init__(self, client):
        self.client = client

    def make(self):
        sid = odoo.http.FilesystemSessionStore.generate_key(None)
        self.client.set(self.key(sid), json.dumps(VALUES), ex=WEEK)
        return SimpleNamespace(sid=sid, values=dict(VALUES))

    def key(self, sid):
        return f"bare:{sid[:42]}"

    def get(self, session):
        return json.loads(self.client.get(self.key(session.sid)))

    def save(self, session):
        session.values["number"] = session.values.get("number", 0) + 1
        self.client.set(self.key(session.sid), json.dumps(session.values), ex=WEEK)

    def rotate(self, session):
        """As Odoo does it: read, write the old one, write the new one."""
        values = self.get(session)
        self.client.set(self.key(session.sid), json.dumps(values), ex=120)
        self.client.set(self.key(session.sid), json.dumps(values), ex=WEEK)

    def revoke(self, sid):
        self.client.delete(self.key(sid))

    def missing(self, identifiers):
        pipeline = self.client.pipeline(transaction=False)
        for identifier in identifiers:
            pipeline.exists(self.key(identifier))
        return pipeline.execute()


class KeysOfStore(Bare):
    """Bare redis-py on the keys of a store, of which there are many."""

    def __init__(self, store):
        super().__init__(store.client)
        self.key = store._key


class OdooStore:
    """A store with Odoo's methods."""

    def __init__(self, name, store):
        self.name = name
        self.store = store

    def make(self):
        session = self.store.new()
        session.update(VALUES)
        self.store.save(session)
        return session

    def get(self, session):
        return self.store.get(session.sid)

    def save(self, session):
        session["number"] = session.get("number", 0) + 1
        self.store.save(session)

    def rotate(self, session):
        self.store.rotate(session, ENV, True)

    def revoke(self, sid):
        self.store.delete_from_identifiers([sid[:42]])

    def missing(self, identifiers):
        return self.store.get_missing_session_identifiers(identifiers)


def redis_store(environment, db):
    """Return this store and bare redis-py on one database, with the same client."""
    own = environment.model_copy(update={"db": db, "prefix": "client-odoo-prod"})
    client = connection.connect(own)
    store = RedisSessionStore(own, lambda: client)
    return OdooStore("this store", store), Bare(client)


def fill(store, number):
    """Write sessions as the store does, and return their identifiers."""
    identifiers = []
    values = record.dumps(VALUES)
    pipeline = store.client.pipeline(transaction=False)
    while len(identifiers) < number:
        for _ in range(min(5000, number - len(identifiers))):
            secret = base64.urlsafe_b64encode(os.urandom(63)).decode()
            stored = record.Stored(
                secret,
                record.new_version(),
                record.digest(secret),
                WEEK,
                int(time.time()),
                values,
            )
            identifiers.append(secret[:42])
            pipeline.set(store._key(secret[:42]), stored.encode(), px=WEEK * 1000)
        pipeline.execute()
    return identifiers


def fill_bare(bare, number):
    pipeline = bare.client.pipeline(transaction=False)
    text = json.dumps(VALUES)
    identifiers = []
    for _ in range(number):
        sid = base64.urlsafe_b64encode(os.urandom(63)).decode()
        identifiers.append(sid[:42])
        pipeline.set(bare.key(sid), text, ex=WEEK)
    pipeline.execute()
    return identifiers


def measure(rounds, block=1, **operations):
    """Call each in turn, a block of calls at a time.

    :return: the median of each, in seconds per call
    """
    times = {name: [] for name in operations}
    names = list(operations)
    blocks = rounds // block
    for number in range(-(blocks // 10), blocks):  # the first ones warm up
        for name in names:
            operation = operations[name]
            first = number * block
            started = time.perf_counter()
            for call in range(first, first + block):
                operation(call)
            seconds = time.perf_counter() - started
            if number >= 0:
                times[name].append(seconds / block)
        random.shuffle(names)
    return {name: statistics.median(values) for name, values in times.items()}


def measure_operation(name, subjects):
    """Measure one operation of each subject on sessions in use."""
    sessions = {
        key: [subject.make() for _ in range(IN_USE)]
        for key, subject in subjects.items()
    }

    def operation(subject, own, number):
        getattr(subject, name)(own[number % IN_USE])

    return measure(
        ROUNDS,
        BLOCK,
        **{
            key: functools.partial(operation, subject, sessions[key])
            for key, subject in subjects.items()
        },
    )


def measure_revoke(subjects):
    rounds = 1000
    sids = {
        key: [subject.make().sid for _ in range(rounds + rounds // 10)]
        for key, subject in subjects.items()
    }

    def operation(subject, own, number):
        subject.revoke(own[number])

    return measure(
        rounds,
        BLOCK,
        **{
            key: functools.partial(operation, subject, sids[key])
            for key, subject in subjects.items()
        },
    )


def measure_missing(subjects, identifiers):
    """10,000 identifiers, half of them of living sessions."""
    absent = [
        base64.urlsafe_b64encode(os.urandom(63)).decode()[:42] for _ in range(5000)
    ]
    asked = {}
    for key in subjects:
        asked[key] = [*random.sample(identifiers[key], 5000), *absent]
        random.shuffle(asked[key])

    def operation(subject, own, _number):
        subject.missing(own)

    return measure(
        MISSING_ROUNDS,
        **{
            key: functools.partial(operation, subject, asked[key])
            for key, subject in subjects.items()
        },
    )


def round_trips(subject):
    """Count how often each operation writes to the connection."""
    session = subject.make()
    sent = []
    send = redis.Connection.send_packed_command

    def count(own, *arguments, **options):
        sent.append(1)
        return send(own, *arguments, **options)

    numbers = {}
    redis.Connection.send_packed_command = count
    try:
        for name in ("get", "save", "rotate"):
            sent.clear()
            getattr(subject, name)(session)
            numbers[name] = len(sent)
    finally:
        redis.Connection.send_packed_command = send
    return numbers


# mixed load


def work(subject, sessions, count, seed):
    """90 of 100 requests read only, 9 save, one rotates."""
    chance = random.Random(seed)
    for _ in range(count):
        session = chance.choice(sessions)
        subject.get(session)
        dice = chance.random()
        if dice < 0.01:
            subject.rotate(session)
        elif dice < 0.1:
            subject.save(session)


def in_threads(subject, sessions):
    threads = [
        threading.Thread(
            target=work,
            args=(subject, sessions[n::16], MIXED_OPERATIONS // 16, n),
        )
        for n in range(16)
    ]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started


def in_processes(subject, sessions):
    started = time.perf_counter()
    children = []
    for number in range(4):
        child = os.fork()
        if not child:
            status = 1
            try:
                work(subject, sessions[number::4], MIXED_OPERATIONS // 4, number)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    for child in children:
        if os.waitpid(child, 0)[1]:
            raise RuntimeError("a process of the mixed load failed")
    return time.perf_counter() - started


def measure_mixed(subjects):
    times = {(key, way): [] for key in subjects for way in ("threads", "processes")}
    for _ in range(MIXED_ROUNDS):
        for key, subject in subjects.items():
            for way, run in (("threads", in_threads), ("processes", in_processes)):
                # new ones: those of the last round were rotated in other processes
                sessions = [subject.make() for _ in range(160)]
                times[key, way].append(run(subject, sessions))
    return {key: statistics.median(values) for key, values in times.items()}


# the report


def microseconds(seconds):
    return f"{seconds * 1e6:,.0f} µs"


def milliseconds(seconds):
    return f"{seconds * 1e3:,.1f} ms"


class Bars:
    def __init__(self):
        self.rows = []

    def at_most(self, what, value, bar, show):
        met = "met" if value <= bar else "**not met**"
        self.rows.append([what, show(bar), show(value), met])


def main():
    load = os.getloadavg()[0]  # of what else the machine does
    environment = settings.load()
    admin = connection.connect(environment)
    admin.config_set("appendonly", "no")  # the disk is not what is compared
    few, bare_few = redis_store(environment, 0)
    many, bare_many = redis_store(environment, 1)
    files_folder = tempfile.TemporaryDirectory(prefix="bench-sessions-")
    files = OdooStore(
        "Odoo's files",
        odoo.http.FilesystemSessionStore(
            files_folder.name, session_class=odoo.http.Session, renew_missing=True
        ),
    )
    few_ids = fill(few.store, FEW)
    project.say(f"{FEW} sessions written")
    before = admin.info("memory")["used_memory"]
    started = time.monotonic()
    many_ids = fill(many.store, MANY)
    per_session = (admin.info("memory")["used_memory"] - before) / MANY
    memory_usage = many.store.client.memory_usage(many.store._key(many_ids[0]))
    project.say(f"{MANY} sessions written in {time.monotonic() - started:.0f} s")
    files_ids = [files.make().sid[:42] for _ in range(FEW)]
    bare_ids = fill_bare(bare_few, FEW)

    subjects = {"bare": bare_few, "few": few, "many": many, "files": files}
    times = {}
    for name in ("get", "save", "rotate"):
        times[name] = measure_operation(name, {**subjects, "bare_many": bare_many})
        project.say(f"{name} measured")
    times["revoke"] = measure_revoke(subjects)
    # what Redis itself takes longer for a key among a million
    ids = {"bare": bare_ids, "few": few_ids, "many": many_ids, "files": files_ids}
    times["missing"] = measure_missing(
        {**subjects, "bare_many": KeysOfStore(many.store)},
        {**ids, "bare_many": many_ids},
    )
    project.say("revoke and missing measured")
    mixed = measure_mixed({"bare": bare_few, "few": few, "files": files})
    trips = round_trips(few)

    rows = []
    for name, title in (
        ("get", "get"),
        ("save", "save"),
        ("rotate", "rotate (soft)"),
        ("revoke", "revoke (`delete_from_identifiers`)"),
        ("missing", "missing (10,000 identifiers)"),
    ):
        show = milliseconds if name == "missing" else microseconds
        columns = ("bare", "few", "many", "files")
        rows.append([title, *(show(times[name][column]) for column in columns)])
    for way, title in (("threads", "16 threads"), ("processes", "4 processes")):
        values = [mixed[key, way] for key in ("bare", "few", "files")]
        bare, store, disk = (f"{value:.2f} s" for value in values)
        title = f"{MIXED_OPERATIONS:,} mixed requests, {title}"
        rows.append([title, bare, store, "", disk])

    bars = Bars()
    factor = "{:.2f}".format
    whole = "{:.0f}".format
    for name, number in trips.items():
        bars.at_most(f"round trips of {name}", number, 1, whole)
    for name, against in (("get", "GET + json"), ("save", "SET EX + json")):
        for count, bare in (("few", "bare"), ("many", "bare_many")):
            sessions = f"{FEW if count == 'few' else MANY:,}"
            ratio = times[name][count] / times[name][bare]
            title = f"{name} : bare {against}, {sessions} sessions"
            bars.at_most(title, ratio, 1.5, factor)
        ratio = times[name]["few"] / times[name]["files"]
        bars.at_most(f"{name} : Odoo's files", ratio, 1, factor)
    for name in ("revoke", "missing"):
        ratio = times[name]["many"] / times[name]["few"]
        bars.at_most(f"{name}, {MANY:,} : {FEW:,} sessions", ratio, 1.2, factor)
    missing = times["missing"]
    bare_missing = missing["bare_many"] / missing["bare"]
    title = f"bytes of a {JSON_BYTES}-byte session, `MEMORY USAGE`"
    bars.at_most(title, memory_usage, 750, whole)
    title = f"bytes of a session, `used_memory` of {MANY:,}"
    bars.at_most(title, per_session, 750, whole)

    bare_to_files = times["get"]["bare"] / times["get"]["files"]
    text = "\n\n".join(
        [
            "Medians of operations that take turns, 20 calls at a time.",
            results.table(
                [
                    "",
                    f"bare redis-py, {FEW:,}",
                    f"this store, {FEW:,}",
                    f"this store, {MANY:,}",
                    f"Odoo's files, {FEW:,}",
                ],
                rows,
            ),
            results.table(["bar", "at most", "measured", ""], bars.rows),
            f"A session of {JSON_BYTES} bytes of JSON. Bare rotation is what Odoo does "
            "with files: read, write the old session, write the new one. Mixed "
            "requests read a session each, 9 of 100 save it, one rotates it. Odoo's "
            "files are on this machine's own disk and in its cache, which several "
            f"front ends could not share; {MANY:,} of them were not measured, as they "
            "would take 4 GB and minutes to write. Nothing that asks Redis can be much "
            "faster than reading such a file: bare redis-py takes "
            f"{bare_to_files:.2f} times as long. What `missing` takes longer among "
            f"{MANY:,} are the processor's caches, which a million keys do not fit "
            f"into: the same keys asked with bare redis-py take {bare_missing:.2f} "
            "times as long. `appendonly` is off.",
        ]
    )
    server = admin.info("server")
    results.write(
        "Sessions",
        text,
        f"Redis {server['redis_version']}",
        f"load average {load:.1f} before",
        f"redis-py {redis.__version__} with hiredis {hiredis.__version__}",
    )
    project.say(text)
    admin.flushall(asynchronous=True)
    files_folder.cleanup()


if __name__ == "__main__":
    main()
