"""What boto3 makes of every kind of error. The file that the argument names says what to call and what to expect."""

import functools
import json
import os
import sys

import boto3
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import ClientError

# What is wrong is for sagelocal to say, not for boto3.
config = Config(retries={"total_max_attempts": 1}, parameter_validation=False)


@functools.lru_cache(None)
def client(service, url, raw):
    made = boto3.client(service, config=config, endpoint_url=url)

    def replace(params, **_):
        params["body"] = raw.encode()

    if raw:
        made.meta.events.register("before-call", replace)
    return made


def check(case, loopback):
    service = "sagemaker-runtime" if case["runtime"] else "sagemaker"
    url = loopback if case["loopback"] else os.environ["AWS_ENDPOINT_URL_SAGEMAKER"]
    caller = client(service, url, case.get("raw"))
    try:
        getattr(caller, xform_name(case["operation"]))(**case["input"])
    except ClientError as error:
        response = error.response
        kind = type(error).__name__
        assert kind == (case["code"] if case["typed"] else "ClientError"), kind
        assert not case["typed"] or isinstance(error, getattr(caller.exceptions, case["code"])), kind
        assert response["Error"]["Code"] == case["code"], response
        text = response["Error"]["Message"] or ""
        assert text.startswith(case["message"]) if case["begins"] else text == case["message"], text
        assert response["ResponseMetadata"]["HTTPStatusCode"] == case["status"], response
        assert len(response["ResponseMetadata"]["RequestId"]) == 36, response
        for name, value in case.get("members", {}).items():
            assert response[name] == value, response
        return
    raise AssertionError("it was accepted")


with open(sys.argv[1]) as file:
    given = json.load(file)
failed = 0
for case in given["cases"]:
    try:
        check(case, given["loopback"])
    except AssertionError as error:
        print("boto3:", case["name"], "failed:", error, flush=True)
        failed += 1
print("boto3: %d errors decoded" % (len(given["cases"]) - failed), flush=True)
sys.exit(failed != 0)
