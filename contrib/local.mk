# Scripts that belong to the checkout; the units are installed by daemon/local.mk.
EXTRA_DIST += \
	contrib/README.md \
	contrib/bench/README.md \
	contrib/bench/bridge.py \
	contrib/bench/enter.py \
	contrib/bench/gateway.py \
	contrib/bench/gpu.md \
	contrib/bench/memory.svg \
	contrib/bench/perplexity.svg \
	contrib/bench/picture.gp \
	contrib/bench/run \
	contrib/bench/schema.py \
	contrib/bench/speculate.py \
	contrib/bench/store.py \
	contrib/bench/streameval.svg \
	contrib/bench/table.py \
	contrib/bench/time.svg \
	contrib/debian/changelog \
	contrib/debian/control \
	contrib/debian/copyright \
	contrib/debian/libsink-dev.install \
	contrib/debian/libsink0.install \
	contrib/debian/not-installed \
	contrib/debian/rules \
	contrib/debian/sink-editors.install \
	contrib/debian/sink.install \
	contrib/debian/sinkd-http.install \
	contrib/debian/sinkd.install \
	contrib/debian/sinkd.postinst \
	contrib/debian/sinkd.postrm \
	contrib/debian/sinkd.tmpfiles \
	contrib/debian/source/format \
	contrib/debian/units/sinkd.service.d/model.conf \
	contrib/debian/units/sinkd.socket.d/model.conf \
	contrib/editors/README.md \
	contrib/editors/emacs/sinkd.texi \
	contrib/gpu-check \
	contrib/lib.sh \
	contrib/python/README.md \
	contrib/python/pyproject.toml \
	contrib/python/sinkask.py \
	contrib/python/sinkd/__init__.py \
	contrib/python/sinkd/__main__.py \
	contrib/python/sinkd/aio.py \
	contrib/python/sinkd/client.py \
	contrib/python/sinkd/endpoint.py \
	contrib/python/sinkd/errors.py \
	contrib/python/sinkd/events.py \
	contrib/python/sinkd/link.py \
	contrib/python/sinkd/protocol.py \
	contrib/python/sinkd/py.typed \
	contrib/python/sinkd/records.py \
	contrib/python/sinkd/shell.py \
	contrib/python/sinkd/values.py \
	contrib/python/twin.py \
	contrib/quickstart \
	contrib/selftest

# The editors' integrations: a package of its own in Neovim's and in Vim's search path, so that its tags for help are its
# own too, and a file where Emacs looks.
nvimpackdir = $(datadir)/nvim/site/pack/sinkd/start/sinkd
nvimluadir = $(nvimpackdir)/lua
nvimplugindir = $(nvimpackdir)/plugin
nvimdocdir = $(nvimpackdir)/doc
dist_nvimlua_DATA = contrib/editors/nvim/lua/sinkd.lua
dist_nvimplugin_DATA = contrib/editors/nvim/plugin/sinkd.lua
dist_nvimdoc_DATA = contrib/editors/nvim/doc/sinkd.txt
nodist_nvimdoc_DATA = contrib/editors/nvim/doc/tags

vimpackdir = $(datadir)/vim/vimfiles/pack/sinkd/start/sinkd
vimautoloaddir = $(vimpackdir)/autoload
vimplugindir = $(vimpackdir)/plugin
vimdocdir = $(vimpackdir)/doc
dist_vimautoload_DATA = contrib/editors/vim/autoload/sinkd.vim
dist_vimplugin_DATA = contrib/editors/vim/plugin/sinkd.vim
dist_vimdoc_DATA = contrib/editors/vim/doc/sinkd.txt
nodist_vimdoc_DATA = contrib/editors/vim/doc/tags

emacsdir = $(datadir)/emacs/site-lisp
dist_emacs_DATA = contrib/editors/emacs/sinkd.el
if HAVE_TEXINFO
emacsinfodir = $(infodir)
nodist_emacsinfo_DATA = contrib/editors/emacs/sinkd.info
contrib/editors/emacs/sinkd.info: contrib/editors/emacs/sinkd.texi
	$(AM_V_GEN)$(MKDIR_P) $(@D) && $(TEXINFO) -o $@ '$(srcdir)/contrib/editors/emacs/sinkd.texi'
endif

# What :helptags would write, for which no editor is needed.
contrib/editors/%/doc/tags: contrib/editors/%/doc/sinkd.txt
	$(AM_V_GEN)$(MKDIR_P) $(@D) && LC_ALL=C $(AWK) '{ \
		while (match($$0, /[*][^* \t|]+[*]/)) { \
			tag = substr($$0, RSTART + 1, RLENGTH - 2); \
			print tag "\tsinkd.txt\t/*" tag "*"; \
			$$0 = substr($$0, RSTART + RLENGTH) \
		} }' $< | LC_ALL=C sort >$@.new && mv -f $@.new $@
CLEANFILES += contrib/editors/nvim/doc/tags contrib/editors/vim/doc/tags contrib/editors/emacs/sinkd.info

# Debian packages of what `make dist` packs, in build/deb, made by the system's own tools: a Python of somebody's in PATH
# would not do. What they need to be built is listed in contrib/debian/control, and as packages_deb in contrib/lib.sh.
deb_dir = build/deb
deb: dist-gzip
	rm -rf '$(deb_dir)'
	$(MKDIR_P) '$(deb_dir)'
	gzip -dc '$(distdir).tar.gz' | (cd '$(deb_dir)' && tar xf -)
	cp -R '$(deb_dir)/$(distdir)/contrib/debian' '$(deb_dir)/$(distdir)/debian'
	cd '$(deb_dir)/$(distdir)' && \
		env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL PATH=/usr/sbin:/usr/bin:/sbin:/bin dpkg-buildpackage -us -uc -b
	rm -rf '$(deb_dir)/$(distdir)'
.PHONY: deb
