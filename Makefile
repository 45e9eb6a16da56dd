# One .venv in the clone for everything; it is set up by the first command that needs it.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
BIN := $(VENV)/bin

.PHONY: help demo test docs lint format clean

help:
	@echo "make demo    the guided demo: pictures from the bundled model, and a model trained on the spot"
	@echo "make test    all checks and all tests"
	@echo "make docs    the documentation site, in build/docs"
	@echo "make lint    ruff, the import floors, the types; make format mends what ruff can mend"
	@echo "make clean   remove .venv and what the tools leave behind"

# Without compiling: half the time, as most modules are never imported.
INSTALL := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check

# torch first and exactly: a range may choose a build with gigabytes of CUDA libraries.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "fewstep needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@echo "Setting up $(VENV), once: about two minutes."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(INSTALL) torch==2.13.0
	@$(INSTALL) -c constraints.txt -e '.[latent,data,demo,tensorboard,plot,docs,dev]'
	@touch $@

demo: $(READY)
	$(BIN)/fewstep demo

test: lint
	$(BIN)/python -m pytest -n auto

docs: $(READY)
	@rm -rf build/docs build/doctrees  # an interrupted build leaves half an index
	$(BIN)/python -m sphinx -j auto -W --keep-going -q -d build/doctrees docs build/docs
	@echo "The site: build/docs/index.html"

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/lint-imports
	$(BIN)/pyright

format: $(READY)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf $(VENV) build docs/api .pytest_cache .ruff_cache .hypothesis .import_linter_cache
