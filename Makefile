# Two commands for a newcomer: `make demo` and `make test`. Each sets up what it needs.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow test-gpu lint types imports check clean

demo: .venv/installed
	$(BIN)/autotune run search_spaces/digits/space.yaml

test: .venv/installed
	$(BIN)/pytest -m "not slow and not gpu"

test-slow: .venv/installed
	$(BIN)/pytest -m "slow and not gpu" --timeout 900

test-gpu: .venv/installed
	$(BIN)/pytest -m gpu -rs --timeout 900

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed
	$(BIN)/mypy

imports: .venv/installed
	$(BIN)/lint-imports --no-cache

check: lint types imports

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv runs
