# Each recipe is made of plain commands that can be copied without make. `tests/setup.sh` brings what a fresh Debian lacks.

.DEFAULT_GOAL := help
.PHONY: help demo check test bench bench-peers soak
export CARGO_TERM_COLOR ?= auto
TARGET := $(or $(CARGO_TARGET_DIR),target)

help:
	@echo 'make demo    the gateway before a small application, on http://localhost:8080'
	@echo 'make check   format, lints, dependencies: a minute or two once built'
	@echo 'make test    check, then every test: about twelve minutes on a cold clone with two cores'
	@echo 'make bench   figures of benches/README.md: some minutes, on an otherwise idle machine'
	@echo 'make bench-peers  the same jobs by the gateway and by nginx, HAProxy, Envoy, Apache, Caddy and Traefik: about an hour with the build'
	@echo 'make soak    the property tests with two thousand times the cases, and 200 kills of a loaded gateway, an hour of mixed load: about two hours'

demo:
	@tests/setup.sh build
	@echo '--- building (about three minutes on a cold clone)'
	cargo build --locked
	$(TARGET)/debug/vestibule demo

check:
	@tests/setup.sh build lint
	@echo '--- format, lints (some four minutes on a cold clone), dependencies'
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo test --locked --test supply_chain

test: check
	@echo '--- unit, black-box and documentation tests'
	cargo test --locked
	@tests/setup.sh bench
	@echo '--- instructions of a guarded request, under callgrind: a minute or two'
	cargo test --locked --bench round_trip -- --guard
	@echo '--- the pure parts of the bench of peers'
	python3 -m unittest discover benches/peers
	@tests/setup.sh apps
	@echo '--- a Flask application behind the gateway, with curl and Chromium'
	VESTIBULE_BIN=$(TARGET)/debug/vestibule $(TARGET)/venv/bin/python -m pytest tests/apps

bench:
	@tests/setup.sh build bench
	@echo '--- release build (some minutes: link-time optimisation over everything), then the figures'
	cargo bench --locked

# PEERS='--jobs h1,session --rounds 3' chooses; `python3 benches/peers/run.py --help` tells all.
bench-peers:
	@tests/setup.sh build peers
	@echo '--- release build (some minutes: link-time optimisation over everything), then forty minutes of rounds on both cores'
	cargo build --locked --release --example peers_bare --example peers_bare_default --example peers_load
	cargo build --locked --release --bin vestibule
	python3 benches/peers/run.py --target $(TARGET)/release --wheels $(TARGET)/peers $(PEERS)

CASES ?= 500000
KILLS ?= 200
SOAK ?= 1h
soak:
	@tests/setup.sh build soak
	@echo '--- holds both cores for about forty minutes: every property test with $(CASES) cases instead of 256'
	PROPTEST_CASES=$(CASES) cargo test --locked --lib
	@echo '--- as many conversations against a second reader of HTTP/1, a twentieth of them through the built gateway'
	PROPTEST_CASES=$(CASES) cargo test --locked --test gateway -- --nocapture grammar::
	@echo '--- $(KILLS) times kill -9 under load: nothing acknowledged is lost, nothing ended comes back'
	KILL_ROUNDS=$(KILLS) cargo test --locked --test gateway -- --nocapture whatever_was_acknowledged_survives
	@echo '--- 100,000 requests while a file with 1,000 routes is read again every second'
	REQUESTS=100000 cargo test --locked --test gateway -- thousands_of_requests_run_through_reloads
	@echo '--- 100,000 hits without a cookie push nobody out'
	HITS=100000 cargo test --locked --test gateway -- hits_without_a_cookie_cost_nothing
	@echo '--- $(SOAK) of visitors who come, go and break off, applications that die, reloads: memory and descriptors stay; TLS by testssl.sh'
	cargo build --locked
	SOAK=$(SOAK) VESTIBULE_BIN=$(TARGET)/debug/vestibule python3 tests/soak/soak.py
