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
generate: ## write what is generated: the chart's definitions, schema and page, deploy/
	@$(CARGO) run --locked --quiet --bin tagout -- crds > charts/tagout/crds/new
	@mv charts/tagout/crds/new charts/tagout/crds/tagout.dev.yaml
	@charts/generate charts/tagout
	@deploy/generate deploy

.PHONY: bench
bench: ## what Tagout costs, into docs/performance.md; twenty minutes. BENCH_QUICK=1: two, into target/bench. ONLY="--only latency"
	@mkdir -p target/bench
	@deploy/build-static target/bench
	@deploy/build-static target/bench --example bench
	@target/bench/bench $(ONLY)

.PHONY: soak
soak: ## ten minutes of deletions at a steady rate, into docs/performance.md
	@$(MAKE) --no-print-directory bench ONLY="--only soak"

.PHONY: bench-gate
bench-gate: ## whether a decision takes more instructions than it did; needs valgrind
	@tests/bench/gate

.PHONY: bench-radius
bench-radius: ## what it costs to find out what goes with a namespace of 5,000 objects
	@$(CARGO) run --locked --release --quiet --example radius

.PHONY: bench-budget
bench-budget: ## what a ceiling and the memory of what was destroyed cost each deletion and creation
	@$(CARGO) build --locked --release --bin tagout
	@$(CARGO) run --locked --release --quiet --example budget -- target/release/tagout

OPERATIONS ?= 100000

.PHONY: histories
histories: ## random histories on a real API server against a model of the documentation; writes docs/evidence/histories.md
	@$(CARGO) build --locked --release --bin tagout
	@mkdir -p docs/evidence
	@$(CARGO) run --locked --release --quiet --example histories -- --operations $(OPERATIONS) --without 3000 \
	  $(if $(SEED),--seed $(SEED)) --page docs/evidence/histories.md
.PHONY: sabotage
sabotage: ## break one check of the guard after the other, and see that the tests notice; takes an hour
	@tests/sabotage/run

.PHONY: mutants
mutants: ## which changes of approvals and proofs the unit tests would not notice; needs cargo-mutants, takes hours
	@command -v cargo-mutants >/dev/null || { echo "cargo install cargo-mutants --locked" >&2; exit 1; }
	@$(CARGO) mutants --package tagout --timeout 300 --output target \
	  -f 'src/guard/approval.rs' -f 'src/guard/evidence.rs' -f 'src/guard/presenting.rs' -f 'src/guard/team.rs' \
	  -f 'src/guard/proof/*.rs' -- --lib guard::

SECONDS ?= 20
.PHONY: fuzz
fuzz: ## fuzz each target for SECONDS (20); with PAGE=docs/evidence/fuzzing.md the figures are written there
	@PAGE=$(PAGE) fuzz/run $(SECONDS) $(TARGET)

.PHONY: image
image: ## build the container image with docker, podman or buildah
	@version=$$(sed -n 's/^appVersion: *//p' charts/tagout/Chart.yaml); revision=$$(git rev-parse HEAD 2>/dev/null || echo unknown); \
	for engine in docker podman buildah; do \
	  if command -v $$engine >/dev/null; then \
	    exec $$engine build -t tagout:dev --build-arg VERSION=$$version --build-arg REVISION=$$revision .; fi; \
	done; echo "install docker, podman or buildah first" >&2; exit 1

.PHONY: sbom
sbom: ## write target/sbom.json (CycloneDX): what the image's program was built of, by what it says itself
	@deploy/sbom

.PHONY: release
release: ## the plugin for linux, darwin and windows on amd64 and arm64, krew's manifest and checksums; BASE_URL=where it will be
	@deploy/release

.PHONY: reproducible
reproducible: ## build the image's program twice, in different folders, and compare; takes as long as two release builds
	@deploy/reproducible

.PHONY: e2e
e2e: ## the image on a real node with kubelet, containerd and kube-proxy; needs root, buildah, runc and iptables
	@tests/retried $(CARGO) test --locked --test e2e
