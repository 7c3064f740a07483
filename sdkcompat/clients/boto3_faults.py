"""Injected faults, as boto3 sees them and as its retries hide them: prints a line per step, ends at the first failure.

The environment is that of boto3_journey.py, and DAEMON, the daemon's URL.
"""

import json
import os
import urllib.request

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

ACCOUNT = os.environ["ACCOUNT"]
FAULTS = "%s/_sagelocal/endpoints/faulty/faults?account=%s" % (os.environ["DAEMON"], ACCOUNT)


def client(name, **retries):
    endpoint = os.environ["AWS_ENDPOINT_URL_" + name.replace("-", "_").upper()]
    return boto3.client(name, config=Config(retries=retries), endpoint_url=endpoint)


sm, once = client("sagemaker", total_max_attempts=1), client("sagemaker-runtime", total_max_attempts=1)


def step(text):
    print("boto3:", text, flush=True)


def admin(method, body=None):
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(FAULTS, data, method=method)) as answer:
        return json.load(answer)


def inject(fault, times, **more):
    admin("PUT", {"rules": [dict(more, fault=fault, times=times)]})


def struck():
    return [rule["struck"] for rule in admin("GET")["rules"]]


def invoke(runtime):
    out = runtime.invoke_endpoint(EndpointName="faulty", Body=b"hello")
    assert out["Body"].read() == b"hello"
    return out["ResponseMetadata"]["RetryAttempts"]


def refused(runtime):
    try:
        invoke(runtime)
    except ClientError as error:
        return error
    raise AssertionError("no fault struck")


sm.create_model(
    ModelName="faulty", ExecutionRoleArn="arn:aws:iam::%s:role/sagemaker" % ACCOUNT, PrimaryContainer={"Image": "echo:1"}
)
variant = {"VariantName": "v", "ModelName": "faulty", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
sm.create_endpoint_config(EndpointConfigName="faulty", ProductionVariants=[variant])
sm.create_endpoint(EndpointName="faulty", EndpointConfigName="faulty")
sm.get_waiter("endpoint_in_service").wait(EndpointName="faulty", WaiterConfig={"Delay": 1, "MaxAttempts": 60})

for code, status in (
    ("ThrottlingException", 400),
    ("InternalFailure", 500),
    ("ServiceUnavailable", 503),
    ("ModelNotReadyException", 429),
):
    inject(code, 1)
    error = refused(once)
    assert error.response["Error"]["Code"] == code, error.response
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == status, error.response
    typed = getattr(once.exceptions, code, ClientError)  # AWS's model does not have ThrottlingException
    assert isinstance(error, typed) and (typed is ClientError) == (code == "ThrottlingException"), error
    assert invoke(once) == 0
inject("ModelError", 1, status=503, body="overloaded")
error = refused(once)
assert isinstance(error, once.exceptions.ModelError), error
assert (error.response["OriginalStatusCode"], error.response["OriginalMessage"]) == (503, "overloaded"), error.response
inject("StreamBroken", 1)
assert isinstance(refused(once), once.exceptions.ModelError)
step("faults are boto3's exceptions")

for mode in ("legacy", "standard"):  # boto3's default, and AWS's
    runtime = client("sagemaker-runtime", total_max_attempts=3, mode=mode)
    inject("ThrottlingException", 2)
    assert invoke(runtime) == 2 and struck() == [2], (mode, struck())
    inject("ServiceUnavailable", 1)
    assert invoke(runtime) == 1 and struck() == [1], (mode, struck())
    inject("ModelError", 1, status=400)
    error = refused(runtime)
    assert error.response["ResponseMetadata"]["RetryAttempts"] == 0, (mode, error.response)
    step("%s retries hide throttles" % mode)

inject("ThrottlingException", 3)
error = refused(client("sagemaker-runtime", mode="standard", total_max_attempts=3))
assert error.response["Error"]["Code"] == "ThrottlingException", error.response
assert error.response["ResponseMetadata"]["MaxAttemptsReached"] and struck() == [3], error.response
step("what outlasts the retries is seen")
