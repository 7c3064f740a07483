"""Shadow variants and data capture as boto3 sees them: prints a line per step, ends at the first failure.

AWS_ENDPOINT_URL_SAGEMAKER, AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME, AWS_ENDPOINT_URL_S3,
the credentials and ACCOUNT stand in the environment.
"""

import base64
import datetime
import json
import os
import re
import time
import urllib.request

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

ACCOUNT = os.environ["ACCOUNT"]
URL = os.environ["AWS_ENDPOINT_URL_SAGEMAKER"]
BUCKET = "captured-" + ACCOUNT
POLL = {"Delay": 1, "MaxAttempts": 60}

config = Config(retries={"total_max_attempts": 1})
sm = boto3.client("sagemaker", config=config, endpoint_url=URL)
runtime = boto3.client("sagemaker-runtime", config=config, endpoint_url=os.environ["AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"])
s3 = boto3.client("s3", config=config, endpoint_url=os.environ["AWS_ENDPOINT_URL_S3"])


def step(text):
    print("boto3:", text, flush=True)


def admin(path):
    with urllib.request.urlopen("%s/_sagelocal/%s?account=%s" % (URL, path, ACCOUNT)) as answer:
        return json.load(answer)


def until(what, probe):
    for _ in range(600):
        value = probe()
        if value:
            return value
        time.sleep(0.1)
    raise AssertionError(what)


def lines(variant):
    """The captured records of a variant in the order of their keys."""
    all = []
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="data/Flowers/%s/" % variant):
        for found in page.get("Contents", []):
            assert re.fullmatch(
                r"data/Flowers/%s/\d{4}/\d\d/\d\d/\d\d/\d\d-\d\d-\d{3}-[0-9a-f-]{36}\.jsonl" % variant, found["Key"]
            ), found
            body = s3.get_object(Bucket=BUCKET, Key=found["Key"])["Body"].read().decode()
            assert body.endswith("\n"), body
            all += [json.loads(line) for line in body.splitlines()]
    return all


def variant(name, model):
    return {"VariantName": name, "ModelName": model, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}


def create():
    for name in ("blue", "green"):
        sm.create_model(ModelName=name, PrimaryContainer={"Image": "tell-%s:1" % name})
    sm.create_endpoint_config(
        EndpointConfigName="flowers",
        ProductionVariants=[variant("main", "blue")],
        ShadowProductionVariants=[variant("side", "green")],
        DataCaptureConfig={
            "EnableCapture": True,
            "InitialSamplingPercentage": 100,
            "DestinationS3Uri": "s3://%s/data" % BUCKET,
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
            "CaptureContentTypeHeader": {"CsvContentTypes": ["text/csv"], "JsonContentTypes": ["application/json"]},
        },
    )
    sm.create_endpoint(EndpointName="Flowers", EndpointConfigName="flowers")
    sm.get_waiter("endpoint_in_service").wait(EndpointName="Flowers", WaiterConfig=POLL)
    out = sm.describe_endpoint(EndpointName="Flowers")
    assert [v["VariantName"] for v in out["ProductionVariants"]] == ["main"], out
    (side,) = out["ShadowProductionVariants"]
    assert side["VariantName"] == "side" and side["CurrentInstanceCount"] == 1 and side["CurrentWeight"] == 1.0, side
    assert out["DataCaptureConfig"] == {
        "EnableCapture": True, "CaptureStatus": "Started", "CurrentSamplingPercentage": 100,
        "DestinationS3Uri": "s3://%s/data" % BUCKET, "KmsKeyId": "",
    }, out["DataCaptureConfig"]  # fmt: skip
    step("endpoint with shadow variant and data capture is in service")


def invoke(body, **more):
    out = runtime.invoke_endpoint(EndpointName="Flowers", Body=body, **more)
    assert out["InvokedProductionVariant"] == "main", out
    return out["Body"].read().decode(errors="replace")


def copies():
    (endpoint,) = admin("fleet")["endpoints"]
    (side,) = endpoint["shadow_variants"]
    return side["copies"]


def requests():
    begun = datetime.datetime.now(datetime.timezone.utc)
    assert invoke("request 1,2", ContentType="text/csv", InferenceId="first", CustomAttributes="trace=1") == "blue 1,2"
    assert invoke('request {"a": "é"}', ContentType="application/json") == 'blue {"a": "é"}'
    assert invoke(b"request \xff\x00", ContentType="application/x-image").startswith("blue ")
    try:
        invoke("request 4", TargetVariant="side")
        raise AssertionError("a shadow variant was invoked")
    except ClientError as error:
        assert error.response["Error"]["Code"] == "ValidationError", error.response
    got = until("no copies", lambda: copies()["sent"] == 3 and copies())
    assert got["dropped"] == got["errors"] == 0, got
    step("requests are answered by the production variant and copied to the shadow variant")
    return begun


def absent_bucket():
    capture = until("no error", lambda: [c for c in admin("capture")["captures"] if c["failures"]])[0]
    assert "NoSuchBucket" in capture["last_error"] and capture["written"] == 0, capture
    assert invoke("request 5", ContentType="text/csv") == "blue 5"
    s3.create_bucket(Bucket=BUCKET)
    step("nobody but GET /_sagelocal/capture notices that the bucket is absent")


def captured(begun):
    until("no records", lambda: len(lines("main")) == 4 and len(lines("side")) == 4)
    first, second, third, _ = lines("main")
    assert first["captureData"] == {
        "endpointInput": {"observedContentType": "text/csv", "mode": "INPUT", "data": "request 1,2", "encoding": "CSV"},
        "endpointOutput": dict(first["captureData"]["endpointOutput"], mode="OUTPUT", data="blue 1,2"),
    }, first
    assert first["eventVersion"] == "0", first
    metadata = first["eventMetadata"]
    assert metadata["inferenceId"] == "first" and metadata["customAttributes"] == ["trace=1"], metadata
    moment = datetime.datetime.strptime(metadata["inferenceTime"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc)
    assert abs(moment - begun) < datetime.timedelta(seconds=30), metadata
    assert second["captureData"]["endpointInput"]["encoding"] == "JSON", second
    assert second["captureData"]["endpointInput"]["data"] == 'request {"a": "é"}', second
    assert "inferenceId" not in second["eventMetadata"] and "customAttributes" not in second["eventMetadata"], second
    assert third["captureData"]["endpointInput"]["encoding"] == "BASE64", third
    assert base64.b64decode(third["captureData"]["endpointInput"]["data"]) == b"request \xff\x00", third
    assert len({line["eventMetadata"]["eventId"] for line in lines("main") + lines("side")}) == 8
    answers = {base64.b64decode(line["captureData"]["endpointOutput"]["data"]) if line["captureData"]["endpointOutput"]["encoding"] == "BASE64"
               else line["captureData"]["endpointOutput"]["data"].encode() for line in lines("side")}  # fmt: skip
    assert b"green 1,2" in answers and b"green 5" in answers, answers
    capture = admin("capture")["captures"][0]
    assert capture["endpoint"] == "Flowers" and capture["sampled"] == capture["written"] == 8, capture
    assert capture["last_key"].startswith(BUCKET + "/data/Flowers/") and "last_error" not in capture, capture
    step("requests and both variants' answers are in the bucket")


def scale():
    sm.update_endpoint_weights_and_capacities(
        EndpointName="Flowers", DesiredWeightsAndCapacities=[{"VariantName": "side", "DesiredWeight": 0, "DesiredInstanceCount": 2}]
    )
    sm.get_waiter("endpoint_in_service").wait(EndpointName="Flowers", WaiterConfig=POLL)
    (side,) = sm.describe_endpoint(EndpointName="Flowers")["ShadowProductionVariants"]
    assert side["CurrentInstanceCount"] == 2 and side["CurrentWeight"] == 0.0, side
    before = copies()["sent"]
    assert invoke("request 6", ContentType="text/csv") == "blue 6"
    assert copies()["sent"] == before
    step("the shadow variant is scaled and weighs nothing")


def delete():
    sm.delete_endpoint(EndpointName="Flowers")
    sm.get_waiter("endpoint_deleted").wait(EndpointName="Flowers", WaiterConfig=POLL)
    until("the last record is lost", lambda: len(lines("main")) == 5)
    assert len(lines("side")) == 4
    step("what was captured last is written when the endpoint is gone")


if __name__ == "__main__":
    create()
    begun = requests()
    absent_bucket()
    captured(begun)
    scale()
    delete()
