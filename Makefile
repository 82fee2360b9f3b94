# Everything here works on a machine that has only Python 3.11 to 3.13 (with its venv module) and make.
# Paths are relative, so that a checkout below a folder with spaces works.

# Both are taken from make's command line alone: a shell may have such variables for other reasons.
HOME_DIR = .lab
# The first that has the venv module; where none has it, the one for which it is to be installed.
PYTHON = $(shell for needed in ', ensurepip, venv' ''; do for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -E -c "import sys$$needed; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))" 2>/dev/null \
	&& echo "$$p" && exit; done; done)
# What a person's shell tells every Python is not for this one.
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONSAFEPATH PYTHONWARNINGS PYTHONOPTIMIZE PYTHONUSERBASE
VENV := .venv
RUN := $(VENV)/bin/python -m
SCHEMA_PEER := .peers/aind-data-schema
ACCESS_PEER := .peers/aind-data-access-api
# Tests wait for processes and sockets half of their time, so three workers keep two cores busy. A file's tests share
# what it starts, and so go to one of them; files with fast tests come first.
SIDE_BY_SIDE := -n 3 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help demo ui test soak check bench clean distclean python print-python made-anew

help:  ## list these
	@grep -hE '^[a-z]+:.*## ' Makefile | sed -E 's/:.*## /|/' | while IFS='|' read -r name text; do printf '  make %-10s %s\n' "$$name" "$$text"; done

demo: $(VENV)/.lab-installed  ## set up, start the lab, run the whole main job on it, show the result, end
	@$(RUN) aind_pipelines.cli demo --home "$(HOME_DIR)"

ui: $(VENV)/.lab-installed  ## the Dagster UI and daemon on the lab that the demo left
	@$(RUN) aind_pipelines.cli dev --home "$(HOME_DIR)"

test: $(VENV)/.dev-installed $(SCHEMA_PEER)/.installed $(ACCESS_PEER)/.installed  ## set up and run every test
	@$(RUN) pytest $(SIDE_BY_SIDE)

soak: $(VENV)/.dev-installed $(SCHEMA_PEER)/.installed $(ACCESS_PEER)/.installed  ## the same with the long counts
	@AIND_PIPELINES_SOAK=1 $(RUN) pytest $(SIDE_BY_SIDE) --timeout 7200

check: $(VENV)/.dev-installed  ## format, lint, types, import rules and definitions
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/dg check defs

bench: $(VENV)/.dev-installed  ## the numbers of the lab; others: python -m benchmarks NAME
	@$(RUN) benchmarks lab

# What a home has before its lab.json is written (aind_pipelines/lab/home.py): names, and no content but a log's.
UNFINISHED := -path ./lock -size 0 -o -path ./supervisor.json -o -path './logs/supervisor.log*' \
	-o -path './.probe.[0-9]*' -o -path './.lab.json.[0-9]*' -o -path './.supervisor.json.[0-9]*' -o -type d \( \
	-path ./archives -o -path ./dagster -o -path ./data -o -path './data/*' -o -path ./inbox -o -path ./logs -o -path ./seed \)

clean:  ## stop the lab, remove its home
	@if [ -d "$(HOME_DIR)" ] && ! grep -qs '"registry_secret_key"' "$(HOME_DIR)/lab.json"; then \
		other=$$(cd "$(HOME_DIR)" && find . ! -path . ! \( $(UNFINISHED) \) | head -n 1) && [ -z "$$other" ] || { \
		echo "error: $(HOME_DIR) holds no lab, but other things ($${other#./}), so it is not removed" >&2; exit 1; }; fi
	@if [ -x "$(VENV)/bin/python" ] && [ -d "$(HOME_DIR)" ]; then $(RUN) aind_pipelines.cli lab down --home "$(HOME_DIR)"; fi
	@rm -rf "$(HOME_DIR)"

distclean: clean  ## clean, and remove what was installed
	@rm -rf $(VENV) .peers

print-python: python
	@echo "$(PYTHON)"

python:
	@if [ -z "$(PYTHON)" ]; then \
		echo "error: no Python 3.11, 3.12 or 3.13 found. Install one (Debian, Ubuntu: apt install python3 python3-venv)," >&2; \
		echo "       or name it: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; fi
	@v=$$("$(PYTHON)" -c '$(SAY_VERSION)') || { \
		echo "error: $(PYTHON) does not run; see above. Name another one: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; }; \
	case "$$v" in 3.11|3.12|3.13) ;; *) \
		echo "error: $(PYTHON) is Python $$v; 3.11, 3.12 or 3.13 is needed: make PYTHON=/path/to/python3.12 ..." >&2; exit 1;; esac; \
	"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "error: $(PYTHON) has no venv module. Install the package that brings it" >&2; \
		echo "       (Debian, Ubuntu: apt install python$$v-venv; others: the full Python $$v)," >&2; \
		echo "       or name another Python: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; }

# An environment whose making or filling was cut off, or that was moved (scripts hold its path), is made anew; so is
# one of another version than that of the Python that was named on the command line.
SAY_VERSION := import sys; print("%d.%d" % sys.version_info[:2])
VENV_VERSION := $(shell $(VENV)/bin/python -E -c '$(SAY_VERSION)' 2>/dev/null)
OTHER_VERSION := $(if $(VENV_VERSION),$(if $(filter command%,$(origin PYTHON)),$(filter-out $(VENV_VERSION),$(shell \
	"$(PYTHON)" -c '$(SAY_VERSION)' 2>/dev/null))))
VENV_USABLE := $(shell [ ! -e $(VENV)/.installing ] && [ "$$(cat $(VENV)/.made-in 2>/dev/null)" = "$$(pwd -P)" ] \
	&& [ -n "$(VENV_VERSION)" ] && [ -z "$(OTHER_VERSION)" ] && echo yes)

$(VENV)/.made-in: $(if $(VENV_USABLE),,made-anew) | python
	@if [ -n "$(OTHER_VERSION)" ]; then echo "$(VENV) is of Python $(VENV_VERSION) and is replaced by one of Python $(OTHER_VERSION)"; fi
	@if [ -n "$(OTHER_VERSION)" ] || [ -e $@ ] || ! $(VENV)/bin/python -m pip --version >/dev/null 2>&1; then \
		echo "creating $(VENV)" && rm -rf $(VENV) && "$(PYTHON)" -m venv $(VENV) || { rm -rf $(VENV); \
		echo "error: the virtual environment could not be created; see above (disk full? no write permission? another make in this folder?)" >&2; exit 1; }; fi
	@pwd -P >$@

made-anew:

# $(1): extras
define install
	@echo "installing ($(1)); the first time this takes some minutes"
	@touch $(VENV)/.installing
	@$(RUN) pip install --quiet --use-pep517 --disable-pip-version-check --constraint constraints.txt --editable ".[$(1)]" || { \
		rm -f $(VENV)/.installing; \
		echo "error: the installation failed; see above. Check the network and free disk space, then run make again." >&2; exit 1; }
	@rm -f $(VENV)/.installing
endef

$(VENV)/.lab-installed: pyproject.toml constraints.txt $(VENV)/.made-in
	$(call install,lab)
	@touch $@

$(VENV)/.dev-installed: pyproject.toml constraints.txt $(VENV)/.made-in
	$(call install,dev)
	@touch $@ $(VENV)/.lab-installed

# Peers that cannot share our environment get one of their own.
.peers/%/.installed: aind_pipelines_tests/peers/%.txt | python
	@echo "installing the peer $* into an environment of its own"
	@rm -rf .peers/$* && mkdir -p .peers && "$(PYTHON)" -m venv .peers/$*
	@.peers/$*/bin/python -m pip install --quiet --disable-pip-version-check -r $< || { rm -rf .peers/$*; \
		echo "error: installing the peer $* failed; see above. Check the network, then run make again." >&2; exit 1; }
	@touch $@

# Engines that nobody here wrote, for the contract of the DocDB queries; CI skips what this machine cannot build.
.peers/mingo/.installed: aind_pipelines_tests/contract/mingo/package.json aind_pipelines_tests/contract/mingo/package-lock.json
	@rm -rf .peers/mingo && mkdir -p .peers/mingo && cp $^ .peers/mingo/
	@npm ci --prefix .peers/mingo --ignore-scripts --no-audit --no-fund --silent
	@touch $@

# FerretDB by itself, as `go install` makes it, does not start: its module leaves out a file that its main package
# wants. Our own main package holds it as a library.
FERRETDB_MAIN := aind_pipelines_tests/contract/ferretdb

.peers/ferretdb/bin/ferretdb: $(addprefix $(FERRETDB_MAIN)/,main.go go.mod go.sum)
	@mkdir -p .peers/ferretdb/bin
	@cd $(FERRETDB_MAIN) && GOBIN="$(CURDIR)/.peers/ferretdb/bin" CGO_ENABLED=0 go install -buildvcs=false .
