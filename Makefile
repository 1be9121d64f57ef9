# make setup    an environment with all that the package and its tests need, in .venv
# make demo     the same environment, the model, the data, a calibrated classifier, its reliability diagram and its report
# make quick    the tests that need no model, server, browser, database or cluster: some minutes
# make test     formatting, lint, types, import layers and the whole test suite: twenty minutes or more
# make format   lays the code out, and mends what the linter can mend
# make servers  an environment that holds vLLM for the CPU, with which the tests hold its routes to the local model
# make docs     the documentation site, in site/; a broken link, anchor or reference fails
# make bench    the throughput table, beside other packages in environments of their own; one of them is compiled (needs a C++
#               compiler); vLLM takes part where `make servers` was run (an hour or more)
# make picture  the demo, and the pictures of its report (README) and of the inspector (docs); needs the system's Chromium
# make oracles  the golden values and the speed of the calibration layer, against other packages (some minutes)

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Two processes that share the test files, with one thread each: several threads would keep one another waiting. Where one dies,
# the run ends and says in which test; a new one in its place would leave pytest-xdist waiting for the dead one's files for ever.
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder \
	--max-worker-restart 0

.PHONY: setup demo quick test format docs servers bench picture oracles clean

setup: .venv/installed

demo: .venv/installed
	$(BIN)/llmclf demo --output reliability.png --report report.html

quick: .venv/installed
	$(PYTEST) -m "not (model or server or browser or database or kill or ray or slow)"

test: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(PYTEST)

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

servers: .servers/vllm/installed

bench: .venv/installed .bench/cappr/installed .bench/lm-eval/installed .bench/llama-cpp/installed
	$(BIN)/python experiments/throughput.py --cappr-python .bench/cappr/bin/python --lm-eval-python .bench/lm-eval/bin/python \
		--llama-python .bench/llama-cpp/bin/python --vllm-python .servers/vllm/bin/python

picture: demo
	$(BIN)/python experiments/picture.py report.html experiments/report.png
	$(BIN)/llmclf inspect 'A fine film, but far too long.' --labels 'positive=positive|good,negative=negative|bad,odd=not sure' \
		--prompt 'Review: {{ text }}\nSentiment:' --temperature 0.7 --top-k 20 --logit-bias ' good=+2' --html why.html
	$(BIN)/python experiments/picture.py why.html experiments/inspector.png 1180

oracles: .venv/installed .bench/oracles/installed
	$(BIN)/python experiments/oracles.py --python .bench/oracles/bin/python
	$(BIN)/python experiments/calibration_speed.py --python .bench/oracles/bin/python

# torch comes first and pinned: an open range would take a build with gigabytes of GPU libraries.
.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) install --quiet --constraint constraints.txt torch
	$(PIP) install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

.servers/vllm/installed: tests/vllm_env.py tests/vllm_constraints.txt
	$(PYTHON) tests/vllm_env.py .servers/vllm
	touch $@

.bench/%/bin/python:
	$(PYTHON) -m venv .bench/$*
	.bench/$*/bin/python -m pip install --quiet torch==2.13.0

.bench/cappr/installed: .bench/cappr/bin/python
	$< -m pip install --quiet cappr==0.9.6 transformers==4.47.1 "numpy<2.3" gguf accelerate scikit-learn
	touch $@

.bench/lm-eval/installed: .bench/lm-eval/bin/python
	$< -m pip install --quiet lm-eval==0.4.13 "transformers>=5,<6" accelerate
	touch $@

# Without torch. Compiled here, so that llama.cpp uses whatever this processor has.
.bench/llama-cpp/installed:
	$(PYTHON) -m venv .bench/llama-cpp
	CMAKE_ARGS="-DLLAVA_BUILD=OFF -DMTMD_BUILD=OFF" .bench/llama-cpp/bin/python -m pip install --quiet llama-cpp-python==0.3.36
	touch $@

.bench/oracles/installed: .bench/oracles/bin/python
	$< -m pip install --quiet torch==2.13.0 netcal==1.4.0 probmetrics==1.3.0 numba uncertainty-calibration==0.1.4 relplot==1.0.3 \
		betacal==1.1.0 venn-abers==1.5.4 mapie==1.6.0 quapy==0.2.3 model-diagnostics==1.5.0
	touch $@

clean:
	rm -rf .venv .bench .servers site
