# Everything starts here: `make demo` and `make test` need Python 3.11 or later and nothing else.
PYTHON ?= python3
BIN := .venv/bin
DEMO ?= demo
STUDIES ?=
FAST := not slow and not container and not gpu

.PHONY: install demo test test-slow test-container lint benchmark-preprocessing benchmark-step lock lock-image clean

install: .venv/.installed

.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: install
	$(BIN)/evenbeat demo $(DEMO) $(if $(STUDIES),--studies $(STUDIES))

test: install
	$(BIN)/python -m pytest -n 2 -m "$(FAST)"

test-slow: install
	$(BIN)/python -m pytest -m "slow"

# As root; tests/container/install.sh installs what they need.
test-container: install
	$(BIN)/python -m pytest -m "container"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

benchmark-preprocessing: install
	$(BIN)/python -m benchmarks.preprocessing

benchmark-step: install
	$(BIN)/python -m benchmarks.training_step

lock:
	$(BIN)/python -m pip freeze --exclude evenbeat | sed 's/+cpu$$//' > requirements.lock

# What the images are built from, with the hashes of all files; pip-compile comes from pip-tools.
PIP_COMPILE ?= pip-compile
IMAGE_LOCKS := requirements build-tools mlflow
lock-image:
	cd docker && for name in $(IMAGE_LOCKS); do CUSTOM_COMPILE_COMMAND="make lock-image" $(PIP_COMPILE) --quiet --allow-unsafe \
	  --generate-hashes --strip-extras --no-annotate --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
	  --constraint ../requirements.lock --output-file $$name.txt $$name.in || exit 1; done

clean:
	rm -rf .venv demo
