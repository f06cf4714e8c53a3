# Hostward: everything a person types. `make help` lists it.
SHELL := /bin/bash
VENV := .venv
PYTHON := $(VENV)/bin/python
OBJECT := src/hostward/bpf/endpoint.bpf.o
BENCH_OBJECT := src/hostward/bpf/bench.bpf.o
BPF_SOURCES := $(wildcard bpf/*.h bpf/*.bpf.c)
RUST_SOURCES := $(shell find crates -name '*.rs' -o -name Cargo.toml 2>/dev/null) Cargo.toml
BPF_CFLAGS := -O2 -g -target bpf -mcpu=v3 -Wall -Wextra -Werror -Wno-unused-parameter -Wno-missing-field-initializers \
	-I/usr/include/$(shell uname -m)-linux-gnu

.DEFAULT_GOAL := help
.PHONY: help setup bpf build wheel demo test bench lint fmt suites clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: build/setup.stamp ## install what is missing: Debian packages, a venv, Rust
build/setup.stamp: scripts/setup pyproject.toml
	@mkdir -p build
	@scripts/setup
	@touch $@

bpf: build/setup.stamp $(OBJECT) $(BENCH_OBJECT) ## compile the datapath
$(OBJECT) $(BENCH_OBJECT): src/hostward/bpf/%.o: bpf/%.c $(BPF_SOURCES) | build/setup.stamp
	@mkdir -p $(dir $@)
	@echo "compile $@"
	@clang $(BPF_CFLAGS) -c $< -o $@.tmp && llvm-strip -g $@.tmp && mv $@.tmp $@

build: build/core.stamp ## build everything into .venv
build/core.stamp: $(OBJECT) $(BENCH_OBJECT) $(RUST_SOURCES) pyproject.toml | build/setup.stamp
	@echo "build hostward._core (log: build/core.log)"
	@source scripts/environment && $(VENV)/bin/maturin develop --release >build/core.log 2>&1 || { tail -40 build/core.log >&2; exit 1; }
	@touch $@

wheel: build ## dist/hostward-*.whl, installable without a compiler
	@source scripts/environment && PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/maturin build --release --out dist

demo: build ## the main job, shown in a lab of three hosts, every claim checked
	@scripts/mounts && scripts/rooted $(VENV)/bin/hostward lab demo

test: build ## every test
	@source scripts/environment && cargo test --release --workspace --exclude hostward-py
	@scripts/mounts && scripts/rooted $(PYTHON) -m pytest tests

bench: build ## the benchmarks, beside nothing attached and beside nftables; JSON under bench/results
	@scripts/mounts && scripts/rooted $(PYTHON) -m bench $(BENCH)

lint: build ## the linters
	@scripts/lint

fmt: ## format the sources
	@$(VENV)/bin/ruff format src tests bench && $(VENV)/bin/ruff check --fix src tests bench
	@source scripts/environment && cargo fmt --all
	@clang-format -i bpf/*.h bpf/*.c

suites: build ## run the suites of others, where their data is present
	@if [ -d ../shared/suites ]; then echo "no suite concerns what is built so far"; else echo "no suites here"; fi

clean: ## remove what was built
	@rm -rf build dist target $(OBJECT) $(BENCH_OBJECT) src/hostward/_core*.so
