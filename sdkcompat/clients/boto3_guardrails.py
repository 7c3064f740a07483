"""Updates under deployment guardrails, as AWS's three example notebooks make them, against sagelocal.

    boto3_guardrails.py canary|linear|rolling|ping DIRECTORY

Each of the first three updates an endpoint of three instances to a broken model, which an alarm rolls back, and then
to a good one; the last to models that do not start. Traffic runs all the time and is accounted for. The environment is
that of boto3_journey.py; DIRECTORY takes the files that the test model waits for. Exit status 77 means that this boto3
is too old.
"""

import itertools
import json
import math
import os
import sys
import threading
import time
import urllib.request
from collections import Counter, namedtuple

import boto3
from botocore.config import Config

ACCOUNT = os.environ["ACCOUNT"]
JOURNEY, DIRECTORY = sys.argv[1:]
ENDPOINT = "DEMO-Deployment-Guardrails-" + JOURNEY
ALARMS = ["TestAlarm-5XXErrors-" + ENDPOINT, "TestAlarm-ModelLatency-" + ENDPOINT]
VARIANT = "AllTraffic"
LIMIT = 120  # seconds, for a step of an update on a busy machine
ENOUGH = 100  # requests, to measure a share of the traffic

config = Config(retries={"total_max_attempts": 1}, parameter_validation=False)
sm = boto3.client("sagemaker", config=config, endpoint_url=os.environ["AWS_ENDPOINT_URL_SAGEMAKER"])
runtime = boto3.client("sagemaker-runtime", config=config, endpoint_url=os.environ["AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"])


def step(text):
    print("boto3 %s: %s" % (JOURNEY, text), flush=True)


def guarded(**policy):
    """A DeploymentConfig with this policy, as in the notebooks."""
    for settings in policy.values():
        settings["MaximumExecutionTimeoutInSeconds"] = 1800
    return dict(policy, AutoRollbackConfiguration={"Alarms": [{"AlarmName": name} for name in ALARMS]})


def blue_green(**routing):
    return guarded(BlueGreenUpdatePolicy={"TrafficRoutingConfiguration": routing, "TerminationWaitInSeconds": 120})


THIRD = {"Type": "CAPACITY_PERCENT", "Value": 33}  # of three instances: one, as the notebooks say
# By journey: the DeploymentConfig, and the new fleet's share of the traffic while each step bakes.
JOURNEYS = {
    "canary": (
        blue_green(Type="CANARY", CanarySize={"Type": "INSTANCE_COUNT", "Value": 1}, WaitIntervalInSeconds=300),
        [1 / 3, 1],
    ),
    "linear": (blue_green(Type="LINEAR", LinearStepSize=THIRD, WaitIntervalInSeconds=180), [1 / 3, 2 / 3, 1]),
    # A batch is in service before the instances that it replaces leave.
    "rolling": (
        guarded(RollingUpdatePolicy={"MaximumBatchSize": THIRD, "WaitIntervalInSeconds": 180}),
        [1 / 4, 2 / 4, 3 / 4],
    ),
}

Answer = namedtuple("Answer", "begun ended model")


class Traffic(threading.Thread):
    """One request after the other, each with its own text, until it is stopped."""

    def __init__(self):
        super().__init__(daemon=True)
        self.answers, self.wrong, self.stopping = [], [], threading.Event()

    def run(self):
        for n in itertools.count():
            if self.stopping.wait(0.005):
                return
            begun = time.monotonic()
            try:
                model = self.ask("request %d" % n)
            except Exception as error:  # pylint: disable=broad-except
                self.wrong.append(repr(error))
                continue
            self.answers.append(Answer(begun, time.monotonic(), model))

    @staticmethod
    def ask(text):
        """Returns which model answered. A failure must be the broken model's own."""
        try:
            out = runtime.invoke_endpoint(EndpointName=ENDPOINT, ContentType="text/plain", Body="tell 0 " + text)
        except runtime.exceptions.ModelError as error:
            said = (error.response["OriginalStatusCode"], error.response["OriginalMessage"])
            assert said == (500, "broken is broken\n"), error.response
            return "broken"
        model, _, rest = out["Body"].read().decode().partition(" ")
        assert rest == text and out["InvokedProductionVariant"] == VARIANT, (model, rest, text, out)
        return model

    def between(self, begun, ended=math.inf):
        """Which models answered the requests that lie within a time, and how often."""
        return Counter(a.model for a in list(self.answers) if a.begun >= begun and a.ended <= ended)

    def since(self, begun, count=ENOUGH):
        """The same for the next requests."""
        deadline = time.monotonic() + LIMIT
        while sum(self.between(begun).values()) < count:
            assert time.monotonic() < deadline and self.is_alive(), self.between(begun)
            time.sleep(0.02)
        return self.between(begun)

    def stop(self):
        self.stopping.set()
        self.join()
        assert not self.wrong, (len(self.wrong), self.wrong[:3])
        return Counter(a.model for a in self.answers)


Look = namedtuple("Look", "before after status config stage since details")


class Update:
    """What describe_endpoint tells of an update from its begin to its end."""

    def __init__(self, to, **arguments):
        self.looks, self.to = [], to
        sm.update_endpoint(EndpointName=ENDPOINT, EndpointConfigName=to, **arguments)

    def look(self):
        before = time.monotonic()
        out = sm.describe_endpoint(EndpointName=ENDPOINT)
        pending = out.get("PendingDeploymentSummary")
        stage, since = None, None
        if pending:
            assert pending["EndpointConfigName"] == self.to and pending["StartTime"], pending
            (variant,) = pending["ProductionVariants"]
            what = (variant["VariantName"], variant["InstanceType"], variant["DesiredInstanceCount"])
            assert what == (VARIANT, "ml.m5.xlarge", 3), variant
            for status in variant.get("VariantStatus", []):
                stage, since = status["Status"], status["StartTime"]
        self.looks.append(Look(before, time.monotonic(), out["EndpointStatus"], out["EndpointConfigName"], stage, since, out))
        return self.looks[-1]

    def until(self, condition):
        deadline = time.monotonic() + LIMIT
        while not condition(self.look()):
            assert time.monotonic() < deadline and self.looks[-1].status != "Failed", self.looks[-1]
            time.sleep(0.02)
        return self.looks[-1]

    def ready(self, name):
        """Lets the new model answer its ping once the update was seen to wait for it."""
        assert self.until(lambda look: look.stage).stage == "Creating", self.looks[-1]
        assert self.looks[-1].status == "Updating" and "FailureReason" not in self.looks[-1].details, self.looks[-1]
        touch(name)

    def bakes(self):
        """The steps that bake, each from the first to the last look at it."""
        steps = []
        for since, looks in itertools.groupby((k for k in self.looks if k.stage == "Baking"), key=lambda k: k.since):
            looks = list(looks)
            steps.append((looks[0].after, looks[-1].before))
        return steps

    def statuses(self):
        return [status for status, _ in itertools.groupby(look.status for look in self.looks)]


def path(name):
    return os.path.join(DIRECTORY, name)


def touch(name):
    with open(path(name), "w", encoding="utf-8"):
        pass


def set_alarm(name, state):
    url = "%s/_sagelocal/alarms/%s?account=%s" % (os.environ["AWS_ENDPOINT_URL_SAGEMAKER"], name, ACCOUNT)
    request = urllib.request.Request(url, json.dumps({"state": state}).encode(), method="PUT")
    with urllib.request.urlopen(request) as response:
        assert json.load(response) == {"name": name, "state": state}


def about(share, counts, model):
    """Holds a measured share against the expected one: 4.5 standard deviations, which is one run in 150,000."""
    total = sum(counts.values())
    assert total > 0 and abs(counts[model] / total - share) <= 4.5 * math.sqrt(share * (1 - share) / total) + 1e-9, (share, counts)


def create(name, image="testmodel:1", startup=3600, **environment):
    """A model and a configuration of three instances, both of this name."""
    sm.create_model(
        ModelName=name,
        ExecutionRoleArn="arn:aws:iam::%s:role/sagemaker" % ACCOUNT,
        Containers=[{"Image": image, "ModelDataUrl": "s3://models/iris.tar.gz", "Environment": dict(environment, NAME=name)}],
    )
    variant = {"VariantName": VARIANT, "ModelName": name, "InstanceType": "ml.m5.xlarge", "InitialInstanceCount": 3}
    variant["ContainerStartupHealthCheckTimeoutInSeconds"] = startup
    sm.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])


def begin():
    create("first")
    sm.create_endpoint(EndpointName=ENDPOINT, EndpointConfigName="first")
    wait("endpoint_in_service")
    traffic = Traffic()
    traffic.start()
    assert set(traffic.since(0)) == {"first"}
    step("in service")
    return traffic


def wait(what):
    sm.get_waiter(what).wait(EndpointName=ENDPOINT, WaiterConfig={"Delay": 0.1, "MaxAttempts": 10 * LIMIT})


def rolls_back(traffic, deployment, share):
    """The update to the broken model: its canary's failures raise the alarm, which returns all traffic."""
    update = Update("broken", DeploymentConfig=deployment)
    update.ready("broken-ready")
    baking = update.until(lambda look: look.stage == "Baking")
    update.until(lambda look: look.stage != "Baking" or sum(traffic.between(baking.after).values()) >= ENOUGH)
    set_alarm(ALARMS[0], "ALARM")
    rolling_back = update.until(lambda look: look.status != "Updating")
    assert rolling_back.status == "RollingBack" and ALARMS[0] in rolling_back.details["FailureReason"], rolling_back
    touch("broken-stop")  # the broken instances end now, and not before
    wait("endpoint_in_service")
    end = update.look()
    assert update.statuses() == ["Updating", "RollingBack", "InService"], update.statuses()
    assert {look.config for look in update.looks} == {"first"}, update.looks
    assert ALARMS[0] in end.details["FailureReason"] and ALARMS[1] not in end.details["FailureReason"], end
    assert end.details["LastDeploymentConfig"] == deployment and "PendingDeploymentSummary" not in end.details, end
    (variant,) = end.details["ProductionVariants"]
    assert (variant["CurrentInstanceCount"], variant["DesiredInstanceCount"]) == (3, 3), variant
    assert "VariantStatus" not in variant, variant
    counts = traffic.between(*update.bakes()[0])
    assert set(counts) == {"first", "broken"}, counts
    about(share, counts, "broken")
    assert set(traffic.since(end.after)) == {"first"}
    counted = (counts["broken"], sum(counts.values()))
    step("the broken model answered %d of %d requests while it baked, and was rolled back" % counted)


def completes(traffic, deployment, shares):
    """The update to the good model, with the same DeploymentConfig."""
    update = Update("good", RetainDeploymentConfig=True)
    update.ready("good-ready")
    end = update.until(lambda look: look.status != "Updating")
    assert update.statuses() == ["Updating", "InService"], update.statuses()
    # The configuration's name changes at the end.
    assert {look.config for look in update.looks[:-1]} == {"first"} and end.config == "good", update.looks
    assert "FailureReason" not in end.details and "PendingDeploymentSummary" not in end.details, end
    assert end.details["LastDeploymentConfig"] == deployment, end
    assert end.details["ProductionVariants"][0]["CurrentInstanceCount"] == 3, end
    bakes = update.bakes()
    assert len(bakes) == len(shares), (bakes, shares)
    measured = []
    for share, (begun, ended) in zip(shares, bakes):
        counts = traffic.between(begun, ended)
        assert set(counts) <= {"first", "good"}, counts
        about(share, counts, "good")
        measured.append("%d of %d" % (counts["good"], sum(counts.values())))
    if JOURNEY != "rolling":
        # TerminationWaitInSeconds: the new fleet has all the traffic, and the old one is still there.
        kept = [k for k in update.looks if k.before > bakes[-1][1] and k.status == "Updating" and k.stage is None]
        assert kept and kept[0].details["ProductionVariants"][0]["CurrentInstanceCount"] == 3, kept
    assert "broken" not in traffic.between(update.looks[0].before)
    assert set(traffic.since(end.after)) == {"good"}
    step("the good model answered %s requests step by step, and then all" % ", ".join(measured))


def guardrails():
    deployment, shares = JOURNEYS[JOURNEY]
    members = sm.meta.service_model.shape_for("DeploymentConfig").members
    if not set(deployment) <= set(members):
        step("this boto3 does not know %s" % (set(deployment) - set(members)))
        sys.exit(77)
    traffic = begin()
    create("broken", BROKEN="1", READY_FILE=path("broken-ready"), STOP_FILE=path("broken-stop"))
    create("good", READY_FILE=path("good-ready"))
    rolls_back(traffic, deployment, shares[0])
    set_alarm(ALARMS[0], "OK")  # as the metric does once nothing fails
    completes(traffic, deployment, shares)
    return traffic


def ping():
    """Updates to models that do not start; AWS's two FailureReasons."""
    traffic = begin()
    create("deaf", startup=60, READY_FILE=path("never"))
    create("absent", image="missing:1")
    for name, reason in (
        (
            "deaf",
            "The primary container for production variant AllTraffic did not pass the ping health check. "
            "Please check CloudWatch logs for this endpoint.",
        ),
        (
            "absent",
            "CannotStartContainerError. Please ensure the model container for variant AllTraffic starts correctly when "
            "invoked with 'docker run <image> serve'",
        ),
    ):
        update = Update(name)
        wait("endpoint_in_service")
        end = update.look()
        assert (end.status, end.config, end.details["FailureReason"]) == ("InService", "first", reason), end
        assert end.details["ProductionVariants"][0]["CurrentInstanceCount"] == 3, end
        assert set(traffic.since(end.after)) == {"first"}
        step("%s was rolled back with AWS's FailureReason" % name)
    assert set(traffic.between(0)) == {"first"}
    return traffic


def end(traffic):
    step("requests by model: %s" % dict(traffic.stop()))
    sm.delete_endpoint(EndpointName=ENDPOINT)
    wait("endpoint_deleted")
    for name in [c["EndpointConfigName"] for c in sm.list_endpoint_configs()["EndpointConfigs"]]:
        sm.delete_endpoint_config(EndpointConfigName=name)
        sm.delete_model(ModelName=name)
    assert not sm.list_models()["Models"]
    step("all is deleted")


if __name__ == "__main__":
    end(ping() if JOURNEY == "ping" else guardrails())
