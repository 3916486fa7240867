# make demo: an emperor with a Django, a Flask, a plain WSGI and a Lua vassal behind nginx.
# make test: everything the tests need, and all tests.
# Each installs what it needs (scripts/setup.sh says what that is).

CARGO ?= cargo

.PHONY: help build release demo test test-rust loom lint fmt conformance bench instructions manual clean

help:
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

build: ## the binary and the Python extension, for development
	$(CARGO) build --workspace

release: ## the same, optimised
	$(CARGO) build --workspace --release

demo: ## emperor, four vassals and nginx on loopback; Ctrl-C ends it
	@scripts/setup.sh demo
	@$(CARGO) build --workspace --release
	@scripts/demo.sh

test: ## all tests, black-box ones on a real nginx, Django and Flask
	@scripts/setup.sh test
	$(CARGO) build --workspace
	scripts/run-tests.sh

loom: ## the cache's protocol under every interleaving that the memory model allows
	CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 $(CARGO) test --release -p imperator-cache --features loom --test loom -- --test-threads 1

lint: ## fmt, clippy -D warnings, cargo deny
	@scripts/setup.sh lint
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) fetch -q
	$(CARGO) deny --offline --log-level error check bans licenses sources

conformance: ## the shared black-box cases, where they are (CONFORMANCE=folder)
	@scripts/setup.sh conformance
	$(CARGO) build --workspace
	scripts/conformance.sh

bench: ## CPU per request, throughput, p99 and memory side by side with other servers (BENCH=--quick: only whether it works)
	@scripts/setup.sh bench
	$(CARGO) build --workspace --release
	benches/side-by-side.py $(BENCH)

instructions: ## instructions of the hot functions against their budget
	@scripts/setup.sh instructions
	$(CARGO) build --release -p imperator-instructions -p imperator -p imperator-python
	benches/instructions/check.py

manual: ## regenerate docs/options.md from the option table
	$(CARGO) run -q -- options --markdown > docs/options.md

fmt: ## format
	$(CARGO) fmt --all

clean: ## remove what was built
	$(CARGO) clean
	rm -rf .venv demo/run
