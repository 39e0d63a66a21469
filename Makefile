# Everything the project does, one target each. `make demo` and `make test` need
# nothing but Python 3.10 to 3.13 and the package index: they set up .venv first.
PYTHON ?= $(firstword $(foreach v,3.11 3.12 3.13 3.10,\
	$(shell command -v python$(v))) python3)
VENV ?= .venv
BIN = $(VENV)/bin
SECONDS_EACH ?= 60
WORKERS ?= 2

.PHONY: help setup demo test test-slow test-peers test-beam test-arm fuzz lint format bench scaling quality \
	web c docs docs-links clean

help:
	@echo "make demo        fit a photograph, then meta-train, compare, export: minutes"
	@echo "                 QUICK=1 ends after the photograph"
	@echo "make test        set up and run the tests (WORKERS=2 at a time)"
	@echo "make test-slow   the checks that train for minutes"
	@echo "make test-peers  20 outer steps beside the authors' algorithms in JAX"
	@echo "make test-beam   drawing and bulk fitting on Apache Beam: 4 minutes"
	@echo "make test-arm    fits on an emulated ARM64 machine: 5 minutes"
	@echo "make fuzz        damaged files for every reader: minutes"
	@echo "make lint        ruff, and buildifier where npm is present"
	@echo "make bench       the speed benchmarks, with JAX and PyTorch as peers"
	@echo "make scaling     growth with pixels, steps, tasks and width: long"
	@echo "make quality     training recipes for the same CPU time: hours"
	@echo "make web         the page that fits pictures in the browser"
	@echo "make c           the C client: build/fit"
	@echo "make docs        the pages and the API reference: build/docs/index.html"
	@echo "make docs-links  whether the addresses in the pages exist: needs a network"
	@echo "PYTHON=python3.12 VENV=.venv312 chooses another interpreter"

setup: $(VENV)/.ready

$(VENV)/.ready: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $@

demo: setup
	$(BIN)/python examples/demo.py --output_dir=runs/demo $(if $(QUICK),--quick)

# Most of a test is the making of graphs, which keeps one core busy.
test: setup
	$(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=worksteal

test-slow: setup
	$(BIN)/python -m pytest -m slow

test-peers: setup
	$(BIN)/python -m pip install --quiet --editable ".[test,peers]"
	$(BIN)/python -m pytest tests/meta/peers_test.py tests/benchmarks_test.py

test-beam: setup
	$(BIN)/python -m pip install --quiet --editable ".[test,beam]"
	$(BIN)/python -m pytest tests/runs/bulk_fit_test.py tests/signals/base/generated_test.py

# Needs Debian's qemu-user-static and gcc-aarch64-linux-gnu.
test-arm: setup
	$(BIN)/python tests/arm.py

fuzz: setup
	$(BIN)/python -m pip install --quiet --editable ".[test,fuzz]"
	$(BIN)/python tests/fuzz.py --seconds=$(SECONDS_EACH)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@if command -v npx >/dev/null; then \
		npx --yes --loglevel=error @bazel/buildifier --mode=check --lint=warn BUILD; \
	else echo "npx not found: BUILD not linted"; fi

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	$(BIN)/python -m pip install --quiet --editable ".[test,bench]"
	$(BIN)/python benchmarks/meta_step.py
	$(BIN)/python benchmarks/adapt.py

scaling: setup
	$(BIN)/python -m pip install --quiet --editable ".[test,bench]"
	$(BIN)/python benchmarks/scaling.py --output_dir=runs/scaling

quality: setup
	$(BIN)/python benchmarks/quality.py --output_dir=runs/quality

# With the sample artifact; `make web ARTIFACT=exported/text` with another.
web:
	cd examples/web && npm install --omit=dev --no-fund --no-audit
	$(PYTHON) examples/web/serve.py $(if $(ARTIFACT),--artifact=$(ARTIFACT))

# Against libLiteRt.so of the ai-edge-litert wheel.
c: setup
	mkdir -p build
	lib=$$($(BIN)/python -c "import ai_edge_litert as m; print(m.__path__[0])") \
		&& $(CC) -std=c11 -O2 -Wall -Wextra -o build/fit examples/c/fit.c \
		$$lib/libLiteRt.so -Wl,-rpath,$$lib -lm

# A warning is an error: a link to nowhere, a docstring that is not well-formed.
DOCS_OPTIONS = --quiet --fail-on-warning --keep-going --doctree-dir build/doctrees

docs: setup
	$(BIN)/python -m pip install --quiet --editable ".[docs]"
	$(BIN)/sphinx-build $(DOCS_OPTIONS) docs build/docs

docs-links: setup
	$(BIN)/python -m pip install --quiet --editable ".[docs]"
	$(BIN)/sphinx-build $(DOCS_OPTIONS) --builder linkcheck docs build/docs-links

clean:
	rm -rf $(VENV) build dist docs/api *.egg-info
