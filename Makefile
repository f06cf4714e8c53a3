# Hostward: everything a person types. `make help` lists it.
SHELL := /bin/bash
VENV := .venv
PYTHON := $(VENV)/bin/python
OBJECT := src/hostward/bpf/endpoint.bpf.o
PROCESS_OBJECT := src/hostward/bpf/process.bpf.o
UPLINK_OBJECT := src/hostward/bpf/uplink.bpf.o
BENCH_OBJECT := src/hostward/bpf/bench.bpf.o
GATE_OBJECT := src/hostward/bpf/gate.bpf.o
OBJECTS := $(OBJECT) $(PROCESS_OBJECT) $(UPLINK_OBJECT) $(BENCH_OBJECT) $(GATE_OBJECT)
BPF_SOURCES := $(wildcard bpf/*.h bpf/*.bpf.c)
RUST_SOURCES := $(shell find crates -name '*.rs' -o -name Cargo.toml 2>/dev/null) Cargo.toml
BPF_CFLAGS := -O2 -g -target bpf -mcpu=v3 -Wall -Wextra -Werror -Wno-unused-parameter -Wno-missing-field-initializers \
	-I/usr/include/$(shell uname -m)-linux-gnu

.DEFAULT_GOAL := help
.PHONY: help setup bpf build wheel demo test bench fuzz lint fmt suites clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: build/setup.stamp ## install what is missing: Debian packages, a venv, Rust
build/setup.stamp: scripts/setup pyproject.toml
	@mkdir -p build
	@scripts/setup
	@touch $@

bpf: build/setup.stamp $(OBJECTS) ## compile the datapath
$(OBJECTS): src/hostward/bpf/%.o: bpf/%.c $(BPF_SOURCES) | build/setup.stamp
	@mkdir -p $(dir $@)
	@echo "compile $@"
	@clang $(BPF_CFLAGS) -c $< -o $@.tmp && llvm-strip -g $@.tmp && mv $@.tmp $@

build: build/core.stamp ## build everything into .venv
build/core.stamp: $(OBJECTS) $(RUST_SOURCES) pyproject.toml | build/setup.stamp
	@echo "build hostward._core (log: build/core.log)"
	@source scripts/environment && $(VENV)/bin/maturin develop --release >build/core.log 2>&1 || { tail -40 build/core.log >&2; exit 1; }
	@touch $@

INSPECTOR := $(VENV)/bin/hostward-inspector
build: $(INSPECTOR)
$(INSPECTOR): $(RUST_SOURCES) | build/setup.stamp
	@echo "build hostward-inspector"
	@source scripts/environment && cargo build -q --release -p hostward-inspect
	@install -m 755 target/release/hostward-inspector $@

wheel: build ## dist/hostward*.whl, installable without a compiler
	@source scripts/environment && PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/maturin build --release --out dist
	@source scripts/environment && PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/maturin build --release -m crates/hostward-inspect/Cargo.toml --out dist

demo: build ## the main job, shown in a lab of three hosts, every claim checked
	@scripts/mounts && scripts/rooted $(VENV)/bin/hostward lab demo

test: build ## every test
	@source scripts/environment && cargo test --release --workspace --exclude hostward-py
	@scripts/mounts && scripts/rooted $(PYTHON) -m pytest tests

fuzz: build ## random sequences of frames through the packet path, FUZZ=seconds (60); mistakes under build/fuzz
	@scripts/mounts && scripts/rooted $(PYTHON) -m fuzz --seconds $(or $(FUZZ),60)

bench: build ## the benchmarks, beside nothing attached and beside nftables; JSON under bench/results
	@scripts/mounts && scripts/rooted $(PYTHON) -m bench $(BENCH)

lint: build ## the linters
	@scripts/lint

fmt: ## format the sources
	@$(VENV)/bin/ruff format src tests bench fuzz && $(VENV)/bin/ruff check --fix src tests bench fuzz
	@source scripts/environment && cargo fmt --all
	@clang-format -i bpf/*.h bpf/*.c

suites: build ## run the suites of others, where their data is present
	@scripts/suites

clean: ## remove what was built
	@rm -rf build dist target $(OBJECTS) src/hostward/_core*.so
