#!/usr/bin/env python3
"""Train multinomial logistic regression on iris.csv and package the model.

Writes model.json beside this file and the archive that SageMaker would fetch,
../../buckets/models/iris.tar.gz; other places can be given as two arguments.
The same data give the same model: Newton's method runs to convergence, sums are
exactly rounded, and coefficients keep six decimals. The archive carries no time
and no user, so one version of zlib writes the same bytes.
"""

import csv
import gzip
import io
import json
import math
import os
import sys
import tarfile

HERE = os.path.dirname(os.path.abspath(__file__))
L2 = 0.0005  # penalty on every coefficient of the standardised features


def read(path):
    with open(path, newline="") as file:
        header, *lines = csv.reader(file)
    rows = [[float(cell) for cell in line[:-1]] for line in lines]
    labels = sorted({line[-1] for line in lines})
    return header[:-1], rows, labels, [labels.index(line[-1]) for line in lines]


def dot(a, b):
    return math.fsum(x * y for x, y in zip(a, b))


def softmax(scores):
    top = max(scores)
    exps = [math.exp(score - top) for score in scores]
    total = math.fsum(exps)
    return [e / total for e in exps]


def standardise(rows):
    columns = list(zip(*rows))
    means = [math.fsum(c) / len(c) for c in columns]
    scales = [math.sqrt(math.fsum((x - m) ** 2 for x in c) / len(c)) for c, m in zip(columns, means)]
    return means, scales, [[(x - m) / s for x, m, s in zip(row, means, scales)] for row in rows]


def solve(matrix, right):
    """Gaussian elimination with partial pivoting."""
    n = len(right)
    a = [row[:] + [value] for row, value in zip(matrix, right)]
    for i in range(n):
        pivot = max(range(i, n), key=lambda r: abs(a[r][i]))
        a[i], a[pivot] = a[pivot], a[i]
        for r in range(i + 1, n):
            factor = a[r][i] / a[i][i]
            for c in range(i, n + 1):
                a[r][c] -= factor * a[i][c]
    x = [0.0] * n
    for i in reversed(range(n)):
        x[i] = (a[i][n] - dot(a[i][i + 1 : n], x[i + 1 :])) / a[i][i]
    return x


def fit(rows, targets, classes):
    """Minimise the penalised mean log loss; returns a weight row per class."""
    rows = [row + [1.0] for row in rows]
    width, count = len(rows[0]), len(rows)
    weights = [[0.0] * width for _ in range(classes)]
    for _ in range(100):
        probabilities = [softmax([dot(w, row) for w in weights]) for row in rows]
        gradient = [
            math.fsum((p[k] - (t == k)) * row[j] for row, p, t in zip(rows, probabilities, targets)) / count
            + L2 * weights[k][j]
            for k in range(classes)
            for j in range(width)
        ]
        if max(map(abs, gradient)) < 1e-13:
            return weights
        hessian = [
            [
                math.fsum(p[k] * ((k == m) - p[m]) * row[j] * row[i] for row, p in zip(rows, probabilities)) / count
                + (L2 if (k, j) == (m, i) else 0.0)
                for m in range(classes)
                for i in range(width)
            ]
            for k in range(classes)
            for j in range(width)
        ]
        step = solve(hessian, gradient)
        weights = [[w - step[k * width + j] for j, w in enumerate(row)] for k, row in enumerate(weights)]
    raise SystemExit("train.py: did not converge")


def train():
    features, rows, labels, targets = read(os.path.join(HERE, "iris.csv"))
    means, scales, standard = standardise(rows)
    # Back to centimetres, so that a server needs nothing but a product and a sum.
    coefficients, intercepts = [], []
    for *weights, bias in fit(standard, targets, len(labels)):
        raw = [w / s for w, s in zip(weights, scales)]
        coefficients.append([round(w, 6) for w in raw])
        intercepts.append(round(bias - dot(raw, means), 6))
    right = 0
    for row, target in zip(rows, targets):
        scores = [dot(c, row) + b for c, b in zip(coefficients, intercepts)]
        right += scores.index(max(scores)) == target
    return {
        "features": features,
        "labels": labels,
        "coefficients": coefficients,
        "intercepts": intercepts,
        "training": {"rows": len(rows), "correct": right, "l2": L2},
    }


def package(document, path):
    entry = tarfile.TarInfo("model.json")
    entry.size = len(document)
    entry.mode = 0o644
    with open(path, "wb") as file, gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as compressed:
        with tarfile.open(fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            archive.addfile(entry, io.BytesIO(document))


def main():
    model_path = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "model.json")
    archive_path = sys.argv[2] if len(sys.argv) > 2 else os.path.join(HERE, "..", "..", "buckets", "models", "iris.tar.gz")
    model = train()
    document = (json.dumps(model, indent=2) + "\n").encode()
    with open(model_path, "wb") as file:
        file.write(document)
    package(document, archive_path)
    print("%(correct)d of %(rows)d rows are classified correctly" % model["training"])


if __name__ == "__main__":
    main()
