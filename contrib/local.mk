# Scripts that belong to the checkout; the units are installed by daemon/local.mk.
EXTRA_DIST += \
	contrib/README.md \
	contrib/bench/README.md \
	contrib/bench/gpu.md \
	contrib/bench/memory.svg \
	contrib/bench/perplexity.svg \
	contrib/bench/picture.gp \
	contrib/bench/run \
	contrib/bench/speculate.py \
	contrib/bench/store.py \
	contrib/bench/streameval.svg \
	contrib/bench/table.py \
	contrib/bench/time.svg \
	contrib/gpu-check \
	contrib/lib.sh \
	contrib/quickstart \
	contrib/selftest
