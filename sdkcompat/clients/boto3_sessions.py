"""Stateful sessions with boto3: prints a line per step, ends at the first failure.

The environment is that of boto3_journey.py. The image stateful answers with its instance's id, and with 400 to a session
that it did not begin.
"""

import datetime
import os

import boto3
from botocore.config import Config

ROLE = "arn:aws:iam::%s:role/sagemaker" % os.environ["ACCOUNT"]
GONE = "Endpoint chat has no such session: it has expired, was closed, or ended with its instance."
# A stream cannot begin a session: its pattern has no underscore.
NO_BEGIN = (
    "1 validation error detected: Value 'NEW_SESSION' at 'sessionId' failed to satisfy constraint: "
    "Member must satisfy regular expression pattern: ^[a-zA-Z0-9](-*[a-zA-Z0-9])*$"
)
config = Config(retries={"total_max_attempts": 1})
sm = boto3.client("sagemaker", config=config, endpoint_url=os.environ["AWS_ENDPOINT_URL_SAGEMAKER"])
runtime = boto3.client("sagemaker-runtime", config=config, endpoint_url=os.environ["AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"])
# Older versions of boto3 know InvokeEndpoint's SessionId, but not that of streams.
streams = "SessionId" in runtime.meta.service_model.operation_model("InvokeEndpointWithResponseStream").input_shape.members


def step(text):
    print("boto3:", text, flush=True)


def invoke(session, body=b"{}"):
    out = runtime.invoke_endpoint(EndpointName="chat", SessionId=session, Body=body)
    return out, out["Body"].read().decode()


def refused(message, call, **arguments):
    try:
        call(EndpointName="chat", Body=b"{}", **arguments)
    except runtime.exceptions.ValidationError as error:
        assert error.response["Error"]["Message"] == message, error.response
        return
    raise AssertionError("%s was accepted" % arguments)


sm.create_model(ModelName="chat", ExecutionRoleArn=ROLE, PrimaryContainer={"Image": "stateful:1"})
variant = {"VariantName": "v", "ModelName": "chat", "InstanceType": "ml.m5.large", "InitialInstanceCount": 4}
sm.create_endpoint_config(EndpointConfigName="chat", ProductionVariants=[variant])
sm.create_endpoint(EndpointName="chat", EndpointConfigName="chat")
sm.get_waiter("endpoint_in_service").wait(EndpointName="chat", WaiterConfig={"Delay": 1, "MaxAttempts": 60})

homes = {}
now = datetime.datetime.now(datetime.timezone.utc)
for _ in range(12):
    out, instance = invoke("NEW_SESSION")
    session, expires = out["NewSessionId"].split("; Expires=")
    until = datetime.datetime.strptime(expires, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc)
    assert datetime.timedelta(minutes=18) < until - now < datetime.timedelta(minutes=22), expires
    homes[session] = instance
assert len(homes) == 12 and len(set(homes.values())) > 1, homes
step("sessions begin on several instances")

for session, instance in list(homes.items()) * 3:
    out, answered = invoke(session)
    assert answered == instance, (session, answered, instance)
    assert "NewSessionId" not in out and "ClosedSessionId" not in out, out
if streams:
    session, instance = next(iter(homes.items()))
    out = runtime.invoke_endpoint_with_response_stream(EndpointName="chat", SessionId=session, Body=b"{}")
    assert b"".join(event["PayloadPart"]["Bytes"] for event in out["Body"]).decode() == instance, instance
    refused(NO_BEGIN, runtime.invoke_endpoint_with_response_stream, SessionId="NEW_SESSION")
step("requests go to the instance that has their session")

closed, *others = homes
out, _ = invoke(closed, b'{"requestType": "CLOSE"}')
assert out["ClosedSessionId"] == closed, out
refused(GONE, runtime.invoke_endpoint, SessionId=closed)
assert invoke(others[0])[1] == homes[others[0]]
step("a session is closed")

desired = [{"VariantName": "v", "DesiredInstanceCount": 1}]
sm.update_endpoint_weights_and_capacities(EndpointName="chat", DesiredWeightsAndCapacities=desired)
sm.get_waiter("endpoint_in_service").wait(EndpointName="chat", WaiterConfig={"Delay": 1, "MaxAttempts": 60})
_, left = invoke("NEW_SESSION")
for session in others:
    if homes[session] == left:
        assert invoke(session)[1] == left
    else:
        refused(GONE, runtime.invoke_endpoint, SessionId=session)
step("sessions end with their instance")
