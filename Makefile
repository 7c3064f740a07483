# The two commands of a newcomer are `make run` and `make test`.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
GO      ?= go
BIN     := bin/sagelocal
# Where the service models for `make gen` are: botocore's, which boto3 installs.
BOTOCORE ?= $(shell python3 -c 'import botocore, os; print(os.path.dirname(botocore.__file__))' 2>/dev/null)
FUZZTIME ?= 10s

.DEFAULT_GOAL := help
.PHONY: build run test race lint bench bench-matrix bench-scale bench-stream bench-record bench-compare benchstat bench-aws-table routing-charts fuzz gen help clean

build: ## build bin/sagelocal, a static binary
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/sagelocal

run: build bin/irisgo ## build and serve with the sample configuration; ARGS='--in-memory' adds flags
	$(BIN) serve --config testdata/sagelocal.yaml $(ARGS)

bin/irisgo: $(wildcard testdata/models/irisgo/*.go)
	CGO_ENABLED=0 $(GO) build -trimpath -o $@ ./testdata/models/irisgo

test: ## all tests that need nothing but Go; others skip and say why
	$(GO) test ./...

race: ## the same under the race detector
	CGO_ENABLED=1 $(GO) test -race ./...

lint: ## gofumpt and golangci-lint v2
	@command -v gofumpt >/dev/null || $(GO) install mvdan.cc/gofumpt@latest
	@command -v golangci-lint >/dev/null || $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@latest
	@test -z "$$(gofumpt -l . | tee /dev/stderr)"
	golangci-lint run ./...

bench: build bin/irisgo ## print the table of ratios that docs/benchmarks.md keeps
	$(GO) run ./cmd/internal/benchtable

bench-matrix: build ## the same beside HAProxy by connections and size of bodies, 8 min
	$(GO) run ./cmd/internal/benchtable --only matrix

bench-scale: build ## the same for 1,000 instances, 500 endpoints, 4,000 connections, 6 min
	$(GO) run ./cmd/internal/benchtable --only scale

bench-stream: build ## the same for streamed answers: first chunk, chunks per second, 1 min
	$(GO) run ./cmd/internal/benchtable --only stream

bench-record: build ## measure both and record them: docs/benchmarks.md and .txt
	$(GO) run ./cmd/internal/benchtable --only matrix,scale --write --benchfmt docs/benchmarks.txt

bench-compare: build benchstat ## measure both anew; fail if a ratio is significantly worse than recorded
	@# A measurement that fails is named and does not count as a loss.
	$(GO) run ./cmd/internal/benchtable --only matrix,scale --benchfmt bin/benchmarks.txt --compare docs/benchmarks.txt

benchstat:
	@command -v benchstat >/dev/null || $(GO) install golang.org/x/perf/cmd/benchstat@latest

bench-aws-table: build ## AWS's routing table (docs/routing.md), simulated and then live for 10 minutes
	$(BIN) simulate --workload codegen2-7b-g5.24xlarge --repetitions 20
	$(GO) run ./cmd/internal/awstable -binary $(BIN) -duration 12s

routing-charts: ## draw the charts of docs/routing.md anew, about a minute
	$(GO) run ./dataplane/routelab/sim/study -out docs/pictures

fuzz: ## run every fuzz target for FUZZTIME (10s)
	@set -e; for pkg in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "$$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$pkg; \
	  done; done

gen: ## write sdkcompat/constraints.json anew from the installed botocore
	@test -n "$(BOTOCORE)" || { echo 'botocore is not installed; give BOTOCORE=<its directory>' >&2; exit 1; }
	$(GO) run ./sdkcompat/gen -model $$(ls $(BOTOCORE)/data/sagemaker/2017-07-24/service-2.json*) \
	  -runtime-model $$(ls $(BOTOCORE)/data/sagemaker-runtime/2017-05-13/service-2.json*) -out sdkcompat/constraints.json

clean: ## remove what was built
	rm -rf bin

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18
