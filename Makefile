# The ways to work on Twofold. `make` lists them.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# What `make run` and `make test` pass on, for example: make run ARGS=--exit, make test TESTFLAGS=-race PKG=./internal/pit/...
ARGS ?=
PKG ?= ./...
TESTFLAGS ?=
# How long each fuzz target of `make fuzz-short` runs.
FUZZTIME ?= 10s

LINT := go tool -modfile=tools/go.mod golangci-lint

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: ## serve the flights example and print requests to try; ARGS=--exit tries them and leaves
	go build -o bin/twofold ./cmd/twofold
	exec bin/twofold demo $(ARGS)

.PHONY: build
build: ## build bin/twofold
	CGO_ENABLED=0 go build -trimpath -o bin/twofold ./cmd/twofold

.PHONY: test
test: tools ## run every test, those against real Redis, S3 and DuckDB too (TWOFOLD_TEST_SKIP=redis,s3,duckdb leaves them out)
	go test $(TESTFLAGS) $(PKG)
	cd bench && go vet ./... && go test $(TESTFLAGS) ./...
	if [[ ,$${TWOFOLD_TEST_SKIP:-}, == *,duckdb,* ]]; then echo "DuckDB is left out"; \
	elif ! command -v "$$(go env CC)" >/dev/null; then echo "no C compiler, so DuckDB is left out"; \
	else cd bench/history && go vet ./... && go test ./...; fi

.PHONY: test-sync-long
test-sync-long: tools ## run the tests that kill syncers in their long form: 500 real processes, and 50 times as many random histories
	TWOFOLD_TEST_KILLS=500 go test ./syncer -run KilledProcesses -v -timeout 1h
	TWOFOLD_TEST_SEEDS=50 go test ./syncer -run 'WhereverItDies|WhereverTheyDie' -timeout 3h

.PHONY: tools
tools: ## get what the tests need: redis-server by the package manager, versitygw and grpcurl into .tools/
	@scripts/tools

.PHONY: lint
lint: ## run the linters and the checks of the contract
	@scripts/lint

.PHONY: proto
proto: ## generate gen/ from proto/
	go tool buf generate

.PHONY: fmt
fmt: ## format Go and proto files
	$(LINT) fmt ./...
	go tool buf format -w

.PHONY: fuzz-short
fuzz-short: ## run every fuzz target for FUZZTIME (10s)
	@scripts/fuzz $(FUZZTIME)

.PHONY: bench-online
bench-online: build ## measure GetOnlineFeatures beside a bare gRPC handler on the same Redis; ARGS=--quick ends within 50 s
	cd bench && CGO_ENABLED=0 go build -trimpath -o ../bin/bench-online ./online
	exec bin/bench-online latency $(ARGS)

.PHONY: bench-online-memory
bench-online-memory: ## measure the Redis memory of an entity in our layout and in two others; ARGS=--quick for fewer entities
	cd bench && CGO_ENABLED=0 go build -trimpath -o ../bin/bench-online ./online
	exec bin/bench-online memory $(ARGS)

.PHONY: bench-history
bench-history: build ## measure GetHistoricalFeatures beside DuckDB on the same files (needs a C compiler); ARGS=--quick ends within 50 s, ARGS=--full adds 100M rows
	@TWOFOLD_TEST_SKIP=redis scripts/tools
	cd bench/history && CGO_ENABLED=1 go build -trimpath -o ../../bin/bench-history .
	exec bin/bench-history run $(ARGS)

.PHONY: bench-sync
bench-sync: build ## measure twofold sync beside raw writes to Redis, and online reads meanwhile; ARGS=--quick ends within 50 s, ARGS=--full adds 50M rows
	@TWOFOLD_TEST_SKIP=redis scripts/tools
	cd bench && CGO_ENABLED=0 go build -trimpath -o ../bin/bench-sync ./sync
	exec bin/bench-sync run $(ARGS)

.PHONY: clean
clean: ## remove what was built and the embedded store's data, but not .tools/
	rm -rf bin twofold-data
