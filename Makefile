# Every target does its own set-up in .venv (see .ci/setup); the second time that takes no time.

BIN := .venv/bin

# One file of tests stays with one worker, the slow ones begin; ARGS=-n0 or -p no:xdist for one by one.
# A worker that dies ends the run: xdist 3.8 waits for ever for the tests of one that it replaces.
WORKERS = $(if $(findstring no:xdist,$(ARGS)),,-n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder --max-worker-restart 0)

.PHONY: help run test check fix bench wheel compile uncompiled

help:
	@echo 'make run          a village hotspot to try in a browser (FRESH=1 begins again)'
	@echo 'make test         all tests (ARGS="-k login" for some)'
	@echo 'make check        format, lint, types'
	@echo 'make fix          format, and what lint can mend'
	@echo 'make bench        benchmarks, with FreeRADIUS beside it where that is installed'
	@echo 'make wheel        the package to install, in dist/ (COMPILED=1: for machines like this one only)'
	@echo 'make compile      the hot path in C, after a change to it; make uncompiled goes back'

run:
	@.ci/setup run
	@$(BIN)/pesisir --dir .demo demo $(if $(filter-out 0 no,$(FRESH)),--fresh)

test:
	@.ci/setup test
	@$(BIN)/python -m pytest $(WORKERS) $(ARGS)

check:
	@.ci/setup dev
	@$(BIN)/ruff format --check --quiet . || { echo 'Not formatted: make fix'; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@echo 'Format, lint and types are good.'

fix:
	@.ci/setup dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench:
	@.ci/setup dev
	@$(BIN)/python .ci/compile.py
	@$(BIN)/python -m tests.bench.run $(ARGS)

wheel:
	@.ci/setup dev
	@said=$$(PESISIR_COMPILE=$(if $(filter-out 0 no,$(COMPILED)),yes,no) $(BIN)/python -m build --wheel --no-isolation --outdir dist . 2>&1) || { echo "$$said"; exit 1; }
	@ls dist/*.whl

compile:
	@.ci/setup dev
	@$(BIN)/python .ci/compile.py

uncompiled:
	@.ci/setup dev
	@$(BIN)/python .ci/compile.py --remove
