# Scripts that belong to the checkout; the units are installed by daemon/local.mk.
EXTRA_DIST += \
	contrib/README.md \
	contrib/lib.sh \
	contrib/quickstart \
	contrib/selftest
