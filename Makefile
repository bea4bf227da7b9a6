# make demo | studio | browser | notebook | docs | test | test-all | test-oldest | test-newest | coverage | lint | bench     (only Python 3.11+ with venv, and make, are needed)
# PYTHON=python3.12        another interpreter
# OLDEST=tests/method/test_levels.py  which tests `make test-oldest` runs
# TORCH_INDEX=https://...  a PyTorch wheel index, e.g. https://download.pytorch.org/whl/cpu for the small CPU build
PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo studio browser notebook docs test test-all test-oldest test-newest coverage lint format bench clean
.DELETE_ON_ERROR:

$(VENV)/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else "fifo-diffusion needs Python 3.11 or newer, and $(PYTHON) is %d.%d: type  make PYTHON=python3.12  (or another newer one)" % v[:2])'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) has no venv module: install it (Debian, Ubuntu: apt install python3-venv)"; exit 1; }
	@echo "setting up $(VENV) (once, for minutes: PyTorch with CUDA is some gigabytes, TORCH_INDEX=https://download.pytorch.org/whl/cpu takes its small CPU build)"
	@$(PYTHON) -m venv $(VENV)
	@$(INSTALL) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX) --extra-index-url https://pypi.org/simple) torch
	@$(INSTALL) -e '.[dev]'
	@touch $@

demo: $(VENV)/ready
	$(BIN)/fifo-diffusion generate "a red robot walking to the right in the hills on a sunny day" \
		-o demo.mp4 --model toybox-diagonal --preset live --windows-per-batch 2 --num-frames 160 --scale 4 --seed 0 --overwrite

studio: $(VENV)/ready
	$(BIN)/fifo-diffusion studio --runs runs

# What the tests of the page need beside Chromium (Debian, Ubuntu: apt-get install chromium); they are left out without.
browser: $(VENV)/ready
	$(INSTALL) -e '.[browser]'

# What the tests of notebooks need; they are left out without.
notebook: $(VENV)/ready
	$(INSTALL) -e '.[notebook]'

# The documentation as a site, in build/site; it must build without a warning.
docs: $(VENV)/ready
	$(INSTALL) -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

test: $(VENV)/ready
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/python -m pytest -m "not slow" -n auto --dist loadfile
	@$(BIN)/python -c 'import playwright' 2>/dev/null && command -v chromium >/dev/null || \
		echo "left out: tests of the page; they need  make browser  and Chromium (Debian, Ubuntu: apt-get install chromium)"

test-all: $(VENV)/ready
	$(BIN)/python -m pytest

# The lowest version that pyproject.toml allows of everything but torch, in an environment of its own. Torch is the
# pinned one: small CPU builds of old ones are only on PyTorch's own index. TORCH=2.5.1 takes another.
TORCH ?= $(shell sed -n 's/^torch==//p' constraints.txt)
OLDEST ?= tests

$(VENV)-oldest/ready: pyproject.toml constraints.txt tests/oldest.py
	@echo "setting up $(VENV)-oldest (once; PyTorch is large)"
	@$(PYTHON) -m venv $(VENV)-oldest
	@$(PYTHON) tests/oldest.py > $(VENV)-oldest/constraints.txt
	@$(VENV)-oldest/bin/python -m pip install --quiet --disable-pip-version-check -c $(VENV)-oldest/constraints.txt \
		$(if $(TORCH_INDEX),--index-url $(TORCH_INDEX) --extra-index-url https://pypi.org/simple) torch==$(TORCH)
	@$(VENV)-oldest/bin/python -m pip install --quiet --disable-pip-version-check -c $(VENV)-oldest/constraints.txt \
		-e '.[dev]' torch==$(TORCH)
	@touch $@

test-oldest: $(VENV)-oldest/ready
	$(VENV)-oldest/bin/python -m pytest -m "not slow" -n auto --dist loadfile $(OLDEST)

# The newest of everything, whatever constraints.txt says; TORCH as above. With NEWEST=tests/method, some tests only.
NEWEST ?= tests

$(VENV)-newest/ready: pyproject.toml
	@echo "setting up $(VENV)-newest (once; PyTorch is large)"
	@$(PYTHON) -m venv $(VENV)-newest
	@$(VENV)-newest/bin/python -m pip install --quiet --disable-pip-version-check \
		$(if $(TORCH_INDEX),--index-url $(TORCH_INDEX) --extra-index-url https://pypi.org/simple) torch$(if $(TORCH),==$(TORCH))
	@$(VENV)-newest/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' $(if $(TORCH),torch==$(TORCH))
	@touch $@

test-newest: $(VENV)-newest/ready
	$(VENV)-newest/bin/python -m pytest -m "not slow" -n auto --dist loadfile $(NEWEST)

# Lines that the fast tests run, in the processes of the tests alone: commands that they start are not counted.
coverage: $(VENV)/ready
	$(INSTALL) -e '.[coverage]'
	$(BIN)/python -m pytest -m "not slow" -n auto --dist loadfile --cov=fifo_diffusion --cov-report=term:skip-covered --cov-report=json:build/coverage.json

lint: $(VENV)/ready
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: $(VENV)/ready
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

bench: $(VENV)/ready
	$(BIN)/python benchmarks/speed.py

clean:
	rm -rf $(VENV) $(VENV)-oldest $(VENV)-newest build dist demo.mp4 .ruff_cache .hypothesis
