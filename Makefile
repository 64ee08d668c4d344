# Every target sets up what it needs by itself: environments in .venv*, tools in .cache.
#
#   make echo        a server and a client talk over a real socket, and how fast
#   make test        the tests, on both codecs            make test-all   on every Python found
#   make sanitize    the tests, on extensions with sanitizers for addresses and undefined behaviour
#   make coverage    the lines and branches that the tests run; fails for too few
#   make lint        ruff, mypy --strict, stubtest        make format     let ruff lay out the code
#   make docs        the documentation, in build/docs; warnings are errors
#   make wheel       wheel and sdist, each checked in an environment of its own
#   make autobahn    the conformance suite (needs Python 2.7); AUTOBAHN=--all for all its groups,
#                    also on the released websockets, an hour (docs/conformance.md)
#   make interop     against the released websockets and Node's ws (needs Node.js)
#   make oracle      scenarios on this library and the released one, compared (oracle/__init__.py);
#                    ARGS="-k pattern" for some, ARGS="--times 3 --load" to see that they are stable
#   make apps        applications of others, on this library and the released one (apps/applications.py);
#                    installs Chromium by apt-get for root; ARGS="--only uvicorn" for one
#   make browser     against headless Chromium, installed by apt-get for root (browser/)
#   make bench       how fast it is next to other libraries, forty minutes (docs/performance.md)
#   make bench-quick the core of that, in three minutes; ARGS="--only pipe64" for a part of it
#   make bench-zlib  what each zlib module costs at each level
#   make fuzz        search for inputs that break something: FUZZ_SECONDS=60 for each target,
#                    ARGS="codec http" for some of them (fuzz/__init__.py)
#   make fairness    what one connection that floods does to the others
#   make profile     where the time of a message goes (benchmarks/profile.md)
#   make clean       remove all of the above

VENV ?= .venv
PYTHON ?= $(shell tools/find_python --any)
PY = $(VENV)/bin/python
CODECS = $(if $(filter no,$(WEBSOCKETS_BUILD_EXTENSION)),pure,compiled pure)
PEERS = .venv-peers
FUZZ_VENV = .venv-fuzz
DOCS_VENV = .venv-docs
FUZZ_SECONDS ?= 60
AUTOBAHN_VENV = .venv-autobahn
# Peers are measured and tested against in these versions.
RELEASED = websockets==17.4
WS = ws@8.23.0

# Prints a list of requirements from pyproject.toml, given its dotted name.
requires = $(PY) -c 'import functools, sys, tomllib; print(*functools.reduce(dict.get, \
    sys.argv[1].split("."), tomllib.load(open("pyproject.toml", "rb"))))' $(1)

.PHONY: all setup echo test test-all sanitize coverage lint lint-style lint-types lint-stubs \
    format docs wheel autobahn interop apps browser oracle bench bench-quick bench-node bench-zlib fairness profile fuzz clean

all: test

# ---------------------------------------------------------------- environments

$(VENV)/.deps: pyproject.toml
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q $$($(call requires,build-system.requires))
	WEBSOCKETS_BUILD_EXTENSION=no $(PY) -m pip install -q --no-build-isolation -e '.[test,lint,coverage,dist]'
	touch $@

# The extension is built next to its source. Where it could not be (it is optional unless
# WEBSOCKETS_BUILD_EXTENSION=yes), no stamp is left and the next run tries again.
$(VENV)/.built: $(VENV)/.deps setup.py $(wildcard websockets/*.p[yx][xd] websockets/*/*.pyx)
	$(PY) setup.py -q build_ext --inplace
	@suffix=$$($(PY) -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))'); \
	if ls websockets/_speedups$$suffix websockets/asyncio/_speedups$$suffix >/dev/null 2>&1; \
	then touch $@; else echo 'the compiled codec was not built'; fi

setup: $(VENV)/.built

$(PEERS)/.deps: $(VENV)/.deps
	test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install -q $(RELEASED) \
	  $$(for extra in bench proxy routing; do \
	  $(call requires,project.optional-dependencies.$$extra); done)
	touch $@

# The last virtualenv that makes Python 2.7 environments.
$(AUTOBAHN_VENV)/.deps:
	@tools/find_python 2.7 >/dev/null || { echo 'the conformance suite needs Python 2.7' >&2; exit 1; }
	$$(tools/find_python 2.7) -m pip install -q --upgrade --target .cache/virtualenv virtualenv==20.15.1
	PYTHONPATH=.cache/virtualenv $$(tools/find_python 2.7) -m virtualenv -q $(AUTOBAHN_VENV)
	$(AUTOBAHN_VENV)/bin/pip install -q autobahntestsuite==0.8.2
	touch $@

.cache/node/.deps:
	npm install --silent --no-fund --no-audit --prefix .cache/node $(WS)
	touch $@

$(FUZZ_VENV)/.deps: $(VENV)/.deps
	test -x $(FUZZ_VENV)/bin/python || $(PYTHON) -m venv $(FUZZ_VENV)
	$(FUZZ_VENV)/bin/python -m pip install -q $$($(call requires,project.optional-dependencies.fuzz))
	touch $@

$(DOCS_VENV)/.deps: $(VENV)/.deps
	test -x $(DOCS_VENV)/bin/python || $(PYTHON) -m venv $(DOCS_VENV)
	$(DOCS_VENV)/bin/python -m pip install -q $$($(call requires,project.optional-dependencies.docs))
	touch $@

benchmarks/wsload: benchmarks/wsload.c
	cc -O2 -Wall -o $@ $<

# ---------------------------------------------------------------- tasks

echo: setup
	$(PY) examples/echo.py

test: setup
	$(PY) tools/run_tests.py $(CODECS:%=--codec %) $(ARGS)

test-all:
	@failed=; for version in 3.11 3.12 3.13; do \
	  if python=$$(tools/find_python $$version); then \
	    echo "== Python $$version"; \
	    $(MAKE) --no-print-directory test PYTHON=$$python VENV=.venv-$$version \
	    || failed="$$failed $$version"; \
	  else echo "== Python $$version is not installed"; fi; \
	done; \
	if [ -n "$$failed" ]; then echo "the tests failed on Python:$$failed"; exit 1; fi

# These two build the extensions by themselves, under build/.
sanitize: $(VENV)/.deps
	$(PY) tools/sanitize.py $(ARGS)

coverage: $(VENV)/.deps
	$(PY) tools/measure_coverage.py $(ARGS)

# With -k, each has its say.
lint: lint-style lint-types lint-stubs

lint-style: setup
	$(PY) -m ruff check
	$(PY) -m ruff format --check

lint-types: setup
	$(PY) -m mypy

lint-stubs: setup
	$(PY) -m mypy.stubtest websockets._speedups websockets.asyncio._speedups

format: $(VENV)/.deps
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

# Nothing is fetched, and nothing is compiled: see docs/conf.py. All pages are read anew (-E), as
# the warnings of those that are not read are not seen.
docs: $(DOCS_VENV)/.deps
	$(DOCS_VENV)/bin/python -m sphinx -q -E -W --keep-going -n -c docs -d build/doctrees . build/docs $(ARGS)
	@echo "see build/docs/index.html"

wheel: $(VENV)/.deps
	$(PY) tools/build_dist.py dist

# Everything is compared with the released library; a part of it stands for itself.
AUTOBAHN_ALL = $(filter --all,$(AUTOBAHN))

autobahn: setup $(AUTOBAHN_VENV)/.deps $(if $(AUTOBAHN_ALL),$(PEERS)/.deps)
	$(PY) tools/autobahn.py --wstest $(AUTOBAHN_VENV)/bin/wstest \
	  $(if $(AUTOBAHN_ALL),--released $(PEERS)/bin/python) $(AUTOBAHN)

interop: setup $(PEERS)/.deps .cache/node/.deps
	$(PY) tools/interop.py --released $(PEERS)/bin/python --node-modules .cache/node/node_modules

oracle: setup $(PEERS)/.deps
	$(PY) -m oracle --released $(PEERS)/bin/python $(ARGS)

apps: $(VENV)/.deps
	@tools/find_chromium --install >/dev/null
	$(PY) apps/applications.py $(ARGS)

browser: setup
	tools/find_chromium --install >/dev/null
	$(PY) -m pytest browser $(ARGS)

BENCH = $(PEERS)/bin/python benchmarks/run.py --node-modules .cache/node/node_modules
BENCH_DEPS = setup $(PEERS)/.deps benchmarks/wsload bench-node

bench: $(BENCH_DEPS)
	$(BENCH) --output benchmarks/results $(ARGS)

bench-quick: $(BENCH_DEPS)
	$(BENCH) --output build/bench-quick --quick $(ARGS)

# Where there is no Node.js, its row stays empty.
bench-node:
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory .cache/node/.deps; \
	else echo "there is no npm: Node's ws is left out"; fi

bench-zlib: $(PEERS)/.deps
	$(PEERS)/bin/python benchmarks/compressors.py > benchmarks/results/compressors.md

# How long quiet connections wait while another one floods.
fairness: setup $(PEERS)/.deps
	$(PEERS)/bin/python benchmarks/fairness.py --output build/fairness $(ARGS)

profile: setup $(PEERS)/.deps benchmarks/wsload
	$(PEERS)/bin/python benchmarks/budget.py --output build/profile $(ARGS)

fuzz: setup $(FUZZ_VENV)/.deps
	nice $(FUZZ_VENV)/bin/python -m fuzz --seconds $(FUZZ_SECONDS) $(ARGS)

clean:
	rm -rf .venv .venv-* .cache build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -f websockets/*.so websockets/*.pyd benchmarks/wsload
	find . -name __pycache__ -prune -exec rm -rf {} +
