"""The question to S3, for ``odoo cloudcheck``."""

import secrets
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

from odoo.addons.cloud_platform.faults import Fault
from odoo.addons.cloud_platform.probes import Result

#: S3 refuses requests with a date that is 15 minutes off (S3's API reference, error
#: RequestTimeTooSkewed)
SKEW_FAULT_SECONDS = 15 * 60
SKEW_ADVICE_SECONDS = 60


def s3(store, prefix: str, writable: bool) -> Result:
    """Write, read and delete an object under the own prefix; read when read-only.

    :param store: a store of attachment_s3
    :param prefix: folder of this database in the bucket
    :param writable: the environment may write to the bucket
    """
    connection = store.connection
    result = Result(f"{store.bucket} at {connection}, region {connection.region}")
    if writable:
        _write_and_delete(store, prefix, result)
    else:
        result.detail += ", read-only"
        next(iter(store.list(f"{prefix}/")), None)
    _check_clock(store, result)
    return result


def _write_and_delete(store, prefix, result):
    key = f"{prefix}/cloudcheck/{secrets.token_hex(8)}"
    content = secrets.token_bytes(64)
    store.put(key, content)
    try:
        if store.get(key, len(content)) != content:
            result.faults.append(
                Fault(
                    "AWS_BUCKETNAME",
                    "does not give back what was written to it",
                    "Check the object store",
                )
            )
    finally:
        for error in store.delete([key]).values():
            if error:
                result.faults.append(
                    Fault(
                        "AWS_ACCESS_KEY_ID",
                        f"may not delete: {error}",
                        "Allow DeleteObject to this key",
                    )
                )


def _check_clock(store, result):
    """Compare the clocks: signatures hold the time."""
    answer = store.client.list_objects_v2(Bucket=store.bucket, MaxKeys=1)
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    if not date:
        return
    skew = abs(datetime.now(timezone.utc) - parsedate_to_datetime(date)).total_seconds()
    if skew > SKEW_FAULT_SECONDS:
        problem = f"differs by {skew:.0f} seconds from the object store's"
        remedy = "Synchronise the clock of this machine"
        result.faults.append(Fault("clock", problem, remedy))
    elif skew > SKEW_ADVICE_SECONDS:
        result.advice.append(f"the clocks differ by {skew:.0f} seconds")
