# make demo FILE=song.mp3   sets everything up the first time, then classifies a recording and composes
#                           a tune in every style, into tunes/
# make test | lint | docs   likewise, with what each of them needs
# make test-fast            the tests that take under a minute; test-data: those of ../shared/data
# make clean                removes everything made here, and .venv
# With another Python: make PYTHON=python3.12 demo

PYTHON ?= python3
VENV := .venv
IN_VENV := $(VENV)/bin/

# FILE is passed through the environment as typed: spaces, quotes and dollars are safe
export DEMO_FILE := $(value FILE)
unexport FILE
# one thread per process, as the tests run in several
export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

STYLES := chorale folk pop classical
EXTRAS_demo :=
EXTRAS_test := [test]
EXTRAS_lint := [lint]
EXTRAS_docs := [docs]
# Without a GPU, the tested CPU build; with one, pip chooses the torch that fits
CPU_TORCH := torch==2.13.0
WITH_TORCH := test lint
WITH_EAR := demo test

.PHONY: demo test test-fast test-data lint docs clean
# two pips must not write to one .venv at once
.NOTPARALLEL:

demo: $(VENV)/.ready-demo
	@if [ -z "$$DEMO_FILE" ]; then \
		DEMO_FILE=.cache/demo.flac; \
		[ -f "$$DEMO_FILE" ] || $(IN_VENV)python scripts/make_demo_clip.py "$$DEMO_FILE" || exit 1; \
		echo "No FILE given: classifying the built-in tune; for yours: make demo FILE=song.mp3"; \
	fi; \
	$(IN_VENV)deepmusic classify --tags -- "$$DEMO_FILE"
	@mkdir -p tunes
	@for style in $(STYLES); do \
		$(IN_VENV)deepmusic generate --style $$style --seed 1 --out tunes/$$style || exit 1; \
	done

test: $(VENV)/.ready-test
	@$(IN_VENV)python -m pytest -n 2 --dist worksteal

# what takes under a minute
test-fast: $(VENV)/.ready-test
	@$(IN_VENV)python -m pytest -n 2 --dist worksteal -m "not slow and not data"

# what needs the recordings and scores in ../shared/data
test-data: $(VENV)/.ready-test
	@$(IN_VENV)python -m pytest -n 2 --dist worksteal -m data

lint: $(VENV)/.ready-lint
	@$(IN_VENV)ruff check .
	@$(IN_VENV)ruff format --check .
	@$(IN_VENV)mypy

docs: $(VENV)/.ready-docs
	@$(IN_VENV)mkdocs build --strict

clean:
	rm -rf $(VENV) tunes .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis site dist

# The stamp is newer than everything that says what to install, so a second call installs nothing.
$(VENV)/.ready-%: pyproject.toml constraints.txt src/deepmusic/version.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "DeepMusic needs Python 3.11 or newer, and $(PYTHON) is not:" \
			"install one, or name it as in: make PYTHON=python3.12 $*" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "$(PYTHON) lacks its venv module; on Debian and Ubuntu:" \
			"apt install python3-venv, then run make $* again." >&2; exit 1; }
	@$(IN_VENV)python -m pip --version >/dev/null 2>&1 || { \
		echo "Making $(VENV)"; $(PYTHON) -m venv --clear $(VENV); } || { \
		echo "$(VENV) could not be made here: is the disk full, or the folder read-only?" >&2; exit 1; }
	@echo "Installing into $(VENV); the first time takes some minutes"
	@{ { [ -z "$(filter $*,$(WITH_TORCH))" ] || nvidia-smi >/dev/null 2>&1 || \
		$(IN_VENV)pip install --quiet "$(CPU_TORCH)"; } && \
		$(IN_VENV)pip install --quiet -c constraints.txt -e ".$(EXTRAS_$*)"; } || { \
		echo "Installing failed, for the reason above: the first time pip needs the network," \
			"or a folder of packages named by PIP_FIND_LINKS; then run make $* again." >&2; exit 1; }
# without the pretrained ear the small model answers, and some tests are skipped
	@[ -z "$(filter $*,$(WITH_EAR))" ] || $(IN_VENV)deepmusic ear install || true
	@touch $@
