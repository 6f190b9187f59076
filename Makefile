# make demo   sets up everything and exports four Functions, three of them from PyPI, to ONNX
# make test   sets up everything and passes lint, types and tests; make test-corpus tries long lists of Functions, operators
#             and models; make test-browser tries the pages in Chromium; make test-node trains bundles in JavaScript, make test-mpi on MPI,
#             make test-federated with Flower
# make web    builds the page of examples/web, which trains in the browser, and serves it on this machine
# make docs   builds the docs site in site/; make dist builds wheel and sdist in dist/
# Both make .venv when it is missing and are fast when it is there.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/gradport run
OUT ?= gradport-out
FEDERATED ?= gradport-federated

.PHONY: campaign demo test test-corpus test-slow test-browser test-node test-mpi test-federated federated js web matrix lint types unit pages docs dist clean

demo: $(VENV)/.demo
	$(RUN) test/onnx/autograd_helper.py:CustomFunction 'input=f32[batch,16]' --out $(OUT)
	$(RUN) entmax.activations:SparsemaxFunction 'X=f32[batch,16]' dim=-1 --out $(OUT)
	$(RUN) efficientnet_pytorch.utils:SwishImplementation 'i=f32[batch,3,8,8]' --out $(OUT)
	$(RUN) pytorch_revgrad:RevGrad 'input_=f32[batch,16]' --expect 'scaled by -1' --out $(OUT)
	@echo "Four models and their evidence stand in $(OUT)/."

test: lint types unit

lint: $(VENV)/.installed
	$(BIN)/ruff check src runtime/python test bench examples conformance
	$(BIN)/ruff format --check src runtime/python test bench examples conformance
	$(BIN)/lint-imports --no-cache --no-logo >/dev/null || $(BIN)/lint-imports --no-cache

types: $(VENV)/.installed
	$(BIN)/mypy

unit: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadgroup --hypothesis-profile=ci -m "not slow and not corpus and not browser and not node and not mpi and not federated and not release"

test-corpus: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadgroup --hypothesis-profile=ci -m "corpus and not slow"

test-slow: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadgroup -m "not browser and not node and not mpi and not federated and not release"

# make matrix TORCH=2.14.1 runs the tests in an environment of its own; ONNXRUNTIME=, ONNX=, ONNX_IR= and CORE=1 are
# further choices. The table is docs/compatibility.md.
matrix:
	@test -n "$(TORCH)" || { echo "Say which torch: make matrix TORCH=2.14.1." >&2; exit 1; }
	$(PYTHON) bench/matrix.py --torch $(TORCH) $(if $(ONNXRUNTIME),--onnxruntime $(ONNXRUNTIME)) $(if $(ONNX),--onnx $(ONNX)) \
	  $(if $(ONNX_IR),--onnx-ir $(ONNX_IR)) $(if $(CORE),--core)

test-browser: $(VENV)/.browser $(VENV)/.node $(VENV)/.web
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q test/browser

test-node: $(VENV)/.node
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q test/node

test-mpi: $(VENV)/.mpi
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q test/mpi

test-federated: $(VENV)/.federated
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile test/federated

# A server and two clients on this machine; the data, the logs and the weights go to $(FEDERATED).
federated: $(VENV)/.federated
	$(BIN)/python examples/federated/make_bundle.py $(FEDERATED)
	OMP_NUM_THREADS=1 $(VENV)/federated/bin/python examples/federated/run.py $(FEDERATED)

# All public suites of the repository, then the tables of the docs; what is in $(STORE) and did not change is left out.
STORE ?= gradport-campaign.db
CAMPAIGN := OMP_NUM_THREADS=1 $(BIN)/gradport campaign run --store $(STORE)

campaign: $(VENV)/.bench
	-$(CAMPAIGN) torch:operators torch:modules torch:functions --no-check --functions inline --runtimes onnxruntime
	-$(CAMPAIGN) torch:optimizers bench/functions.py bench/models.py bench/checkers.py bench/node_tests.py
	-$(CAMPAIGN) bench/subjects.py --no-export
	$(BIN)/python bench/report.py $(STORE)
	-$(BIN)/gradport campaign show $(STORE) --html $(STORE:.db=.html)

# The packages whose Functions bench/cases.py calls, as pages. Evidence that is there is taken, so it can be gone on with.
PAGES := gradport-pages
PACKAGES := entmax snntorch norse spikingjelly kornia gpytorch linear_operator torchdiffeq efficientnet_pytorch geffnet \
  pytorch_revgrad

pages: $(VENV)/.bench
	mkdir -p $(PAGES)
	OMP_NUM_THREADS=1 $(BIN)/gradport docs $(PACKAGES) --subjects bench/subjects.py --evidence $(PAGES) --out $(PAGES) \
	  --budget 0.5

# mpi4py and Open MPI, both from PyPI.
$(VENV)/.mpi: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[mpi]'
	@touch $@

# Flower has an environment of its own, without torch: it needs older versions of rich and typer than gradport.
$(VENV)/.federated: $(VENV)/.installed examples/federated/requirements.txt
	test -x $(VENV)/federated/bin/python || $(PYTHON) -m venv $(VENV)/federated
	$(VENV)/federated/bin/python -m pip install --quiet --disable-pip-version-check -r examples/federated/requirements.txt \
	  -e ./runtime/python
	@touch $@

# The wheel and the sdist, in `dist/`: checked, and the wheel tried in an environment of its own.
dist: $(VENV)/.release
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist . >/dev/null
	$(BIN)/python -m build --no-isolation --outdir dist runtime/python >/dev/null
	$(BIN)/twine check --strict dist/*
	$(BIN)/python -m pytest -q test/release

$(VENV)/.release: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[release]'
	@touch $@

# The docs site, in `site/`: strict, so that a broken link is an error; it asks nothing of any other host.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	npm install --silent --no-fund --no-audit --prefix $(VENV)/mermaid mermaid@11.14.0
	mkdir -p docs/assets
	cp $(VENV)/mermaid/node_modules/mermaid/dist/mermaid.min.js docs/assets/
	@touch $@

$(VENV)/.installed: pyproject.toml runtime/python/pyproject.toml constraints.txt
	@sh -c 'command -v $(PYTHON) >/dev/null || { echo "gradport needs Python 3.11 or later: install python3." >&2; exit 1; }'
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "gradport needs Python 3.11 or later: set PYTHON=/path/to/python3.11." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "gradport needs Python's venv and pip: install python3-venv and python3-pip." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ./runtime/python -e '.[dev]'
	@touch $@

# Debian's Chromium and its driver, selenium, and axe-core for what makes a page inaccessible.
$(VENV)/.browser: $(VENV)/.installed
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || \
	  { apt-get install -y --no-install-recommends chromium chromium-driver || \
	    { apt-get update && apt-get install -y --no-install-recommends chromium chromium-driver; }; } >/dev/null || \
	  { echo "The browser tests need chromium and chromedriver: install Debian's chromium and chromium-driver." >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[browser]'
	npm install --silent --no-fund --no-audit --prefix $(VENV)/axe axe-core@4.14.1
	@touch $@

# The npm package, compiled into runtime/js/dist.
js: $(VENV)/.js

$(VENV)/.js: runtime/js/package.json runtime/js/tsconfig.json $(wildcard runtime/js/src/*.ts)
	npm install --silent --no-fund --no-audit --omit=peer --prefix runtime/js
	npm run --silent build --prefix runtime/js
	@mkdir -p $(VENV) && touch $@

# ONNX Runtime for JavaScript, without the download of its CUDA libraries.
$(VENV)/.node: $(VENV)/.installed $(VENV)/.js test/node/package.json
	mkdir -p $(VENV)/node
	cp test/node/package.json $(VENV)/node
	ONNXRUNTIME_NODE_INSTALL=skip ONNXRUNTIME_NODE_INSTALL_CUDA=skip \
	  npm install --silent --no-fund --no-audit --prefix $(VENV)/node
	@touch $@

# A page that trains in the browser; PORT= chooses another port. $(VENV)/.web builds it into examples/web/dist.
WEB := examples/web
PORT ?= 8000

web: $(VENV)/.web
	@echo "Open http://127.0.0.1:$(PORT)/ in a browser; Ctrl-C ends the server."
	@$(BIN)/python -m http.server $(PORT) --bind 127.0.0.1 --directory $(WEB)/dist

$(VENV)/.web: $(VENV)/.js $(WEB)/public/bundle/training.json $(WEB)/package-lock.json $(WEB)/index.html \
  $(wildcard $(WEB)/*.json $(WEB)/*.ts $(WEB)/src/*)
	npm ci --silent --no-fund --no-audit --prefix $(WEB)
	npm run --silent build --prefix $(WEB)
	@touch $@

$(WEB)/public/bundle/training.json: $(WEB)/make_bundle.py | $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python $<

$(VENV)/.demo: $(VENV)/.installed bench/demo-requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r bench/demo-requirements.txt
	@touch $@

$(VENV)/.bench: $(VENV)/.installed bench/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r bench/requirements.txt
	@touch $@

clean:
	rm -rf $(VENV) $(OUT) $(PAGES) $(FEDERATED) $(WEB)/public $(WEB)/dist $(WEB)/node_modules build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .matrix
