# The two that matter: `make demo` and `make test`.

SHELL := /bin/bash
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
DEMO := examples/02-web-and-counter
AGENT := target/release/agent

# To build: a C compiler (SQLite, libgit2, zstd). For the examples: a static busybox.
PACKAGES := gcc libc6-dev make git busybox-static ca-certificates
# For the tests: other implementations as second opinions, and real servers and clients.
TEST_PACKAGES := curl nftables iproute2 openssh-server skopeo docker-registry mmdebstrap redis-tools zstd python3-minimal

.PHONY: demo demo-down build deps install test test-vm bench lint clean help

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | column -ts $$'\t'

demo: build-deps build example-files ## Build, converge the first example, print its URL
	$(SUDO) $(AGENT) apply $(DEMO)
	$(SUDO) $(AGENT) container ps
	@echo
	@echo "The page:   http://127.0.0.1:8080/   (each visit is counted in a volume)"
	@echo "Look:       $(SUDO) $(AGENT) container logs web"
	@echo "Keep:       $(SUDO) $(AGENT) watch $(DEMO)     (then edit $(DEMO)/web/index.html)"
	@echo "Remove:     make demo-down"

demo-down: ## Remove what the demo made, its volume too
	$(SUDO) $(AGENT) destroy $(DEMO) --volumes --yes

build: ## Build the two programs, agent and container-shim
	cargo build --release --bin agent --bin container-shim

# Files the examples take from the host instead of a registry.
.PHONY: example-files
example-files:
	for example in examples/*/; do install -D -m 0755 "$$(command -v busybox)" "$${example}busybox/busybox"; done

.PHONY: build-deps
build-deps:
	@have=$$(dpkg-query -W -f='$${Status} $${Package}\n' $(PACKAGES) 2>/dev/null | awk '/ok installed/ {print $$NF}' | sort); \
	for p in $(PACKAGES); do grep -qx "$$p" <<<"$$have" || need="$$need $$p"; done; \
	if [ -n "$$need" ]; then $(SUDO) apt-get update -qq && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$need; fi

deps: ## Install what building and testing need (Debian, Ubuntu)
	@$(MAKE) --no-print-directory build-deps PACKAGES="$(PACKAGES) $(TEST_PACKAGES)"

test: example-files ## Run every test; those that need root say so and are skipped without it
	cargo build --workspace --bins
	@before=$$(mktemp) && target/debug/inventory >$$before; \
	cargo test --workspace --no-fail-fast; failed=$$?; \
	target/debug/inventory $$before || failed=1; rm -f $$before; exit $$failed

test-vm: ## Boot Debian's stock kernel with systemd in qemu and use the agent there, across a reboot (minutes)
	cargo build --bins
	tests/vm/run

PREFIX ?= /usr/local
install: build ## Install programs, man pages, completions and the systemd unit below PREFIX (/usr/local)
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/lib/systemd/system
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions
	install -m 0755 target/release/agent target/release/container-shim $(DESTDIR)$(PREFIX)/bin
	target/release/agent man $(DESTDIR)$(PREFIX)/share/man/man1
	target/release/agent completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/agent
	target/release/agent completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_agent
	sed 's|/usr/bin/agent|$(PREFIX)/bin/agent|' packaging/host-agent.service > $(DESTDIR)$(PREFIX)/lib/systemd/system/host-agent.service

lint: ## Format and lint as errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

bench: build ## Side-by-side timings with crun, runc, podman and docker where they are installed
	cargo run --release -p tests --bin bench

clean: ## Remove what was built
	cargo clean
