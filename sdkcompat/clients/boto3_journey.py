"""The journey of boto3 against sagelocal: prints a line per step, ends at the first failure.

AWS_ENDPOINT_URL_SAGEMAKER, AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME, the credentials
and ACCOUNT stand in the environment.
"""

import datetime
import json
import os

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, WaiterError

ACCOUNT = os.environ["ACCOUNT"]
ROLE = "arn:aws:iam::%s:role/sagemaker" % ACCOUNT
GO = "123456789012.dkr.ecr.us-east-1.amazonaws.com/iris-go:1"
PYTHON = "123456789012.dkr.ecr.us-east-1.amazonaws.com/iris-python:1"
DATA = "s3://models/iris.tar.gz"
POLL = {"Delay": 1, "MaxAttempts": 60}

# The model is checked by sagelocal, not by boto3 before it sends anything.
config = Config(retries={"total_max_attempts": 1}, parameter_validation=False)
# Given as arguments too, for boto3 before 1.28 does not read the environment.
sm = boto3.client("sagemaker", config=config, endpoint_url=os.environ["AWS_ENDPOINT_URL_SAGEMAKER"])
runtime = boto3.client("sagemaker-runtime", config=config, endpoint_url=os.environ["AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"])

ROUTING = {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"}
KNOWS_ROUTING = "RoutingConfig" in sm.meta.service_model.shape_for("ProductionVariant").members  # since 1.28.60


def step(text):
    print("boto3:", text, flush=True)


def arn(resource, name):
    return "arn:aws:sagemaker:us-east-1:%s:%s/%s" % (ACCOUNT, resource, name)


def refused(code, message, call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, error.response
        text = error.response["Error"]["Message"]
        assert message(text) if callable(message) else text == message, text
        assert error.response["ResponseMetadata"]["RequestId"], error.response
        return error
    raise AssertionError("%s was accepted" % arguments)


def create():
    for name, image in (("Iris", GO), ("iris-python", PYTHON)):
        made = sm.create_model(
            ModelName=name,
            ExecutionRoleArn=ROLE,
            PrimaryContainer={"Image": image, "ModelDataUrl": DATA, "Environment": {"LABEL": "été"}},
        )
        assert made["ModelArn"] == arn("model", name.lower()), made
    model = sm.describe_model(ModelName="Iris")
    assert model["PrimaryContainer"]["Environment"] == {"LABEL": "été"}, model
    assert "Containers" not in model and "VpcConfig" not in model, model
    step("models created")
    variant = {"InstanceType": "ml.m5.large"}
    if KNOWS_ROUTING:
        variant["RoutingConfig"] = ROUTING
    sm.create_endpoint_config(
        EndpointConfigName="iris",
        ProductionVariants=[
            dict(variant, VariantName="go", ModelName="Iris", InitialInstanceCount=3),
            dict(variant, VariantName="python", ModelName="iris-python", InitialInstanceCount=1, InitialVariantWeight=0),
        ],
        Tags=[{"Key": "made-by", "Value": "boto3"}],
    )
    described = sm.describe_endpoint_config(EndpointConfigName="iris")
    assert described["ProductionVariants"][0]["InitialVariantWeight"] == 1.0, described
    made = sm.create_endpoint(EndpointName="iris", EndpointConfigName="iris")
    assert made["EndpointArn"] == arn("endpoint", "iris"), made
    step("endpoint is being created")


def describe(started):
    sm.get_waiter("endpoint_in_service").wait(EndpointName="iris", WaiterConfig=POLL)
    out = sm.describe_endpoint(EndpointName="iris")
    assert out["EndpointStatus"] == "InService" and out["EndpointConfigName"] == "iris", out
    assert "FailureReason" not in out and "PendingDeploymentSummary" not in out, out
    now = datetime.datetime.now(datetime.timezone.utc)
    second = datetime.timedelta(seconds=1)
    for moment in (out["CreationTime"], out["LastModifiedTime"]):
        assert started - second < moment < now + second, (started, moment, now)
    go, python = out["ProductionVariants"]
    assert go["VariantName"] == "go" and go["CurrentInstanceCount"] == 3 and go["CurrentWeight"] == 1.0, go
    assert not KNOWS_ROUTING or go["RoutingConfig"] == ROUTING, go
    assert go["DeployedImages"][0]["SpecifiedImage"] == GO, go
    assert python["DesiredInstanceCount"] == 1 and python["DesiredWeight"] == 0.0, python
    step("endpoint is in service")


def predict():
    out = runtime.invoke_endpoint(
        EndpointName="iris", ContentType="text/csv", Accept="text/csv", Body="5.1,3.5,1.4,0.2\n6.3,3.3,6.0,2.5\n"
    )
    assert out["Body"].read() == b"setosa\nvirginica\n" and out["ContentType"].startswith("text/csv"), out
    assert out["InvokedProductionVariant"] == "go", out
    answers = {}
    body = json.dumps({"instances": [[5.9, 3.0, 4.2, 1.5]]})
    for variant in ("go", "python"):
        out = runtime.invoke_endpoint(
            EndpointName="iris",
            ContentType="application/json",
            Body=body,
            TargetVariant=variant,
            CustomAttributes="trace=1",
            InferenceId="one",
        )
        assert out["InvokedProductionVariant"] == variant and out["ContentType"] == "application/json", out
        answers[variant] = json.loads(out["Body"].read())["predictions"][0]
    assert answers["go"]["label"] == answers["python"]["label"] == "versicolor", answers
    for label, probability in answers["go"]["probabilities"].items():
        assert abs(probability - answers["python"]["probabilities"][label]) < 1e-9, answers
    step("CSV and JSON are predicted alike by the Go and the Python model")


def model_errors():
    for variant in ("go", "python"):
        error = refused(
            "ModelError",
            lambda text: text.startswith('Received client error (400) from primary with message "'),
            runtime.invoke_endpoint,
            EndpointName="iris",
            ContentType="text/csv",
            Body="one,two",
            TargetVariant=variant,
        )
        assert isinstance(error, runtime.exceptions.ModelError), type(error)
        response = error.response
        assert response["ResponseMetadata"]["HTTPStatusCode"] == 424, response
        assert response["OriginalStatusCode"] == 400 and "line 1" in response["OriginalMessage"], response
        assert response["LogStreamArn"] == "arn:aws:logs:us-east-1:%s:log-group:/aws/sagemaker/Endpoints/iris" % ACCOUNT
    error = refused(
        "ValidationError", "Endpoint absent of account %s not found." % ACCOUNT, runtime.invoke_endpoint,
        EndpointName="absent", Body=b"x",
    )  # fmt: skip
    assert isinstance(error, runtime.exceptions.ValidationError), type(error)
    step("ModelError and ValidationError are typed")


def update():
    sm.update_endpoint_weights_and_capacities(
        EndpointName="iris",
        DesiredWeightsAndCapacities=[
            {"VariantName": "go", "DesiredWeight": 0, "DesiredInstanceCount": 1},
            {"VariantName": "python", "DesiredWeight": 1.5},
        ],
    )
    sm.get_waiter("endpoint_in_service").wait(EndpointName="iris", WaiterConfig=POLL)
    go, python = sm.describe_endpoint(EndpointName="iris")["ProductionVariants"]
    assert (go["CurrentInstanceCount"], go["CurrentWeight"], python["CurrentWeight"]) == (1, 0.0, 1.5), (go, python)
    out = runtime.invoke_endpoint(EndpointName="iris", ContentType="text/csv", Accept="text/csv", Body="5.1,3.5,1.4,0.2")
    assert (out["InvokedProductionVariant"], out["Body"].read()) == ("python", b"setosa\n"), out
    step("weights and capacities updated")


def lists():
    for i in range(25):
        sm.create_model(ModelName="many-%02d" % i, PrimaryContainer={"Image": "echo:1"})
    paginator = sm.get_paginator("list_models")
    pages = list(paginator.paginate(NameContains="MANY", SortBy="Name", SortOrder="Ascending", PaginationConfig={"PageSize": 10}))
    assert [len(page["Models"]) for page in pages] == [10, 10, 5] and "NextToken" not in pages[-1], pages
    assert [m["ModelName"] for page in pages for m in page["Models"]] == ["many-%02d" % i for i in range(25)], pages
    newest = sm.list_models(MaxResults=30)["Models"]
    times = [m["CreationTime"] for m in newest]
    assert len(newest) == 27 and times == sorted(times, reverse=True), newest
    tomorrow = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1)
    assert sm.list_models(CreationTimeAfter=tomorrow)["Models"] == []
    assert [e["EndpointName"] for e in sm.list_endpoints(StatusEquals="InService")["Endpoints"]] == ["iris"]
    step("27 models listed")


def tags():
    config = arn("endpoint-config", "iris")
    added = sm.add_tags(ResourceArn=config, Tags=[{"Key": "team", "Value": "flora"}])["Tags"]
    assert {t["Key"]: t["Value"] for t in added} == {"made-by": "boto3", "team": "flora"}, added
    sm.delete_tags(ResourceArn=config, TagKeys=["made-by"])
    left = [t for page in sm.get_paginator("list_tags").paginate(ResourceArn=config) for t in page["Tags"]]
    assert left == [{"Key": "team", "Value": "flora"}], left
    step("tags added, listed and deleted")


def violations():
    taken = 'Cannot create already existing model "%s".' % arn("model", "iris")
    refused("ValidationException", taken, sm.create_model, ModelName="iris", PrimaryContainer={"Image": GO})
    pattern = "Member must satisfy regular expression pattern: [a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"
    refused(
        "ValidationException",
        "1 validation error detected: Value '-bad-' at 'endpointName' failed to satisfy constraint: " + pattern,
        sm.delete_endpoint, EndpointName="-bad-",
    )  # fmt: skip
    long = "n" * 70
    refused(
        "ValidationException",
        "2 validation errors detected: Value '%s' at 'endpointName' failed to satisfy constraint: Member must have length "
        "less than or equal to 63; Value '%s' at 'endpointName' failed to satisfy constraint: %s" % (long, long, pattern),
        sm.describe_endpoint, EndpointName=long,
    )  # fmt: skip
    refused(
        "ValidationException",
        "1 validation error detected: Value null at 'modelName' failed to satisfy constraint: Member must not be null",
        sm.create_model, PrimaryContainer={"Image": GO},
    )  # fmt: skip
    refused(
        "ValidationException",
        lambda text: text.startswith("1 validation error detected: Value 'ml.t3.medium' at 'productionVariants.1.member."
                                     "instanceType' failed to satisfy constraint: Member must satisfy enum value set: ["),
        sm.create_endpoint_config, EndpointConfigName="c",
        ProductionVariants=[{"VariantName": "v", "ModelName": "iris", "InstanceType": "ml.t3.medium", "InitialInstanceCount": 1}],
    )  # fmt: skip
    refused(
        "ValidationException",
        lambda text: "s3://models/absent.tar.gz" in text,
        sm.create_model, ModelName="no-data", PrimaryContainer={"Image": GO, "ModelDataUrl": "s3://models/absent.tar.gz"},
    )  # fmt: skip
    step("constraints are held in AWS's words")


def delete():
    sm.delete_endpoint(EndpointName="iris")
    sm.get_waiter("endpoint_deleted").wait(EndpointName="iris", WaiterConfig=POLL)
    gone = 'Could not find endpoint "%s".' % arn("endpoint", "iris")
    refused("ValidationException", gone, sm.describe_endpoint, EndpointName="iris")
    try:
        sm.get_waiter("endpoint_in_service").wait(EndpointName="iris", WaiterConfig=POLL)
        raise AssertionError("a deleted endpoint is in service")
    except WaiterError as error:
        assert error.last_response["Error"]["Message"] == gone, error.last_response
    sm.delete_endpoint_config(EndpointConfigName="iris")
    for name in ("Iris", "iris-python"):
        sm.delete_model(ModelName=name)
    refused("ValidationException", 'Could not find model "%s".' % arn("model", "iris"), sm.delete_model, ModelName="iris")
    step("all is deleted")


if __name__ == "__main__":
    begun = datetime.datetime.now(datetime.timezone.utc)
    create()
    describe(begun)
    for act in (predict, model_errors, update, lists, tags, violations, delete):
        act()
