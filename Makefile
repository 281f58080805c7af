# Each task installs what it needs first, and says so: see tools/deps.

TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: help
help: ## Say what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

.PHONY: deps
deps: ## Install the Debian packages that building and testing need
	@tools/deps build test

.PHONY: build
build: ## Build the mox command and every service, for production
	@tools/deps build
	cargo build --release --workspace --bins

.PHONY: localserve
localserve: ## Build, and start a mail server for developers on loopback
	@tools/deps build
	cargo build --release -p mox-cli
	$(TARGET)/release/mox localserve $(ARGS)

.PHONY: test
test: ## Run all tests, with real clients
	@tools/deps build test
	cargo build --workspace --bins
	cargo test --workspace --no-fail-fast

.PHONY: bench
bench: ## Measure against Postfix and Dovecot on this machine, release build
	@tools/deps build test bench
	cargo build --release --workspace --bins
	$(TARGET)/release/mox-bench $(ARGS)

.PHONY: fuzz
fuzz: ## Look for inputs that parsers mishandle: MINUTES=10 for each
	@tools/deps build
	tools/fuzz $$(( $(or $(MINUTES),10) * 60 )) $(TARGETS)

.PHONY: check
check: ## Formatting, lints, layering, licences
	@tools/deps build
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo test --workspace --test layering
	tools/deny
