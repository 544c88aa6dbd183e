# Everything here needs Python 3.11+ with pip, and make; the rest is installed into .venv.
#
#   make test           the default tests
#   make test-all       the slow ones too
#   make test-avx2      those that rest on the processor's instructions, held to AVX2's; on a newer
#                       processor the two above run it once more at their end
#   make lint           ruff and mypy
#   make docs           the documentation as a site, build/docs/html/index.html
#   make gpu            ten minutes on the GPU here, with PYTHON as it is: build/gpu/figures.txt
#   make torture        kills, mutated files and full disks for ten minutes (MINUTES=60 SEED=7)
#   make demo           trains on small made-up scenes and shows what was found
#   make demo DATA=dir  the same with your own COCO-format data
#   make clean          removes .venv and what the demo wrote

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DATA ?=
DEMO_OUTPUT ?= demo
MINUTES ?= 10
SEED ?= 0

UV := $(BIN)/uv
INSTALL := $(UV) pip install --python $(BIN)/python --quiet

PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile
NOT_SLOW := and not slow

# Where images of containers set it, every process would compile all it imports anew: torch alone takes
# two seconds, and the tests start some hundred processes.
unexport PYTHONDONTWRITEBYTECODE

# Instructions that oneDNN and ATen use beyond AVX2. Both read what holds them back when torch is
# loaded, so it takes another process; MKL and FBGEMM choose for themselves.
NEWER := $(shell grep -m 1 -owE 'avx512f|avx_vnni' /proc/cpuinfo 2>/dev/null | head -n 1)
HELD := ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 DETNET_BF16=never

.PHONY: setup test test-all test-avx2 lint docs gpu torture demo clean
.DELETE_ON_ERROR:

setup: $(READY)

# Without ensurepip, which Debian packages apart; the pip outside installs into the environment.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "make: $(PYTHON) is older than Python 3.11; set PYTHON=python3.11" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv --without-pip $(VENV)
	@test -x $(UV) || $(PYTHON) -m pip --python $(BIN)/python install --quiet uv
	@echo "make: installing the pinned packages into $(VENV)"
	@$(INSTALL) -r requirements.lock
	@$(INSTALL) --no-deps --editable .
	@touch $@

test: $(READY)
ifeq ($(NEWER),)
	@echo "make: no instructions beyond AVX2 here, so nothing is tested twice"
endif
	OMP_NUM_THREADS=1 $(PYTEST) -m "not slow and not gpu"
ifneq ($(NEWER),)
	@$(MAKE) --no-print-directory test-avx2
endif

test-all: $(READY)
	OMP_NUM_THREADS=1 $(PYTEST)
ifneq ($(NEWER),)
	@$(MAKE) --no-print-directory test-avx2 NOT_SLOW=
endif

test-avx2: $(READY)
	$(HELD) OMP_NUM_THREADS=1 $(PYTEST) -m "processor and not gpu $(NOT_SLOW)"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(READY)
	$(BIN)/python -m docs._tools.house
	$(BIN)/python -m docs._tools.site build/docs

# No set-up: the machine with the GPU has its own Python, and perhaps no network.
gpu:
	$(PYTHON) benchmarks/gpu.py --output build/gpu

torture: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.torture --minutes $(MINUTES) --seed $(SEED) --jobs 2

demo: $(READY)
	$(BIN)/python -m detnet demo --output $(DEMO_OUTPUT) $(if $(DATA),--data "$(DATA)")

clean:
	rm -rf $(VENV) build dist *.egg-info demo .pytest_cache .mypy_cache .ruff_cache
