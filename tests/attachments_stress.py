"""Worker processes that create, copy, overwrite and delete attachments at random.

Run by ``odoo shell``, whose process has loaded the registry: workers are forked from
it, before it has a connection, and so a killed one is cheap to replace.
"""

import hashlib
import json
import multiprocessing
import os
import random
import signal
import sys
import time

import psycopg2
from toolbox import processes

from odoo import SUPERUSER_ID, api, sql_db
from odoo.addons.attachment_s3.observers import observers
from odoo.tools import SQL

NAME = "stress"
#: few, so that the same content is written, deleted and written again all the time
CONTENTS = [
    hashlib.shake_128(f"content {number}".encode()).digest(200 + number * 251)
    for number in range(40)
]
#: about so many attachments exist: many contents have one, or none
POPULATION = 40
COUNTERS = (
    "operations",
    "commits",
    "rollbacks",
    "savepoint rollbacks",
    "conflicts",
    "missing reads",
    "collector runs",
    "put",
    "delete",
)
#: another transaction was faster: PostgreSQL's answers to that
CONFLICTS = (
    psycopg2.errors.SerializationFailure,
    psycopg2.errors.DeadlockDetected,
    psycopg2.errors.LockNotAvailable,
)


class Undo(Exception):
    """A savepoint is to be rolled back."""


class Stress:
    """The conductor of the workers.

    :param registry: of the database
    :param workers: processes beside the collector's
    :param operations: after how many to stop
    :param kills: how many processes to kill until then
    :param seconds: after how many to stop in any case
    """

    def __init__(self, registry, workers, operations, kills, seconds):
        self.registry = registry
        self.workers = workers
        self.operations = operations
        self.kills = kills
        self.seconds = seconds
        fork = multiprocessing.get_context("fork")
        # a row of counters for each role: one process at a time writes to it
        self.counters = [
            fork.RawArray("q", len(COUNTERS)) for _role in range(workers + 1)
        ]
        self.stopping = fork.RawValue("b", 0)
        self.random = random.Random(1)

    # the conductor

    def run(self):
        """Return what was reached."""
        started = time.monotonic()
        pids = {self.fork(role): role for role in range(self.workers + 1)}
        killed = 0
        while time.monotonic() < started + self.seconds:
            done = self.total("operations")
            if done >= self.operations and killed >= self.kills:
                break
            if killed < self.kills and done >= self.operations * killed / self.kills:
                time.sleep(self.random.uniform(0, 0.05))  # anywhere in a transaction
                pid = self.random.choice(list(pids))
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                killed += 1
                role = pids.pop(pid)
                pids[self.fork(role)] = role
            else:
                time.sleep(0.02)
            self.expect_all_alive(pids)
        self.stopping.value = 1
        failed = [pid for pid in pids if os.waitpid(pid, 0)[1]]
        return {
            **{name: self.total(name) for name in COUNTERS},
            "kills": killed,
            "failed": len(failed),
            "seconds": round(time.monotonic() - started, 1),
        }

    def total(self, name):
        index = COUNTERS.index(name)
        return sum(counters[index] for counters in self.counters)

    def expect_all_alive(self, pids):
        if ended := [pid for pid in pids if os.waitpid(pid, os.WNOHANG)[0]]:
            raise SystemExit(f"{len(ended)} processes ended; see their traceback")

    def fork(self, role):
        prepare = processes.die_with_parent()
        seed = self.random.random()
        sys.stdout.flush()
        if pid := os.fork():
            return pid
        status = 1
        try:
            prepare()
            observers.append(lambda done: self.count_request(role, done.name))
            if role:
                self.work(role, random.Random(seed))
            else:
                self.collect(role)
            status = 0
        finally:
            if status:
                sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
            os._exit(status)

    # the workers

    def count(self, role, name):
        self.counters[role][COUNTERS.index(name)] += 1

    def count_request(self, role, name):
        if name in COUNTERS:
            self.count(role, name)

    def collect(self, role):
        while not self.stopping.value:
            with self.registry.cursor() as cr:
                environment(cr)["attachment.s3.garbage"]._collect()
            self.count(role, "collector runs")
            time.sleep(0.05)  # two processors for all

    def work(self, role, rng):
        while not self.stopping.value:
            try:
                with self.registry.cursor() as cr:
                    self.transaction(environment(cr), role, rng)
            except CONFLICTS:
                self.count(role, "conflicts")

    def transaction(self, env, role, rng):
        for _operation in range(rng.randint(1, 4)):
            if rng.random() < 0.2:
                try:
                    with env.cr.savepoint():
                        self.operation(env, role, rng)
                        raise Undo
                except Undo:
                    self.count(role, "savepoint rollbacks")
            else:
                self.operation(env, role, rng)
        if rng.random() < 0.2:
            env.cr.rollback()
            self.count(role, "rollbacks")
        else:
            env.cr.commit()
            self.count(role, "commits")

    def operation(self, env, role, rng):
        """Do one; the smaller the population is, the likelier it grows."""
        ids = attachment_ids(env.cr)
        attachment = env["ir.attachment"].browse(rng.choice(ids) if ids else [])
        # what nobody else will write is left behind by the killed
        content = rng.choice(CONTENTS) if rng.random() < 0.7 else rng.randbytes(500)
        growth = 0.7 if len(ids) < POPULATION else 0.3
        if not ids or rng.random() < growth * 0.6:
            env["ir.attachment"].create({"name": NAME, "raw": content})
        elif rng.random() < growth * 0.5:
            attachment.copy({"name": NAME})
        elif rng.random() < 0.45:
            attachment.raw = content
        elif rng.random() < 0.2:
            # a deletion and a collection may be newer than this transaction's view
            if not attachment.raw:
                self.count(role, "missing reads")
        else:
            attachment.unlink()
        env.flush_all()
        self.count(role, "operations")


def environment(cr):
    return api.Environment(cr, SUPERUSER_ID, {})


def attachment_ids(cr):
    cr.execute(SQL("SELECT id FROM ir_attachment WHERE name = %s", NAME))
    return [id_ for (id_,) in cr.fetchall()]


def proof(registry):
    """Read all attachments, let the collector do the rest of its work."""
    with registry.cursor() as cr:
        wait_for_the_killed(cr)
        env = environment(cr)
        attachments = env["ir.attachment"].browse(attachment_ids(cr))
        wrong = [
            f"{attachment.id}: {attachment.store_fname} {attachment.checksum}"
            for attachment in attachments
            if not is_right(attachment)
        ]
        env["attachment.s3.garbage"]._collect()
        cr.rollback()
        return {
            "attachments": len(attachments),
            "wrong": wrong,
            "noted": env["attachment.s3.garbage"].search_count([]),
        }


def is_right(attachment):
    content = attachment.raw
    checksum = hashlib.sha1(content).hexdigest()
    key = attachment.store_fname.rpartition("/")[2]
    return (
        content
        and attachment.checksum == checksum
        and key == hashlib.sha256(content).hexdigest()
    )


def wait_for_the_killed(cr):
    """Wait until PostgreSQL has rolled back the transactions of killed processes."""

    def gone():
        cr.execute(
            """SELECT 1 FROM pg_stat_activity
                WHERE datname = current_database() AND pid != pg_backend_pid()
                  AND backend_type = 'client backend'"""
        )
        found = cr.fetchone()
        cr.rollback()  # the view is one of the transaction
        return not found

    processes.wait_until(gone, "end of the killed processes' transactions", 30)


def main(env, **arguments):
    """Run, print the figures as JSON, and end this process."""
    registry = env.registry
    env.cr.close()
    sql_db.close_all()  # a connection must not be shared by forked processes
    reached = Stress(registry, **arguments).run()
    print("STRESS", json.dumps({**reached, **proof(registry)}), flush=True)
    os._exit(0)
