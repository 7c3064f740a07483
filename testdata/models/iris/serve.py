#!/usr/bin/env python3
"""Serve the iris model by the container contract of SageMaker hosting.

    GET  /ping         200 when ready
    POST /invocations  text/csv or application/json in, JSON or CSV out

Environment: SAGEMAKER_BIND_TO_PORT (8080), SM_MODEL_DIR (/opt/ml/model), and
BIND_HOST (127.0.0.1; 0.0.0.0 inside of a container with its own network).
Only the Python standard library is used.
"""

import json
import math
import os
import re
import signal
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn

MAX_BODY = 25 * 1024 * 1024  # InvokeEndpoint's own limit
NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


def log(text):
    print("iris:", text, file=sys.stderr, flush=True)


class Refusal(Exception):
    """A request that gets an error status."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


class Model:
    def __init__(self, directory):
        with open(os.path.join(directory, "model.json"), encoding="utf-8") as file:
            document = json.load(file)
        self.labels = document["labels"]
        self.width = len(document["features"])
        self.rows = list(zip(document["coefficients"], document["intercepts"]))
        if len(self.rows) != len(self.labels) or any(len(c) != self.width for c, _ in self.rows):
            raise ValueError("model.json: labels, features and coefficients do not match")

    def predict(self, instance):
        scores = []
        for coefficients, intercept in self.rows:
            score = intercept
            for coefficient, value in zip(coefficients, instance):
                score += coefficient * value
            scores.append(score)
        top = max(scores)
        exps = [math.exp(score - top) for score in scores]
        total = sum(exps)
        return {
            "label": self.labels[scores.index(top)],
            "probabilities": {label: e / total for label, e in zip(self.labels, exps)},
        }


def text_of(body):
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        raise Refusal(400, "the body is not UTF-8") from None


def check(instances, width):
    if not instances:
        raise Refusal(400, "the body holds no instances")
    for i, instance in enumerate(instances, 1):
        if len(instance) != width:
            raise Refusal(400, "instance %d has %d values, not %d" % (i, len(instance), width))
        # Beyond 1e300 a product with a coefficient could overflow.
        if not all(abs(value) <= 1e300 for value in instance):
            raise Refusal(400, "instance %d has a value beyond 1e300" % i)
    return instances


def read_csv(body, width):
    lines = [line.strip(" \t\r") for line in text_of(body).split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    instances = []
    for i, line in enumerate(lines, 1):
        cells = [cell.strip(" \t") for cell in line.split(",")]
        if not all(NUMBER.fullmatch(cell) for cell in cells):
            raise Refusal(400, "line %d is not a list of numbers" % i)
        instances.append([float(cell) for cell in cells])
    return check(instances, width)


def not_a_number(name):
    raise ValueError(name + " is not JSON")


def read_json(body, width):
    try:
        document = json.loads(text_of(body), parse_int=float, parse_constant=not_a_number)
    except (ValueError, RecursionError):
        raise Refusal(400, "the body is not JSON") from None
    instances = document.get("instances") if isinstance(document, dict) else None
    if not isinstance(instances, list):
        raise Refusal(400, 'the body is not of the form {"instances": [[...], ...]}')
    for i, instance in enumerate(instances, 1):
        if not isinstance(instance, list) or not all(type(value) is float for value in instance):
            raise Refusal(400, "instance %d is not a list of numbers" % i)
    return check(instances, width)


READERS = {"text/csv": read_csv, "application/json": read_json}


def media_type(value):
    return value.partition(";")[0].strip(" \t").lower()


def accepted(header):
    """The first media type of an Accept header that can be written."""
    if not header.strip(" \t"):
        return "application/json"
    for item in header.split(","):
        wanted = media_type(item)
        if wanted in ("application/json", "application/*", "*/*"):
            return "application/json"
        if wanted in ("text/csv", "text/*"):
            return "text/csv"
    raise Refusal(406, "answers are application/json or text/csv")


def write(predictions, accept):
    if accept == "text/csv":
        return "text/csv; charset=utf-8", "".join(p["label"] + "\n" for p in predictions).encode()
    return accept, json.dumps({"predictions": predictions}, separators=(",", ":")).encode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # one segment for an answer's head and body

    def dispatch(self):
        with self.server.busy:
            try:
                body = self.read_body()
                path = self.path.partition("?")[0]
                if path == "/ping":
                    self.allow("GET")
                    self.answer(200, "text/plain; charset=utf-8", b"")
                elif path == "/invocations":
                    self.allow("POST")
                    self.answer(200, *self.invoke(body))
                else:
                    raise Refusal(404, "no such path; there are /ping and /invocations")
            except Refusal as refusal:
                self.send_error(refusal.status, str(refusal))

    # Every method comes here, so that a wrong one gets 405 and not 501.
    do_GET = do_POST = do_HEAD = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = dispatch

    def read_body(self):
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers:
            self.close_connection = True
            raise Refusal(411, "Content-Length is needed")
        if not re.fullmatch("[0-9]{1,15}", length):
            self.close_connection = True
            raise Refusal(400, "Content-Length is not a number")
        if int(length) > MAX_BODY:
            self.close_connection = True
            raise Refusal(413, "the body is longer than %d bytes" % MAX_BODY)
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            self.close_connection = True
            raise Refusal(400, "the body is shorter than Content-Length")
        return body

    def allow(self, method):
        if self.command != method:
            raise Refusal(405, "this path takes only " + method)

    def invoke(self, body):
        reader = READERS.get(media_type(self.headers.get("Content-Type", "")))
        if reader is None:
            raise Refusal(415, "Content-Type is neither text/csv nor application/json")
        accept = accepted(self.headers.get("Accept", ""))
        model = self.server.model
        return write([model.predict(instance) for instance in reader(body, model.width)], accept)

    def answer(self, status, content_type, body):
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def send_error(self, code, message=None, explain=None):
        message = message or HTTPStatus(code).phrase
        log("%s %s: %d %s" % (self.command, getattr(self, "path", "-"), code, message))
        self.answer(code, "application/json", json.dumps({"error": message}).encode())

    def log_request(self, code="-", size="-"):
        pass  # errors are logged where they are sent


class Busy:
    """Counts requests, so that the end can wait for them."""

    def __init__(self):
        self.count = 0
        self.changed = threading.Condition()

    def __enter__(self):
        with self.changed:
            self.count += 1

    def __exit__(self, *exception):
        with self.changed:
            self.count -= 1
            self.changed.notify_all()

    def wait(self, seconds):
        with self.changed:
            return self.changed.wait_for(lambda: self.count == 0, seconds)


class Server(ThreadingMixIn, TCPServer):  # HTTPServer would ask the DNS for its own name
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, address, model):
        super().__init__(address, Handler)
        self.model = model
        self.busy = Busy()

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def main():
    directory = os.environ.get("SM_MODEL_DIR") or "/opt/ml/model"
    host = os.environ.get("BIND_HOST") or "127.0.0.1"
    port = os.environ.get("SAGEMAKER_BIND_TO_PORT") or "8080"
    try:
        model = Model(directory)
        server = Server((host, int(port)), model)
    except (OSError, OverflowError, KeyError, TypeError, ValueError) as error:
        log("cannot start: %s: %s" % (type(error).__name__, error))
        return 1

    # shutdown waits for serve_forever, so it cannot be called on its thread.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    signal.signal(signal.SIGINT, signal.getsignal(signal.SIGTERM))
    log("serving %s on %s:%d" % (directory, host, server.server_address[1]))
    server.serve_forever(poll_interval=0.05)
    server.server_close()
    server.busy.wait(20)  # SIGKILL would follow after 30 s
    return 0


if __name__ == "__main__":
    sys.exit(main())
