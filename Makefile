# Every target installs what it needs into .venv. Start with `make demo` or `make test`.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# A file of tests runs in one process, so that what it sets up for all of them is set up once; the longest begin.
WHOLE_FILES := --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup browser demo demo-vae test test-all fuzz lint typecheck bench bench-quick atlas notebooks docs coverage clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1\t\2/' | expand -t 18

setup: .venv/.setup ## install the package and its development tools into .venv

# For the tests of the report, and for its graph; without them these tests are skipped, and the graph is left out.
browser: ## install Chromium and graphviz where this is Debian and you are root; never fails
	@command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] || exit 0; \
	command -v chromium >/dev/null && command -v chromedriver >/dev/null && command -v dot >/dev/null && exit 0; \
	(apt-get update -qq -o Acquire::http::Timeout=20 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
	    --no-install-recommends chromium chromium-driver fonts-dejavu-core graphviz) >/dev/null 2>&1 || echo "no browser could be installed: its tests are skipped"

.venv/.setup: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) --editable '.[dev]'
	touch $@

# Apart from .venv: beside numba, which PyMC needs for nutpie, ArviZ 0.23 fails to give the error of an sd.
.venv-bench/.setup: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install --quiet --constraint constraints.txt --editable '.[bench]'
	touch $@

demo: setup ## VI against NUTS on Old Faithful: the table, and pictures in build/demo
	$(BIN)/pyrometer compare faithful --model bayesian-gmm --components 2 \
	    --guides mean_field,structured,auto_normal,auto_mvn --reference nuts --seed 0 --holdout 0.1 \
	    --out build/demo

demo-vae: setup ## a VAE on digits: its pictures, its marginal likelihood, and three guides against NUTS
	$(BIN)/pyrometer train digits --model vae --latent 2 --hidden 100 --guide encoder --holdout 0.1 --epochs 40 --lr 0.002 --seed 0 \
	    --out build/demo-vae
	$(BIN)/pyrometer compare digits --model vae --latent 2 --hidden 100 --checkpoint build/demo-vae --holdout 0.1 --seed 0 \
	    --guides encoder,encoder_full,free --steps 1500 --starts 1 --rows 4 \
	    --warmup 200 --draws 300 --out build/demo-vae/guides

test: setup browser ## run the tests: two workers, one thread each
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(WHOLE_FILES)

test-all: setup browser ## run every test, those that take minutes too
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(WHOLE_FILES) -m ""

fuzz: setup ## 10,000 generated inputs, half of them command lines (or FUZZ_EXAMPLES=500 of each half)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 tests/fuzz --hypothesis-profile fuzz

lint: setup ## check style, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(MAKE) --no-print-directory typecheck

typecheck: setup ## check types
	mkdir -p build/typecheck
	ln -sfn ../.. build/typecheck/pyrometer
	$(BIN)/mypy

bench: .venv-bench/.setup ## measure against the peers, for at most 25 minutes
	BENCH_UNTIL=$$(( $$(date +%s) + 1200 )) .venv-bench/bin/python benchmarks/run.py

atlas: setup ## every guide and method on every published posterior, the verdict beside the truth: docs/atlas.md
	$(BIN)/python benchmarks/atlas.py

bench-quick: .venv-bench/.setup ## one pair of each of the measurements of NUTS
	BENCH_UNTIL=$$(( $$(date +%s) + 180 )) BENCH_PAIRS=1 .venv-bench/bin/python benchmarks/run.py quick

notebooks: setup ## execute every notebook in place
	$(BIN)/jupyter execute --inplace notebooks/*.ipynb

docs: setup ## build the site into build/docs; a warning is an error
	$(BIN)/sphinx-build --fresh-env --write-all --fail-on-warning --keep-going --quiet docs build/docs

coverage: setup ## run the tests (or TESTS=tests/fit), and write which lines they reach to build/coverage
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(WHOLE_FILES) --cov --cov-report term:skip-covered \
	    --cov-report html:build/coverage $(TESTS)

clean: ## remove what was built, .venv included
	rm -rf .venv .venv-bench build dist docs/notebooks *.egg-info .coverage .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
