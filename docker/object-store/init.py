"""One-shot, idempotent: make the bucket, its users and their rights. Anything that goes wrong is a failed service.

A missing bucket or a user with a stale key shows up much later and far away, in a job; here it is said at once. Run
again it changes nothing, except that a secret which changed in `.env` is set anew.
"""

import json
import os
import sys
from typing import Any

from minio import Minio, MinioAdmin
from minio.credentials import StaticProvider
from tenacity import retry, stop_after_delay, wait_exponential
from urllib3 import PoolManager, Retry, Timeout
from urllib3.util import parse_url

BUCKET = os.environ["LAKE_BUCKET"]


def say(message: str) -> None:
    print(f"object-store-init: {message}", flush=True)


def statement(actions: list[str], resource: str, **condition: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": actions, "Resource": [f"arn:aws:s3:::{resource}"], **condition}


# MinIO lets every user make service accounts of its own unless a policy denies it. They would go on working after the
# secret of the user was changed, so a secret that leaked once could never be taken back. No policy can deny temporary
# keys: the store ends them after an hour (compose.yaml).
NO_KEYS_OF_ITS_OWN = {"Effect": "Deny", "Action": ["admin:*"]}
# Jobs may do everything with objects of the bucket, and nothing with the bucket itself but look at it.
JOBS = {
    "Version": "2012-10-17",
    "Statement": [
        NO_KEYS_OF_ITS_OWN,
        statement(["s3:ListBucket", "s3:GetBucketLocation", "s3:ListBucketMultipartUploads"], BUCKET),
        statement(
            [
                "s3:GetObject",
                "s3:PutObject",
                "s3:DeleteObject",
                "s3:AbortMultipartUpload",
                "s3:ListMultipartUploadParts",
            ],
            f"{BUCKET}/*",
        ),
    ],
}
# The endpoint may list and read what is under warehouse/, whatever SQL someone sends it.
ENDPOINT = {
    "Version": "2012-10-17",
    "Statement": [
        NO_KEYS_OF_ITS_OWN,
        statement(["s3:GetBucketLocation"], BUCKET),
        statement(
            ["s3:ListBucket"],
            BUCKET,
            Condition={"StringLike": {"s3:prefix": ["warehouse", "warehouse/", "warehouse/*"]}},
        ),
        statement(["s3:GetObject"], f"{BUCKET}/warehouse/*"),
    ],
}


@retry(
    stop=stop_after_delay(60),
    wait=wait_exponential(max=5),
    before_sleep=lambda attempt: say(
        f"not yet ({attempt.outcome.exception() if attempt.outcome else ''}), trying again"
    ),
    reraise=True,
)
def initialise() -> None:
    url = parse_url(os.environ["LAKE_S3_ENDPOINT"])
    store = {
        "endpoint": f"{url.host}:{url.port}" if url.port else str(url.host),
        "credentials": StaticProvider(os.environ["LAKE_S3_ADMIN"], os.environ["LAKE_S3_ADMIN_SECRET"]),
        "secure": url.scheme == "https",
        # The library's own defaults are five minutes and five tries each.
        "http_client": PoolManager(
            timeout=Timeout(connect=5, read=20),
            retries=Retry(0),
            cert_reqs="CERT_REQUIRED",
            ca_certs="/etc/ssl/certs/ca-certificates.crt",
        ),
    }
    client, admin = Minio(**store), MinioAdmin(**store)

    if client.bucket_exists(BUCKET):
        say(f"bucket {BUCKET} is there")
    else:
        client.make_bucket(BUCKET)
        say(f"bucket {BUCKET} made")
    for user, secret, policy in (
        (os.environ["LAKE_S3_JOBS"], os.environ["LAKE_S3_JOBS_SECRET"], JOBS),
        (os.environ["LAKE_S3_ENDPOINT_USER"], os.environ["LAKE_S3_ENDPOINT_SECRET"], ENDPOINT),
    ):
        admin.policy_add(user, policy=policy)
        admin.user_add(user, secret)
        admin.policy_set(user, user=user)
        # Nobody makes service accounts here but who has a leaked secret, before this policy denied it.
        for account in json.loads(admin.list_service_account(user)).get("accounts") or []:
            admin.delete_service_account(account["accessKey"])
            say(f"service account {account['accessKey']} of {user} deleted")
        say(f"user {user} has its policy")


if __name__ == "__main__":
    try:
        initialise()
    except Exception as error:  # the last word of a one-shot service: a line that can be read, not a stack
        say(f"FAILED: {type(error).__name__}: {error}")
        sys.exit(1)
