# What one does often, by name. .ci/run is the whole of it.

GO      ?= go
FUZZTIME ?= 200000x

.DEFAULT_GOAL := help
.PHONY: help test race lint fuzz torture planted interop bench bench-compare peers demo man check

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

test: ## run all tests
	$(GO) test ./...

race: ## run all tests with the race detector (needs a C compiler)
	CGO_ENABLED=1 $(GO) test -race ./...

lint: ## gofmt, go vet for Linux and macOS, golangci-lint (built into .cache the first time)
	bash .ci/run lint

fuzz: ## run each fuzz target FUZZTIME times (200000x)
	FUZZTIME=$(FUZZTIME) bash .ci/run fuzz

torture: ## random histories of a store with crashes and faults, until stopped
	$(GO) test -run '^TestTorture$$' -timeout 0 -v ./store -args -torture

planted: ## plant bugs and have the random histories catch them
	bash .ci/run planted

interop: ## let RocketMQ's own store and Stele share directories (needs a JDK and Maven)
	bash .ci/run interop

bench: ## run all benchmarks
	$(GO) test -run '^$$' -bench . -benchmem ./...

bench-compare: ## benchmarks beside those of BASE (HEAD~1), by benchstat: some ten minutes
	bash .ci/bench-compare

peers: ## the same work over Stele and over what one could embed instead: some 25 minutes
	cd bench && $(GO) run .

demo: ## append, kill, recover, verify, fetch, follow: on a temporary store
	$(GO) run ./cmd/storectl demo

man: ## write the man pages to .cache/man/man1 (man -M .cache/man storectl)
	$(GO) run ./cmd/storectl man .cache/man/man1

check: ## everything that a change must pass (.ci/run)
	bash .ci/run
