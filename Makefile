# Two commands for a fresh machine with Rust and Go: `make demo` and `make test`.

SHELL := /bin/bash
CARGO ?= cargo

.DEFAULT_GOAL := help

.PHONY: help
help: ## what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## kubectl refused, a person approves, kubectl allowed: on a real control plane, then yours to play with
	@echo "Building Tagout (the first time takes a few minutes) ..."
	@$(CARGO) build --locked --bins --example demo
	@$(CARGO) run --locked --quiet --example demo

.PHONY: test
test: ## everything CI checks
	@tests/run

.PHONY: controlplane
controlplane: ## build the control plane's programs; the last line printed is their folder
	@$(CARGO) run --locked --quiet -p controlplane

.PHONY: generate
generate: ## write what is generated from the code: the chart's definitions, deploy/
	@$(CARGO) run --locked --quiet --bin tagout -- crds > charts/tagout/crds/new
	@mv charts/tagout/crds/new charts/tagout/crds/tagout.dev.yaml
	@deploy/generate deploy

.PHONY: bench-radius
bench-radius: ## what it costs to find out what goes with a namespace of 5,000 objects
	@$(CARGO) run --locked --release --quiet --example radius

.PHONY: mutants
mutants: ## which changes of approvals and proofs the unit tests would not notice; needs cargo-mutants, takes hours
	@command -v cargo-mutants >/dev/null || { echo "cargo install cargo-mutants --locked" >&2; exit 1; }
	@$(CARGO) mutants --package tagout --timeout 300 --output target \
	  -f 'src/guard/approval.rs' -f 'src/guard/evidence.rs' -f 'src/guard/presenting.rs' -f 'src/guard/team.rs' \
	  -f 'src/guard/proof/*.rs' -- --lib guard::

.PHONY: image
image: ## build the container image with docker, podman or buildah
	@for engine in docker podman buildah; do \
	  if command -v $$engine >/dev/null; then exec $$engine build -t tagout:dev .; fi; \
	done; echo "install docker, podman or buildah first" >&2; exit 1
