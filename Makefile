# One command each on a fresh machine: every target makes .venv and installs what it needs.
MAKEFLAGS += --no-print-directory
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# Whose environments are made for test-ports: names of `harness list`, or all. They take 1 to 4 GB each.
PORTS ?= all

# Tests of what depends on the processor, and how it is made one with AVX2 alone, which most people have.
OF_PROCESSOR := tests/reference $(patsubst %,tests/harness/%.py,commands/test_doctor measure/test_speed \
	measure/test_training_speed records/test_compiled_here worker/test_finetune worker/test_roofline worker/test_session)
ENGINE_TESTS := tests/harness/implementations/test_engine_ports.py
# A cache apart: PyTorch takes kernels that it compiled for AVX-512 from its cache in spite of the switch, and they are wrong.
AVX2_ALONE := BERT_ATLAS_MAX_CPU_ISA=AVX2 ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 \
	TORCHINDUCTOR_CACHE_DIR=build/inductor-avx2

# What `results` measures, and where its records are kept so that it goes on where it stopped.
OURS ?= reference,reference:bf16,reference:int8
SMALL := rte,mrpc,cola,stsb,wnli,wnut17
LARGE := sst2,conll2003
RUNS ?= build/results

.PHONY: help run results contribute test test-suite test-engines benchmarks quick soak test-avx2 lint site test-site test-ports \
	install ci
.DEFAULT_GOAL := help

help:  ## show this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: .venv/.run  ## measure the reference and transformers on the embedded suite
	$(BIN)/python -m harness run --impl reference,transformers --suite mini

results: .venv/.run  ## add what is missing to the published results: real data, several seeds (hours; BERT_ATLAS_DATA)
	$(BIN)/python -m harness run --impl $(OURS) --tasks $(SMALL),conll2003 --seeds 5 --runs $(RUNS)
	$(BIN)/python -m harness run --impl reference,transformers --tasks $(SMALL),$(LARGE) --seeds 2 --runs $(RUNS)
	$(BIN)/python -m harness publish $(RUNS)

contribute: .venv/.run  ## measure the board's default rows on this machine, for a pull request (ten minutes)
	-$(INSTALL) --editable '.[ports]'
	$(BIN)/python -m harness contribute

# Files go to as many processes as there are cores, the longest first; what measures its own cost runs alone.
PARALLEL := --numprocesses auto --dist loadfile --no-loadscope-reorder

test: .venv/.test  ## all tests but those in a browser
	$(MAKE) --jobs=2 test-suite test-engines
	$(MAKE) benchmarks

test-suite: .venv/.test
	$(BIN)/python -m pytest $(PARALLEL)

test-engines: .venv/.test
	$(BIN)/python -m pytest -m engines $(ENGINE_TESTS)

benchmarks: .venv/.test
	$(BIN)/python -m pytest tests/benchmarks

quick: .venv/.test  ## the tests that take two seconds or less each
	$(BIN)/python -m pytest $(PARALLEL) -m 'not slow and not ports and not engines and not soak'

soak: .venv/.test  ## rare things, at length (half an hour): writes tests/soak.md
	$(BIN)/python tests/soak.py

test-avx2: .venv/.test  ## what depends on the processor, as on one with AVX2 alone
	@if [ -n "$$($(AVX2_ALONE) $(BIN)/python -c 'from reference.processor import hidden; print(*hidden())')" ]; then \
		$(AVX2_ALONE) $(BIN)/python -m pytest $(PARALLEL) $(OF_PROCESSOR); \
	else echo "test-avx2 is left out: this processor has nothing beyond AVX2 to hide"; fi

lint: .venv/.test  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/python -m harness figures docs/records.md docs/en/guide/pretraining.md docs/zh/guide/pretraining.md --check

site: .venv/.test build/summaries.parquet  ## build the catalog's site into build/site
	$(BIN)/python -m harness index --output build/index.json
	$(BIN)/python -m harness explain --output build/explained.json
	$(BIN)/python -m catalog build
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --config-file mkdocs.zh.yml

# Vectors of the summaries, for what is near in meaning; not computed again while the summaries stay the same.
build/summaries.parquet: build/summaries.jsonl
	$(BIN)/python -m harness embed $< --output $@

.PHONY: FORCE
build/summaries.jsonl: .venv/.test FORCE
	@$(BIN)/python -m catalog summaries --output $@

test-site: .venv/.test  ## the site's tests in a real browser (needs chromium)
	$(BIN)/python -m pytest tests/browser

test-ports: .venv/.test  ## tests of implementations in environments of their own
	$(BIN)/python -m harness env create $(PORTS)
	$(BIN)/python -m pytest -m ports

# What the gate runs. The first three share the cores: pip and the browser mostly wait. Tests have the cores to themselves.
ci:  ## what the gate runs: lint, all tests, and the ports of TensorFlow and Chainer; says the seconds of each
	@mkdir -p build && rm -f build/seconds
	@$(MAKE) timed-install
	@$(MAKE) --jobs=3 --output-sync=target PORTS="bert-tensorflow bert-chainer" timed-lint timed-test-site timed-test-ports
	@$(MAKE) timed-test
	@$(MAKE) timed-test-avx2
	@cat build/seconds

timed-%:
	@start=$$(date +%s); $(MAKE) $* && echo "$$(($$(date +%s) - start)) s $*" >> build/seconds

install: .venv/.test

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.run: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) --editable .
	touch $@

.venv/.test: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) --editable '.[test]'
	touch $@ .venv/.run
