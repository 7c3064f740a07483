"""A serverless endpoint, as boto3 sees it: cold starts, throttles, the payload limit.

The environment is that of boto3_journey.py, the configuration that of serverless_test.go: environments start in half a
second, answer in two seconds and stop after one without a request.
"""

import os
import threading
import time

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

config = Config(retries={"total_max_attempts": 1}, max_pool_connections=10)
sm = boto3.client("sagemaker", config=config, endpoint_url=os.environ["AWS_ENDPOINT_URL_SAGEMAKER"])
runtime = boto3.client("sagemaker-runtime", config=config, endpoint_url=os.environ["AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"])
ROLE = "arn:aws:iam::%s:role/sagemaker" % os.environ["ACCOUNT"]
SERVERLESS = {"MemorySizeInMB": 2048, "MaxConcurrency": 2}


def deploy(name, image):
    sm.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer={"Image": image})
    sm.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[{"VariantName": "AllTraffic", "ModelName": name, "ServerlessConfig": SERVERLESS}],
    )
    sm.create_endpoint(EndpointName=name, EndpointConfigName=name)
    sm.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})


def invoke(name, body=b"hello"):
    return runtime.invoke_endpoint(EndpointName=name, ContentType="text/plain", Body=body)


def cold_start(response):
    return int(response["ResponseMetadata"]["HTTPHeaders"].get("x-sagelocal-cold-start-ms", 0))


def refusal(call):
    try:
        call()
    except ClientError as error:
        return error
    raise AssertionError("it was accepted")


deploy("slow", "slow:1")
variant = sm.describe_endpoint(EndpointName="slow")["ProductionVariants"][0]
assert variant["CurrentServerlessConfig"] == SERVERLESS == variant["DesiredServerlessConfig"], variant
assert "CurrentInstanceCount" not in variant, variant
print("boto3: serverless endpoint is InService", flush=True)

deadline = time.time() + 120
while not cold_start(invoke("slow")):
    assert time.time() < deadline, "no cold start was seen"
    time.sleep(3)  # longer than an idle environment stays
print("boto3: a cold start was seen", flush=True)


def attempt(results):
    try:
        results.append(invoke("slow"))
    except ClientError as error:
        results.append(error)


def together(count):
    results = []
    threads = [threading.Thread(target=attempt, args=(results,)) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [r for r in results if isinstance(r, ClientError)], len(results)


errors, asked = together(3)
while not errors:  # a busy machine may start them one after the other
    assert time.time() < deadline, "nothing was throttled"
    errors, asked = together(3)
assert len(errors) == 1 and asked == 3, errors
throttle = errors[0]
assert throttle.response["Error"]["Code"] == "ThrottlingException", throttle.response
assert throttle.response["Error"]["Message"] is None, throttle.response
assert throttle.response["ResponseMetadata"]["HTTPStatusCode"] == 400, throttle.response
print("boto3: ThrottlingException beyond MaxConcurrency", flush=True)

deploy("double", "double:1")
large = refusal(lambda: invoke("double", b"x" * (4 << 20) + b"x")).response
assert large["Error"]["Code"] == "RequestEntityTooLargeException", large
assert large["ResponseMetadata"]["HTTPStatusCode"] == 413, large
try:
    invoke("double", b"x" * (3 << 20))
    raise AssertionError("6 MB were passed on")
except runtime.exceptions.ModelError as error:
    assert error.response["OriginalStatusCode"] == 0, error.response
    assert "larger than 4194304 bytes" in error.response["OriginalMessage"], error.response
print("boto3: 4 MB are the limit", flush=True)
