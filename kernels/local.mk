# Arithmetic. Files of one instruction set are compiled alone with its flags, and chosen when the program runs; fused
# operations are written out, never contracted, so that every set gives the same bits.

kernels_cppflags = $(AM_CPPFLAGS) -I$(srcdir)/kernels -I$(srcdir)/kernels/cpu -I$(srcdir)/libproto
kernels_cflags = $(AM_CFLAGS) -ffp-contract=off
kernels_avx2 = -mavx2 -mfma -mf16c
kernels_avx512 = -mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma -mf16c

noinst_LTLIBRARIES += kernels/libkernels.la
kernels_libkernels_la_LIBADD =
kernels_libkernels_la_SOURCES = \
	kernels/cores.c \
	kernels/cores.h \
	kernels/dtype.c \
	kernels/dtype.h \
	kernels/kernels.c \
	kernels/kernels.h \
	kernels/cpu/attend.h \
	kernels/cpu/attend_page.h \
	kernels/cpu/attend_q8.h \
	kernels/cpu/backends.c \
	kernels/cpu/backends.h \
	kernels/cpu/bytes_avx2.h \
	kernels/cpu/bytes_avx512.h \
	kernels/cpu/bytes_scalar.h \
	kernels/cpu/cpu.h \
	kernels/cpu/device.c \
	kernels/cpu/experts.c \
	kernels/cpu/fast.c \
	kernels/cpu/fast_attend.c \
	kernels/cpu/isa.h \
	kernels/cpu/lanes_avx2.h \
	kernels/cpu/lanes_avx512.h \
	kernels/cpu/lanes_scalar.h \
	kernels/cpu/pack.c \
	kernels/cpu/peak.h \
	kernels/cpu/pool.c \
	kernels/cpu/pool.h \
	kernels/cpu/ref.c \
	kernels/cpu/roofline.c \
	kernels/cpu/rows.h \
	kernels/cpu/scalar.c \
	kernels/cpu/tile.h \
	kernels/cpu/tile_bytes.h \
	kernels/cpu/tile_super.h \
	kernels/cpu/tile_words.h
kernels_libkernels_la_CPPFLAGS = $(kernels_cppflags)
kernels_libkernels_la_CFLAGS = $(kernels_cflags)

if X86_64
noinst_LTLIBRARIES += kernels/libavx2.la kernels/libavx512.la kernels/libavx512vnni.la
kernels_libavx2_la_SOURCES = kernels/cpu/avx2.c
kernels_libavx2_la_CPPFLAGS = $(kernels_cppflags)
kernels_libavx2_la_CFLAGS = $(kernels_cflags) $(kernels_avx2)
kernels_libavx512_la_SOURCES = kernels/cpu/avx512.c
kernels_libavx512_la_CPPFLAGS = $(kernels_cppflags)
kernels_libavx512_la_CFLAGS = $(kernels_cflags) $(kernels_avx512)
kernels_libavx512vnni_la_SOURCES = kernels/cpu/avx512.c
kernels_libavx512vnni_la_CPPFLAGS = $(kernels_cppflags)
kernels_libavx512vnni_la_CFLAGS = $(kernels_cflags) $(kernels_avx512) -mavx512vnni -DKERNELS_VNNI
kernels_libkernels_la_LIBADD += kernels/libavx2.la kernels/libavx512.la kernels/libavx512vnni.la
if AMX
noinst_LTLIBRARIES += kernels/libamx.la
kernels_libamx_la_SOURCES = kernels/cpu/amx.c
kernels_libamx_la_CPPFLAGS = $(kernels_cppflags)
kernels_libamx_la_CFLAGS = $(kernels_cflags) $(kernels_avx512) -mavx512vnni $(AMX_CFLAGS) -DKERNELS_VNNI
kernels_libkernels_la_CPPFLAGS += -DKERNELS_AMX
kernels_libkernels_la_LIBADD += kernels/libamx.la
endif
endif

# For NVIDIA cards. nvcc compiles by a suffix rule of ours and writes no dependencies: all of it depends on all headers.
cuda_headers = \
	kernels/cuda/attend_part.h \
	kernels/cuda/attention.h \
	kernels/cuda/backend.h \
	kernels/cuda/cuda.h \
	kernels/cuda/layout.h \
	kernels/cuda/parts.h \
	kernels/cuda/port.h \
	kernels/cuda/prepare.h \
	kernels/cuda/targets.h \
	kernels/cuda/units.h
cuda_sources = \
	kernels/cuda/attend.cu \
	kernels/cuda/attend_many.cu \
	kernels/cuda/blas.cu \
	kernels/cuda/device.cu \
	kernels/cuda/experts.cu \
	kernels/cuda/few.cu \
	kernels/cuda/graph.cu \
	kernels/cuda/matmul.cu \
	kernels/cuda/one.cu \
	kernels/cuda/pack.cu \
	kernels/cuda/pages.cu \
	kernels/cuda/rows.cu \
	kernels/cuda/stage.cu \
	kernels/cuda/store.cu \
	kernels/cuda/tiles.cu
EXTRA_DIST += kernels/README.md kernels/cuda/README.md tests/kernels/try_outlive.cu $(cuda_headers) $(cuda_sources)

if CUDA
noinst_LTLIBRARIES += kernels/libcuda.la
kernels_libcuda_la_SOURCES = $(cuda_sources)
kernels_libcuda_la_LIBADD = $(CUDA_LIBS)
kernels_libkernels_la_LIBADD += kernels/libcuda.la
$(kernels_libcuda_la_OBJECTS): $(cuda_headers) kernels/kernels.h kernels/dtype.h libproto/error.h
endif

SUFFIXES += .cu
cuda_flags = -I$(srcdir)/kernels -I$(srcdir)/kernels/cuda -I$(srcdir)/libproto
nvcc_flags = $(NVCC_STD) $(NVCC_WARN) $(CUDA_ARCH_FLAGS) $(cuda_flags)
AM_V_NVCC = $(am__v_NVCC_@AM_V@)
am__v_NVCC_ = $(am__v_NVCC_@AM_DEFAULT_V@)
am__v_NVCC_0 = @echo "  NVCC    " $@;
am__v_NVCC_1 =
.cu.lo:
	@$(MKDIR_P) $(@D)
	$(AM_V_NVCC)$(LIBTOOL) $(AM_V_lt) --tag=CC --tag=disable-shared --mode=compile \
		$(NVCC) $(nvcc_flags) $(NVCCFLAGS) -c -o $@ $<

# The same code as kernels/libavx512.la over SIMDe's emulation, so that its logic is proved on any machine; and that of
# kernels/libamx.la over ours.
if HAVE_CMOCKA
check_PROGRAMS += tests/kernels/check_kernels
TESTS += tests/kernels/check_kernels
check_sources = \
	tests/kernels/bench.c \
	tests/kernels/bench_attend.c \
	tests/kernels/bench_card.c \
	tests/kernels/bench_types.c \
	tests/kernels/check.h \
	tests/kernels/check_attend.c \
	tests/kernels/check_experts.c \
	tests/kernels/check_inputs.c \
	tests/kernels/check_kernels.c \
	tests/kernels/check_rows.c \
	tests/kernels/check_types.c \
	tests/kernels/kit.c \
	tests/kernels/kit.h \
	tests/kernels/scene.c
tests_kernels_check_kernels_SOURCES = $(check_sources) tests/kernels/emulate_amx.h tests/kernels/emulate_avx512.h
tests_kernels_check_kernels_CPPFLAGS = $(kernels_cppflags)
tests_kernels_check_kernels_CFLAGS = $(kernels_cflags) $(CMOCKA_CFLAGS)
tests_kernels_check_kernels_LDADD = kernels/libkernels.la libproto/liberror.la $(CMOCKA_LIBS)

if HAVE_SIMDE
check_LTLIBRARIES += tests/kernels/libemulated.la tests/kernels/libemulatedvnni.la tests/kernels/libemulatedamx.la
emulated_cppflags = $(kernels_cppflags) -I$(srcdir)/tests/kernels
tests_kernels_libemulated_la_SOURCES = kernels/cpu/avx512.c
tests_kernels_libemulated_la_CPPFLAGS = $(emulated_cppflags) -DKERNELS_EMULATE_AVX512=isa_emulated
tests_kernels_libemulated_la_CFLAGS = $(kernels_cflags) -Wno-psabi
tests_kernels_libemulatedvnni_la_SOURCES = kernels/cpu/avx512.c
tests_kernels_libemulatedvnni_la_CPPFLAGS = $(emulated_cppflags) -DKERNELS_EMULATE_AVX512=isa_emulated_vnni -DKERNELS_VNNI
tests_kernels_libemulatedvnni_la_CFLAGS = $(kernels_cflags) -Wno-psabi
tests_kernels_libemulatedamx_la_SOURCES = kernels/cpu/amx.c
tests_kernels_libemulatedamx_la_CPPFLAGS = $(emulated_cppflags) -DKERNELS_EMULATE_AVX512=isa_emulated_amx -DKERNELS_VNNI
tests_kernels_libemulatedamx_la_CFLAGS = $(kernels_cflags) -Wno-psabi
tests_kernels_check_kernels_CPPFLAGS += -DKERNELS_EMULATED
tests_kernels_check_kernels_LDADD += tests/kernels/libemulated.la tests/kernels/libemulatedvnni.la \
	tests/kernels/libemulatedamx.la
endif

# The CUDA backend over a stand-in for a card, by the C++ compiler: the same sources, and the same tests. They run for
# millions of threads, so they are optimized whatever the build is.
if HAVE_CXX
standin_headers = \
	tests/kernels/standin.h \
	tests/kernels/standin_hooks.h \
	tests/kernels/standin_math.h \
	tests/kernels/standin_runtime.h
standin_sources = \
	$(standin_headers) \
	tests/kernels/standin.cc \
	tests/kernels/standin_card.h \
	tests/kernels/standin_runtime.cc \
	tests/kernels/standin_streams.cc \
	tests/kernels/standin_tiles.cc
standin_cppflags = $(AM_CPPFLAGS) $(cuda_flags) -I$(srcdir)/tests/kernels -DKERNELS_STANDIN
standin_cxxflags = $(AM_CXXFLAGS) -Wno-deprecated-enum-enum-conversion -ffp-contract=off
standin_objects = $(cuda_sources:kernels/cuda/%.cu=tests/kernels/cuda-%.$(OBJEXT))
tests/kernels/cuda-%.$(OBJEXT): $(srcdir)/kernels/cuda/%.cu $(cuda_headers) $(standin_headers) kernels/kernels.h \
		kernels/dtype.h libproto/error.h
	@$(MKDIR_P) $(@D)
	$(AM_V_CXX)$(CXX) $(DEFS) $(DEFAULT_INCLUDES) $(standin_cppflags) $(CPPFLAGS) $(standin_cxxflags) $(CXXFLAGS) \
		-x c++ -c -o $@ $<
MOSTLYCLEANFILES += tests/kernels/cuda-*.$(OBJEXT)

check_PROGRAMS += tests/kernels/check_standin tests/kernels/check_cuda
TESTS += tests/kernels/check_standin tests/kernels/check_cuda
tests_kernels_check_standin_SOURCES = $(standin_sources) tests/kernels/check_standin.cc tests/kernels/kit.c
tests_kernels_check_standin_CPPFLAGS = $(standin_cppflags) -I$(srcdir)/kernels/cpu
tests_kernels_check_standin_CFLAGS = $(kernels_cflags) $(CMOCKA_CFLAGS)
tests_kernels_check_standin_CXXFLAGS = $(standin_cxxflags) $(CMOCKA_CFLAGS)
tests_kernels_check_standin_LDADD = $(tests_kernels_check_cuda_LDADD)
tests_kernels_check_cuda_SOURCES = $(check_sources) $(standin_sources) tests/kernels/check_card.c
tests_kernels_check_cuda_CPPFLAGS = $(standin_cppflags) -I$(srcdir)/kernels/cpu
tests_kernels_check_cuda_CFLAGS = $(kernels_cflags) $(CMOCKA_CFLAGS)
tests_kernels_check_cuda_CXXFLAGS = $(standin_cxxflags)
tests_kernels_check_cuda_LDADD = $(standin_objects) kernels/libkernels.la libproto/liberror.la $(CMOCKA_LIBS)
endif
endif
