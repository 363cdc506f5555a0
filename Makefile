# Two commands: `make search` and `make test`. Both set up .venv with locked versions first.
PYTHON ?= python3
BIN := .venv/bin
EXTRAS := nni,parquet,postgresql,dashboard,privacy,dev

.PHONY: search test lint site

search: .venv/installed
	$(BIN)/nas search

test: .venv/installed
	$(BIN)/python -m pytest --numprocesses 2 --dist loadgroup

lint: .venv/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

site: .venv/installed
	$(BIN)/mkdocs build --strict

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $@
