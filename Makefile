# The commands a person types; .ci/run calls the same. All of them work in .venv, which `make setup` creates.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: setup demo test lint bench docs slow core clean

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml CMakeLists.txt $(wildcard csrc/*) src/aconite/ops/node.cpp
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	$(BIN)/aconite build-node || echo "Without a C++ compiler everything works, at Python's price."
	touch $@

demo: setup ## compare five activations on real digits, about two minutes
	$(BIN)/aconite demo

test: setup ## unit tests and docs examples
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

lint: setup ## linter, formatter, type checker, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup ## ratios to stock layers on an idle machine, about half an hour; rows in benchmarks/results
	$(BIN)/aconite bench --compiled --repeats 3 --out benchmarks/results/activations-$$(uname -m)-cpu.jsonl
	$(BIN)/aconite bench norms --compiled --repeats 3 --out benchmarks/results/norms-$$(uname -m)-cpu.jsonl
	$(BIN)/aconite bench networks --compiled --out benchmarks/results/networks-$$(uname -m)-cpu.jsonl

docs: setup ## the documentation site, in docs/_build/html; a warning is an error
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

slow: setup ## long training, browsers, big sweeps
	$(BIN)/python -m pytest -m slow

core: ## the core in an environment that has torch and nothing else
	PYTHON=$(PYTHON) .ci/core

clean:
	rm -rf $(VENV) build dist docs/_build .mypy_cache .pytest_cache .ruff_cache .hypothesis
