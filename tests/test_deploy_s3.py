"""What the policies under deploy/s3 allow, with the operations of attachment_s3.

The S3 server of the tests decides by them as Amazon's does: allowed is what a statement
allows. Each policy belongs to a user of its own.
"""

import importlib
import json

import boto3
import botocore.exceptions
import pytest
import requests
from pydantic import SecretStr
from toolbox import project
from toolbox.services import REGION

import odoo.addons

if str(project.ROOT) not in odoo.addons.__path__:
    odoo.addons.__path__.append(str(project.ROOT))
store_module = importlib.import_module("odoo.addons.attachment_s3.store")
exceptions = importlib.import_module("odoo.addons.attachment_s3.exceptions")

S3 = project.ROOT / "deploy" / "s3"
BUCKET = "acme-odoo-prod"
LARGE = bytes(store_module.MULTIPART.multipart_threshold)
POLICIES = {
    name: json.loads((S3 / f"{name}-policy.json").read_text())
    for name in ("prod", "integration")
}


@pytest.fixture(scope="module")
def root(request, services):
    """Return a function that makes root's client of a service of the S3 server."""
    if request.config.getoption("--s3") != "ministack":
        pytest.skip("this S3 server knows no policies")
    key, secret = services.state["s3_root"]

    def client(name):
        return boto3.client(
            name,
            endpoint_url=services.env["AWS_HOST"],
            region_name=REGION,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
        )

    client("s3").create_bucket(Bucket=BUCKET)
    return client


@pytest.fixture(scope="module")
def make_store(root, services):
    """Return a function that makes the addon's store for a user with a policy."""
    iam = root("iam")
    users = []

    def make(policy):
        user = f"deploy-{len(users)}"
        users.append(user)
        if user in [u["UserName"] for u in iam.list_users()["Users"]]:
            for key in iam.list_access_keys(UserName=user)["AccessKeyMetadata"]:
                iam.delete_access_key(UserName=user, AccessKeyId=key["AccessKeyId"])
        else:
            iam.create_user(UserName=user)
        iam.put_user_policy(
            UserName=user, PolicyName="deploy", PolicyDocument=json.dumps(policy)
        )
        key = iam.create_access_key(UserName=user)["AccessKey"]
        connection = store_module.Connection(
            host=services.env["AWS_HOST"],
            region=REGION,
            access_key=key["AccessKeyId"],
            secret_key=SecretStr(key["SecretAccessKey"]),
            session_token=None,
            addressing_style="path",
            ca_bundle=None,
            connect_timeout=2,
            read_timeout=10,
            max_attempts=1,
            pool_size=4,
        )
        return store_module.S3Store(connection, BUCKET)

    return make


def put(store):
    store.put_verified("policy/put", b"content")


def put_large(store):
    store.put_verified("policy/large", LARGE)


def put_large_and_fail(store):
    """An upload in parts that breaks off leaves no part behind."""

    def fail(**_arguments):
        raise botocore.exceptions.ConnectionClosedError(endpoint_url="of a test")

    store.client.meta.events.register("before-call.s3.UploadPart", fail)
    try:
        with pytest.raises(exceptions.S3Error):
            store.put("policy/abandoned", LARGE)
    finally:
        store.client.meta.events.unregister("before-call.s3.UploadPart", fail)


def get(store):
    assert store.get("policy/stored") == b"stored"
    assert store.get("policy/stored", 3) == b"sto"
    assert store.size("policy/stored") == 6


def get_by_signed_url(store):
    """What a browser or nginx is given."""
    parameters = {"Bucket": BUCKET, "Key": "policy/stored"}
    url = store.client.generate_presigned_url("get_object", Params=parameters)
    answer = requests.get(url, timeout=10)
    if answer.status_code == 403:
        raise exceptions.S3AccessDenied("signed URL")
    assert answer.content == b"stored"


def delete(store):
    for number in (1, 3):  # alone, and in bulk
        keys = [f"policy/delete-{number}-{count}" for count in range(number)]
        result = store.delete(keys)
        assert list(result) == keys
        if any(result.values()):
            raise exceptions.S3AccessDenied(str(result))


def find_the_missing(store):
    """Without the right to list, Amazon answers 403 and not 404."""
    for ask in (store.size, store.get):
        with pytest.raises(exceptions.S3ObjectMissing):
            ask("policy/missing")


def list_objects(store):
    keys = {found["Key"] for found in store.list("policy/")}
    assert "policy/stored" in keys


READS = (get, get_by_signed_url, find_the_missing, list_objects)
WRITES = (put, put_large, delete)


@pytest.fixture(autouse=True)
def stored(root):
    s3 = root("s3")
    for key in ("stored", "delete-1-0", "delete-3-0", "delete-3-1", "delete-3-2"):
        s3.put_object(Bucket=BUCKET, Key=f"policy/{key}", Body=b"stored")


def uploads(root):
    return root("s3").list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])


@pytest.fixture(scope="module")
def prod(make_store):
    return make_store(POLICIES["prod"])


@pytest.fixture(scope="module")
def integration(make_store):
    return make_store(POLICIES["integration"])


@pytest.mark.parametrize("operation", READS + WRITES, ids=lambda f: f.__name__)
def test_prod_may_do_all_that_the_addon_does(prod, operation):
    operation(prod)


def test_prod_clears_away_a_large_upload_that_failed(prod, root):
    put_large_and_fail(prod)
    assert uploads(root) == []


@pytest.mark.parametrize("operation", READS, ids=lambda f: f.__name__)
def test_integration_may_read(integration, operation):
    operation(integration)


@pytest.mark.parametrize("operation", WRITES, ids=lambda f: f.__name__)
def test_integration_may_not_write(integration, operation, root):
    def contents():
        listed = root("s3").list_objects_v2(Bucket=BUCKET)["Contents"]
        return {found["Key"]: found["LastModified"] for found in listed}

    before = contents()
    with pytest.raises(exceptions.S3AccessDenied):
        operation(integration)
    assert contents() == before
    assert uploads(root) == []


@pytest.mark.parametrize("name", POLICIES)
def test_neither_may_use_another_bucket(name, root, make_store):
    root("s3").create_bucket(Bucket="other-odoo-prod")
    root("s3").put_object(Bucket="other-odoo-prod", Key="policy/stored", Body=b"stored")
    mine = make_store(POLICIES[name])
    other = store_module.S3Store(mine.connection, "other-odoo-prod")
    for ask in (get, list_objects, put):
        with pytest.raises(exceptions.S3AccessDenied):
            ask(other)


@pytest.mark.parametrize(
    ("name", "action", "operation"),
    [
        ("prod", "s3:GetObject", get),
        ("prod", "s3:PutObject", put),
        ("prod", "s3:DeleteObject", delete),
        ("prod", "s3:ListBucket", list_objects),
        ("integration", "s3:GetObject", get),
        ("integration", "s3:ListBucket", list_objects),
    ],
)
def test_each_right_is_needed(make_store, name, action, operation):
    with pytest.raises(exceptions.S3AccessDenied):
        operation(make_store(without(POLICIES[name], action)))


def test_right_to_abort_is_needed(make_store, root):
    put_large_and_fail(make_store(without(POLICIES["prod"], "s3:AbortMultipartUpload")))
    try:
        assert len(uploads(root)) == 1
    finally:
        for upload in uploads(root):
            root("s3").abort_multipart_upload(
                Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"]
            )


def without(policy, action):
    statements = []
    for statement in policy["Statement"]:
        actions = statement["Action"]
        actions = [actions] if isinstance(actions, str) else actions
        rest = [name for name in actions if name != action]
        if rest:
            statements.append({**statement, "Action": rest})
    assert statements != policy["Statement"]
    return {**policy, "Statement": statements}


def test_policies_are_the_rights_that_the_readme_names():
    readme = project.ROOT / "attachment_s3" / "readme" / "CONFIGURE.md"
    text = readme.read_text()
    for policy in POLICIES.values():
        for statement in policy["Statement"]:
            actions = statement["Action"]
            for action in [actions] if isinstance(actions, str) else actions:
                assert f"`{action}`" in text


def test_lifecycle_ends_abandoned_uploads_and_touches_no_object(root):
    rules = json.loads((S3 / "lifecycle.json").read_text())
    s3 = root("s3")
    s3.put_bucket_lifecycle_configuration(Bucket=BUCKET, LifecycleConfiguration=rules)
    [rule] = s3.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    assert not {"Expiration", "NoncurrentVersionExpiration", "Transitions"} & set(rule)
