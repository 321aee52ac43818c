# `make demo` and `make test` set up all that they need in .venv, and are safe to repeat.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo all-runtimes test coverage test-fast test-slow test-devices test-kernels test-apps test-federated test-llm fuzz lint lint-versions format benchmarks benchmarks-long clean help screenshots

help:
	@echo "make demo        install Edgewright into .venv and run the demo"
	@echo "make all-runtimes  install every runtime beside it: ncnn, MNN, OpenVINO, ExecuTorch, Core ML"
	@echo "make test        install the development tools into .venv, check the code, run the tests"
	@echo "make test-fast   the tests that start no process, train nothing and need no browser (under a minute)"
	@echo "make test-slow   tests that watch whole processes for minutes; needs strace, and every runtime (make all-runtimes)"
	@echo "make test-devices  devices: pages in Chromium with both web runtimes (fetches them with npm, once)"
	@echo "make test-kernels  the kernels under QEMU (three Arm processors) and with sanitizers; needs gcc and aarch64-linux-gnu-gcc"
	@echo "make test-apps  generated apps: the web project in Chromium with both runtimes, the Swift package with Debian's compiler, the C++ project here and on Arm (QEMU), the agent on a JVM"
	@echo "make test-federated  federated learning: Flower in its environment, a server and clients in network namespaces"
	@echo "make coverage    the tests of make test with a coverage report in build/coverage.xml; no threshold"
	@echo "make fuzz        run mutated models, exports and settings through it (16,000 cases, about an hour); FUZZ_CASES=200 runs 200"
	@echo "make lint        only the checks: ruff, mypy, import-linter"
	@echo "make lint-versions  type check for Python 3.12 and 3.14, and for macOS and Windows"
	@echo "make format      format the code"
	@echo "make benchmarks  measure Edgewright itself (about 30 minutes on a quiet machine)"
	@echo "make benchmarks-long  every model of the suite and models of shipped products in every runtime, the three LiteRT converters, the quantiser (hours)"
	@echo "make screenshots  every page in light and dark, on a desktop and a phone, into build/screenshots; needs chromium"
	@echo "make clean       remove .venv and what the tools left"

# One stamp for the environment and its pip: whichever of the steps fails, the next `make` begins here again.
$(VENV)/.pip:
	@echo "==> Making a virtual environment in $(VENV)"
	@command -v $(PYTHON) >/dev/null 2>&1 && $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Edgewright needs Python 3.11 or newer")' \
		|| { rm -rf $(VENV); exit 1; }
	@$(PIP) install --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.ready: $(VENV)/.pip pyproject.toml
	@echo "==> Installing Edgewright with LiteRT (about 250 MB; once)"
	@$(PIP) install --editable '.[litert]'
	@touch $@

# torch goes first, alone and exactly: resolved together with others it can bring gigabytes of CUDA packages.
$(VENV)/.ready-all: $(VENV)/.ready
	@echo "==> Installing torch (once)"
	@$(PIP) install torch==2.13.0
	@echo "==> Installing all runtimes (about 2 GB with torch; once)"
	@$(PIP) install --editable '.[all]'
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	@echo "==> Installing the development tools (once)"
	@$(PIP) install --editable '.[litert,postgres,devices,serve,place]' --group dev
	@touch $@

all-runtimes: $(VENV)/.ready-all
	@$(BIN)/edgewright doctor

demo: $(VENV)/.ready
	@echo "==> edgewright demo"
	@$(BIN)/edgewright demo
	@echo "==> See it in the browser: $(BIN)/edgewright ui"

lint: $(VENV)/.ready-dev
	@echo "==> ruff, mypy, import-linter"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

# The newest and the oldest Python that no tests run on here, and macOS. Windows: some 30 uses of POSIX are not guarded.
lint-versions: $(VENV)/.ready-dev
	@$(BIN)/mypy --python-version 3.12 src
	@$(BIN)/mypy --python-version 3.14 src
	@$(BIN)/mypy --python-version 3.14 --platform darwin src
	@$(BIN)/mypy --python-version 3.12 --platform win32 src

# Tests run in as many processes as there are processors; PYTEST_WORKERS=0 runs them in one.
PYTEST_WORKERS ?= logical
PYTEST := $(BIN)/python -m pytest --numprocesses $(PYTEST_WORKERS) --dist worksteal

test: lint
	@echo "==> pytest"
	@$(PYTEST) -m "not slow" $(PYTEST_OPTIONS)

test-fast: $(VENV)/.ready-dev
	@$(PYTEST) -m "not slow and not process and not training and not browser" $(PYTEST_OPTIONS)

# What a user's device would be is on this machine, or a stand-in. The runtimes for browsers are set up once.
test-devices: $(VENV)/.ready-dev
	@EDGEWRIGHT_HOME=$(HOME)/.cache/edgewright-tests $(BIN)/edgewright runtimes setup web || echo "    it cannot be set up here: its tests will skip"
	@$(PYTEST) --dist loadfile tests/web/browsers $(PYTEST_OPTIONS)

test-slow: $(VENV)/.ready-dev
	@$(PYTEST) --dist loadgroup -m slow tests tests_slow --ignore tests_slow/kernels --ignore tests_slow/apps --ignore tests_slow/federated --ignore tests_slow/llm $(PYTEST_OPTIONS)

# Kernels on Arm under QEMU (71 MB into ~/.cache/edgewright-tests, needs apt) and with sanitizers; about 2 minutes.
test-kernels: $(VENV)/.ready-dev
	@scripts/set_up_qemu.sh || echo "    it cannot be set up here: its tests will skip"
	@$(BIN)/python -m pytest --numprocesses 0 -m slow tests_slow/kernels $(PYTEST_OPTIONS)

# Generated apps, compiled and run here. What cannot be set up is skipped with the reason.
test-apps: $(VENV)/.ready-dev
	@EDGEWRIGHT_HOME=$(HOME)/.cache/edgewright-tests $(BIN)/edgewright runtimes setup web || echo "    it cannot be set up here: its tests will skip"
	@scripts/set_up_swift.sh || echo "    it cannot be set up here: its tests will skip"
	@scripts/set_up_qemu.sh && PYTHON=$(BIN)/python scripts/set_up_apps.sh || echo "    it cannot be set up here: tests on Arm will skip"
	@PYTHON=$(BIN)/python scripts/set_up_ncnn.sh || echo "    it cannot be built here: its test will skip"
	@PYTHON=$(BIN)/python scripts/set_up_jvm.sh || echo "    Kotlin cannot be set up here: its tests will skip"
	@$(BIN)/python -m pytest --numprocesses 0 -m slow tests_slow/apps $(PYTEST_OPTIONS)

# Flower in its environment (1.2 GB into ~/.cache/edgewright-tests, once); namespaces need root. About 5 minutes.
test-federated: $(VENV)/.ready-all $(VENV)/.ready-dev
	@EDGEWRIGHT_HOME=$(HOME)/.cache/edgewright-tests $(BIN)/edgewright runtimes setup flower --yes || echo "    it cannot be set up here: its tests will skip"
	@$(BIN)/python -m pytest --numprocesses 0 -m slow tests_slow/federated $(PYTEST_OPTIONS)

# Language models in engines of their own, set up once under ~/.cache/edgewright-tests (about 670 MB).
test-llm: $(VENV)/.ready-dev
	@for name in llamacpp onnxruntime-genai litert-lm; do EDGEWRIGHT_HOME=$(HOME)/.cache/edgewright-tests $(BIN)/edgewright runtimes setup $$name --yes || echo "    it cannot be set up here: its tests will skip"; done
	@$(BIN)/python -m pytest --numprocesses 0 -m slow tests_slow/llm $(PYTEST_OPTIONS)

coverage: $(VENV)/.ready-dev
	@$(PYTEST) -m "not slow" --cov=edgewright --cov-report=xml:build/coverage.xml --cov-report=term:skip-covered $(PYTEST_OPTIONS)

fuzz: $(VENV)/.ready-dev
	@echo "==> Fuzzing"
	@$(BIN)/python -m tests.fuzz $(if $(FUZZ_CASES),--cases $(FUZZ_CASES)) $(if $(FUZZ_START),--start $(FUZZ_START))

format: $(VENV)/.ready-dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

benchmarks: $(VENV)/.ready-dev
	@for name in overhead worker store litert_writer evaluation verdicts web; do $(BIN)/python -m benchmarks.$$name; done

benchmarks-long: $(VENV)/.ready-all $(VENV)/.ready-dev
	@for name in matrix field_models converters quantization training_loop training; do $(BIN)/python -m benchmarks.$$name; done

screenshots: $(VENV)/.ready-dev
	@$(BIN)/python -m scripts.screenshots

clean:
	@rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
