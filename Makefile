# Two commands for a fresh machine with Rust and Go: `make demo` and `make test`.

SHELL := /bin/bash
CARGO ?= cargo

.DEFAULT_GOAL := help

.PHONY: help
help: ## what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /make \1|/' | column -t -s '|'

.PHONY: demo
demo: ## kubectl refused, a person approves, kubectl allowed: on a real control plane, then yours to play with
	@echo "Building Tagout (the first time takes a few minutes) ..."
	@$(CARGO) build --locked --bins --example demo
	@target/debug/examples/demo

.PHONY: test
test: ## everything CI checks
	@tests/run

.PHONY: controlplane
controlplane: ## build the control plane's programs; the last line printed is their folder
	@$(CARGO) run --locked --quiet -p controlplane

.PHONY: generate
generate: ## write what is generated from the code: the chart's definitions, deploy/
	@$(CARGO) run --locked --quiet --bin tagout -- crds > charts/tagout/crds/tagout.dev.yaml
	@deploy/generate

.PHONY: image
image: ## build the container image with docker, podman or buildah
	@for engine in docker podman buildah; do \
	  if command -v $$engine >/dev/null; then exec $$engine build -t tagout:dev .; fi; \
	done; echo "install docker, podman or buildah first" >&2; exit 1
