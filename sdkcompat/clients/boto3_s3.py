"""boto3 against sagelocal's embedded S3 server: prints a line per step, ends at the first failure.

AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL_SAGEMAKER, AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME,
the credentials, ACCOUNT and IRIS, the path of a model, stand in the environment.
"""

import hashlib
import io
import os
import socket
import urllib.request

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

URL = os.environ["AWS_ENDPOINT_URL_S3"]
BUCKET = "models-of-boto3"
KEY = "a/b c/m+%20é.txt"
PARTS = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)


def client(style="path", url=URL, **arguments):
    config = Config(s3={"addressing_style": style}, retries={"total_max_attempts": 1})
    return boto3.client("s3", endpoint_url=url, config=config, **arguments)


s3 = client()


def step(text):
    print("boto3:", text, flush=True)


def refused(code, status, call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        metadata = error.response["ResponseMetadata"]
        assert (error.response["Error"]["Code"], metadata["HTTPStatusCode"]) == (code, status), error.response
        assert "x-amz-request-id" in metadata["HTTPHeaders"], metadata
        return
    raise AssertionError("%s was accepted" % arguments)


def read(key, **arguments):
    return s3.get_object(Bucket=BUCKET, Key=key, **arguments)["Body"].read()


def buckets():
    s3.create_bucket(Bucket=BUCKET)
    s3.create_bucket(Bucket=BUCKET)
    elsewhere = client(region_name="eu-west-1")
    elsewhere.create_bucket(Bucket="bucket-of-eu", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    names = [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    assert names == ["bucket-of-eu", "models", BUCKET], names  # models is mapped
    s3.head_bucket(Bucket=BUCKET)
    s3.get_bucket_location(Bucket=BUCKET)
    refused("404", 404, s3.head_bucket, Bucket="no-such-bucket")
    step("makes and lists buckets")


def objects():
    body = b"hello world"
    put = s3.put_object(Bucket=BUCKET, Key=KEY, Body=body, ContentType="text/x", Metadata={"k": "v", "two": "x y"})
    assert put["ETag"] == '"%s"' % hashlib.md5(body).hexdigest(), put
    got = s3.get_object(Bucket=BUCKET, Key=KEY)
    assert (got["Body"].read(), got["ContentType"], got["Metadata"]) == (body, "text/x", {"k": "v", "two": "x y"}), got
    head = s3.head_object(Bucket=BUCKET, Key=KEY)
    assert head["ContentLength"] == 11 and head["Metadata"]["k"] == "v", head
    for span, want in (("bytes=0-4", b"hello"), ("bytes=6-", b"world"), ("bytes=-3", b"rld"), ("bytes=4-100", b"o world")):
        assert read(KEY, Range=span) == want, span
    refused("InvalidRange", 416, s3.get_object, Bucket=BUCKET, Key=KEY, Range="bytes=50-60")
    refused("304", 304, s3.get_object, Bucket=BUCKET, Key=KEY, IfNoneMatch=head["ETag"])
    refused("NoSuchKey", 404, s3.get_object, Bucket=BUCKET, Key="none")
    refused("NoSuchBucket", 404, s3.get_object, Bucket="no-such-bucket", Key="none")
    s3.copy_object(Bucket=BUCKET, Key="copy/of", CopySource={"Bucket": BUCKET, "Key": KEY})
    copy = s3.get_object(Bucket=BUCKET, Key="copy/of")
    assert copy["Body"].read() == body and copy["Metadata"]["k"] == "v", copy
    for algorithm in ("CRC32", "SHA1", "SHA256"):
        s3.put_object(Bucket=BUCKET, Key="sum/" + algorithm, Body=b"abc", ChecksumAlgorithm=algorithm)
    s3.put_object(Bucket=BUCKET, Key="stream", Body=io.BytesIO(b"q" * 100000))
    assert len(read("stream", ChecksumMode="ENABLED")) == 100000
    s3.put_object(Bucket=BUCKET, Key="file", Body=b"file")
    s3.put_object(Bucket=BUCKET, Key="file/below", Body=b"below")
    assert (read("file"), read("file/below")) == (b"file", b"below")
    step("puts, gets, copies")


def listings():
    keys = sorted(["l/%d/%02d" % (i // 10, i) for i in range(25)] + ["l/a.txt", "l/a-b", "l/a/x"])
    for key in keys:
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"x")
    for operation, size in (("list_objects_v2", 7), ("list_objects", 9)):
        pages = s3.get_paginator(operation).paginate(Bucket=BUCKET, Prefix="l/", PaginationConfig={"PageSize": size})
        assert [o["Key"] for page in pages for o in page["Contents"]] == keys, operation
    prefixes, contents = [], []
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="l/", Delimiter="/", PaginationConfig={"PageSize": 2}):
        prefixes += [p["Prefix"] for p in page.get("CommonPrefixes", [])]
        contents += [o["Key"] for o in page.get("Contents", [])]
    assert (prefixes, contents) == (["l/0/", "l/1/", "l/2/", "l/a/"], ["l/a-b", "l/a.txt"]), (prefixes, contents)
    assert s3.list_objects_v2(Bucket=BUCKET, Prefix="l/", StartAfter="l/2/22")["Contents"][0]["Key"] == "l/2/23"
    step("lists in pages and by delimiter")


def parts():
    data = os.urandom(13 << 20)
    s3.upload_fileobj(io.BytesIO(data), BUCKET, "big", ExtraArgs={"Metadata": {"a": "b"}, "ContentType": "x/y"}, Config=PARTS)
    out = io.BytesIO()
    s3.download_fileobj(BUCKET, "big", out, Config=PARTS)
    assert out.getvalue() == data
    head = s3.head_object(Bucket=BUCKET, Key="big")
    assert head["ETag"].endswith('-3"') and head["Metadata"] == {"a": "b"} and head["ContentType"] == "x/y", head
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="aborted")["UploadId"]
    s3.upload_part(Bucket=BUCKET, Key="aborted", UploadId=upload, PartNumber=1, Body=b"part")
    assert len(s3.list_parts(Bucket=BUCKET, Key="aborted", UploadId=upload)["Parts"]) == 1
    assert [u["Key"] for u in s3.list_multipart_uploads(Bucket=BUCKET)["Uploads"]] == ["aborted"]
    s3.abort_multipart_upload(Bucket=BUCKET, Key="aborted", UploadId=upload)
    refused("404", 404, s3.head_object, Bucket=BUCKET, Key="aborted")
    step("uploads in parts")


def urls_and_tags():
    for signature in ("s3", "s3v4"):
        signing = boto3.client("s3", endpoint_url=URL, config=Config(signature_version=signature, s3={"addressing_style": "path"}))
        url = signing.generate_presigned_url("put_object", Params={"Bucket": BUCKET, "Key": "presigned"})
        urllib.request.urlopen(urllib.request.Request(url, data=b"body", method="PUT", headers={"Content-Type": ""}))
        url = signing.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "presigned"})
        assert urllib.request.urlopen(url).read() == b"body"
    s3.put_object(Bucket=BUCKET, Key="tagged", Body=b"", Tagging="a=b&c=d")
    tags = {"TagSet": [{"Key": "x", "Value": "y"}]}
    assert len(s3.get_object_tagging(Bucket=BUCKET, Key="tagged")["TagSet"]) == 2
    s3.put_object_tagging(Bucket=BUCKET, Key="tagged", Tagging=tags)
    assert s3.get_object_tagging(Bucket=BUCKET, Key="tagged")["TagSet"] == tags["TagSet"]
    s3.delete_object_tagging(Bucket=BUCKET, Key="tagged")
    assert s3.get_object_tagging(Bucket=BUCKET, Key="tagged")["TagSet"] == []
    step("takes presigned URLs and tags")


def hosts_and_credentials():
    resolve = socket.getaddrinfo  # not every system resolves names below localhost
    socket.getaddrinfo = lambda host, *rest, **more: resolve("127.0.0.1" if str(host).endswith("localhost") else host, *rest, **more)
    virtual = client("virtual", URL.replace("127.0.0.1", "localhost"))
    virtual.put_object(Bucket=BUCKET, Key="vh/x y", Body=b"virtual")
    assert read("vh/x y") == b"virtual"
    assert [o["Key"] for o in virtual.list_objects_v2(Bucket=BUCKET, Prefix="vh/")["Contents"]] == ["vh/x y"]
    anybody = client(aws_access_key_id="AKIAIOSFODNN7EXAMPLE", aws_secret_access_key="other")
    anybody.put_object(Bucket=BUCKET, Key="any", Body=io.BytesIO(b"x" * 70000))
    step("finds buckets in hosts, takes any credentials")


def model():
    s3.upload_file(os.environ["IRIS"], BUCKET, "iris/model.tar.gz")
    sm = boto3.client("sagemaker", endpoint_url=os.environ["AWS_ENDPOINT_URL_SAGEMAKER"])
    runtime = boto3.client("sagemaker-runtime", endpoint_url=os.environ["AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"])
    sm.create_model(
        ModelName="iris",
        ExecutionRoleArn="arn:aws:iam::%s:role/sagemaker" % os.environ["ACCOUNT"],
        PrimaryContainer={
            "Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/iris-go:1",
            "ModelDataUrl": "s3://%s/iris/model.tar.gz" % BUCKET,
        },
    )
    variant = {"VariantName": "AllTraffic", "ModelName": "iris", "InstanceType": "ml.m5.large", "InitialInstanceCount": 2}
    sm.create_endpoint_config(EndpointConfigName="iris", ProductionVariants=[variant])
    sm.create_endpoint(EndpointName="iris", EndpointConfigName="iris")
    sm.get_waiter("endpoint_in_service").wait(EndpointName="iris", WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    answer = runtime.invoke_endpoint(EndpointName="iris", ContentType="text/csv", Accept="text/csv", Body="5.1,3.5,1.4,0.2")
    assert answer["Body"].read().strip() == b"setosa"
    sm.delete_endpoint(EndpointName="iris")
    step("serves a model that it has uploaded")


def deletion():
    s3.delete_object(Bucket=BUCKET, Key="file")
    s3.delete_object(Bucket=BUCKET, Key="file")
    assert read("file/below") == b"below"
    refused("BucketNotEmpty", 409, s3.delete_bucket, Bucket=BUCKET)
    while True:
        keys = [{"Key": o["Key"]} for o in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]
        if not keys:
            break
        assert "Errors" not in s3.delete_objects(Bucket=BUCKET, Delete={"Objects": keys})
    s3.delete_bucket(Bucket=BUCKET)
    refused("404", 404, s3.head_bucket, Bucket=BUCKET)
    refused("AccessDenied", 403, s3.put_object, Bucket="models", Key="x", Body=b"")
    step("deletes")


for run in (buckets, objects, listings, parts, urls_and_tags, hosts_and_credentials, model, deletion):
    run()
