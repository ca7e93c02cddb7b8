# Macros of sinkd's own configure.ac.

# SINKD_C_FLAG(FLAG, VARIABLE): appends FLAG to VARIABLE when the C compiler takes it without complaint.
AC_DEFUN([SINKD_C_FLAG], [
	AS_VAR_PUSHDEF([cache], [sinkd_cv_c_flag_$1])
	AC_CACHE_CHECK([whether $CC takes $1], [cache], [
		sinkd_save_CFLAGS=$CFLAGS
		CFLAGS="$CFLAGS -Werror $1"
		AC_COMPILE_IFELSE([AC_LANG_PROGRAM()], [AS_VAR_SET([cache], [yes])], [AS_VAR_SET([cache], [no])])
		CFLAGS=$sinkd_save_CFLAGS
	])
	AS_VAR_IF([cache], [yes], [$2="${$2:+$$2 }$1"])
	AS_VAR_POPDEF([cache])
])

# SINKD_LINKS(FLAGS, IF-YES, IF-NO): whether the compiler and linker build a program with FLAGS.
AC_DEFUN([SINKD_LINKS], [
	sinkd_save_CFLAGS=$CFLAGS
	CFLAGS="$CFLAGS $1"
	AC_LINK_IFELSE([AC_LANG_SOURCE([$4])], [$2], [$3])
	CFLAGS=$sinkd_save_CFLAGS
])

# SINKD_AMX: AMX_CFLAGS becomes what the compiler and its assembler want for tiles of bytes; sets have_amx.
AC_DEFUN([SINKD_AMX], [
	AMX_CFLAGS="-mamx-tile -mamx-int8"
	AC_CACHE_CHECK([whether $CC takes $AMX_CFLAGS], [sinkd_cv_amx], [
		SINKD_LINKS([$AMX_CFLAGS], [sinkd_cv_amx=yes], [sinkd_cv_amx=no],
			[#include <immintrin.h>
			int main(void) { _tile_zero(0); _tile_dpbssd(0, 1, 2); _tile_release(); return 0; }])
	])
	have_amx=$sinkd_cv_amx
	AC_SUBST([AMX_CFLAGS])
])

# SINKD_CUDA: --with-cuda[=DIR], --with-cuda-arch=LIST. Sets NVCC, CUDA_ARCH_FLAGS, CUDA_LIBS, NVCC_STD, NVCC_WARN, the
# conditional CUDA, HAVE_CUDA, have_cuda, cuda_why. What is asked for and missing ends configure.
AC_DEFUN([SINKD_CUDA], [
	AC_ARG_WITH([cuda],
		[AS_HELP_STRING([--with-cuda@<:@=DIR@:>@],
			[kernels for NVIDIA cards, by the toolkit in DIR, or the nvcc in PATH or /usr/local/cuda])],
		[], [with_cuda=no])
	AC_ARG_WITH([cuda-arch],
		[AS_HELP_STRING([--with-cuda-arch=LIST],
			[compute capabilities that these are built for; code for the last serves later ones too @<:@80 90@:>@])],
		[], [with_cuda_arch="80 90"])
	AC_ARG_VAR([NVCC], [the CUDA compiler])
	AC_ARG_VAR([NVCCFLAGS], [its flags, such as -ccbin for a host compiler of its own @<:@-O3@:>@])
	: "${NVCCFLAGS=-O3}"
	have_cuda=no
	cuda_why="not asked for: --with-cuda"
	AS_IF([test "x$with_cuda" != xno], [SINKD_CUDA_FIND])
	AC_SUBST([CUDA_ARCH_FLAGS])
	AC_SUBST([CUDA_LIBS])
	AC_SUBST([NVCC_STD])
	AC_SUBST([NVCC_WARN])
	AM_CONDITIONAL([CUDA], [test "$have_cuda" = yes])
])

AC_DEFUN([SINKD_CUDA_FIND], [
	sinkd_places=$with_cuda/bin
	AS_IF([test "x$with_cuda" = xyes], [sinkd_places=$PATH$PATH_SEPARATOR/usr/local/cuda/bin])
	AC_PATH_PROG([NVCC], [nvcc], [], [$sinkd_places])
	AS_IF([test -z "$NVCC"], [AC_MSG_ERROR([--with-cuda: there is no nvcc in $sinkd_places.
Install the CUDA toolkit, or name its folder: --with-cuda=DIR.])])
	CUDA_ARCH_FLAGS=
	for sinkd_arch in `echo "$with_cuda_arch" | tr ',' ' '`; do
		AS_CASE([$sinkd_arch], [*@<:@!0-9a-z@:>@*|@<:@!1-9@:>@*],
			[AC_MSG_ERROR([--with-cuda-arch: "$sinkd_arch" is no compute capability, such as 90 for 9.0])])
		CUDA_ARCH_FLAGS="$CUDA_ARCH_FLAGS -gencode arch=compute_$sinkd_arch,code=sm_$sinkd_arch"
	done
	AS_IF([test -z "$CUDA_ARCH_FLAGS"], [AC_MSG_ERROR([--with-cuda-arch: the list is empty])])
	CUDA_ARCH_FLAGS="$CUDA_ARCH_FLAGS -gencode arch=compute_$sinkd_arch,code=compute_$sinkd_arch"
	sinkd_root=`dirname "$NVCC"`/..
	CUDA_LIBS=
	for sinkd_dir in lib64 "targets/$host_cpu-linux/lib" lib; do
		AS_IF([test -f "$sinkd_root/$sinkd_dir/libcudart_static.a"],
			[CUDA_LIBS="-L`cd "$sinkd_root/$sinkd_dir" && pwd`"; break])
	done
	CUDA_LIBS="$CUDA_LIBS -lcudart_static -ldl -lrt -lpthread"
	# The host's half needs nothing of the C++ library; nvcc's own stubs have statics, which one thread alone meets.
	NVCC_STD="-std=c++20 --compiler-options -fno-exceptions,-fno-rtti,-fno-threadsafe-statics,-fvisibility=hidden"
	NVCC_WARN="--compiler-options -Wall,-Wextra"
	AS_IF([test "x$enable_werror" = xyes], [NVCC_WARN="$NVCC_WARN,-Werror --Werror all-warnings"])
	SINKD_CUDA_TRY
	have_cuda=yes
	cuda_why="$NVCC `$NVCC --version | sed -n 's/.*release \(@<:@0-9.@:>@*\).*/\1/p'` for $with_cuda_arch"
	AC_DEFINE([HAVE_CUDA], [1], [Kernels for NVIDIA cards are there])
])

# One kernel, compiled for all that was asked for, and linked as the daemon will be: by the C compiler.
AC_DEFUN([SINKD_CUDA_TRY], [
	AC_MSG_CHECKING([whether $NVCC builds for compute capability $with_cuda_arch])
	cat >conftest.cu <<'END'
@%:@include <cuda_runtime.h>
static __global__ void nothing(int *p) { *p = 0; }
extern "C" int start() { nothing<<<1, 1>>>(nullptr); return cudaGetLastError() != cudaSuccess; }
END
	AS_IF([$NVCC $NVCC_STD $NVCCFLAGS $CUDA_ARCH_FLAGS -c conftest.cu -o conftest-cu.$ac_objext >&AS_MESSAGE_LOG_FD 2>&1],
		[AC_MSG_RESULT([yes])],
		[AC_MSG_RESULT([no])
		AC_MSG_ERROR([--with-cuda: $NVCC does not compile C++20 for $with_cuda_arch; config.log has its words])])
	AC_MSG_CHECKING([whether $CC links with $CUDA_LIBS])
	sinkd_save_LIBS=$LIBS
	LIBS="conftest-cu.$ac_objext $CUDA_LIBS $LIBS"
	AC_LINK_IFELSE([AC_LANG_SOURCE([int start(void); int main(void) { return start(); }])], [AC_MSG_RESULT([yes])],
		[AC_MSG_RESULT([no])
		AC_MSG_ERROR([--with-cuda: the toolkit's static runtime (libcudart_static.a) was not found beside $NVCC])])
	LIBS=$sinkd_save_LIBS
	rm -f conftest.cu conftest-cu.$ac_objext
])

# SINKD_CXX: a C++20 compiler, for the tests of the CUDA kernels alone. Sets STD_CXXFLAGS, have_cxx, cxx_why, and the
# conditional HAVE_CXX.
AC_DEFUN([SINKD_CXX], [
	STD_CXXFLAGS=
	have_cxx=no
	cxx_why="a C++20 compiler (g++) was not found: the CUDA kernels are not tested"
	AC_LANG_PUSH([C++])
	AC_CACHE_CHECK([whether ${CXX:-no C++ compiler} takes -std=gnu++20 $SANITIZER_CFLAGS], [sinkd_cv_cxx], [
		sinkd_save_CXXFLAGS=$CXXFLAGS
		CXXFLAGS="$CXXFLAGS -std=gnu++20 $SANITIZER_CFLAGS"
		AC_LINK_IFELSE([AC_LANG_SOURCE([@%:@include <stdint.h>
			template <typename... A> auto held(A... a) { return @<:@...v = a@:>@ { return (v + ...); }; }
			int main() { return held(1, -1)(); }])], [sinkd_cv_cxx=yes], [sinkd_cv_cxx=no])
		CXXFLAGS=$sinkd_save_CXXFLAGS
	])
	# clang unrolls what kernels ask a card's compiler to unroll, for minutes where sanitizers are at work.
	AC_CACHE_CHECK([whether ${CXX:-no C++ compiler} is kept from unrolling], [sinkd_cv_cxx_roll], [
		CXXFLAGS="$CXXFLAGS -Werror -mllvm -pragma-unroll-threshold=1 -Wno-pass-failed"
		AC_COMPILE_IFELSE([AC_LANG_PROGRAM()], [sinkd_cv_cxx_roll=yes], [sinkd_cv_cxx_roll=no])
		CXXFLAGS=$sinkd_save_CXXFLAGS
	])
	AC_LANG_POP([C++])
	AS_IF([test "$sinkd_cv_cxx" = yes], [
		have_cxx=yes
		cxx_why="over a stand-in for a card, by $CXX"
		STD_CXXFLAGS="-std=gnu++20 -fno-exceptions -fno-rtti -Wall -Wextra -Wno-unknown-pragmas"
		AS_IF([test "$sinkd_cv_cxx_roll" = yes],
			[STD_CXXFLAGS="$STD_CXXFLAGS -mllvm -pragma-unroll-threshold=1 -Wno-pass-failed"])
		AS_IF([test "x$enable_werror" = xyes], [STD_CXXFLAGS="$STD_CXXFLAGS -Werror"])
	])
	AC_SUBST([STD_CXXFLAGS])
	AM_CONDITIONAL([HAVE_CXX], [test "$have_cxx" = yes])
])

# SINKD_SANITIZER: --with-sanitizer=LIST, compiled into every file and program of the tree, installed ones as well.
# Sets SANITIZER_CFLAGS, have_sanitizer, sanitizer_why.
AC_DEFUN([SINKD_SANITIZER], [
	AC_ARG_WITH([sanitizer],
		[AS_HELP_STRING([--with-sanitizer=LIST],
			[build with the compiler's sanitizers, such as address,undefined])],
		[], [with_sanitizer=no])
	SANITIZER_CFLAGS=
	have_sanitizer=no
	sanitizer_why="not asked for"
	AS_IF([test "x$with_sanitizer" = xyes], [with_sanitizer=address,undefined])
	AS_IF([test "x$with_sanitizer" != xno], [
		SANITIZER_CFLAGS="-fsanitize=$with_sanitizer -fno-sanitize-recover=all -fno-omit-frame-pointer"
		AC_MSG_CHECKING([whether $CC links with $SANITIZER_CFLAGS])
		SINKD_LINKS([$SANITIZER_CFLAGS], [AC_MSG_RESULT([yes])],
			[AC_MSG_RESULT([no])
			AC_MSG_ERROR([--with-sanitizer=$with_sanitizer: $CC cannot build with it])],
			[int main(void) { return 0; }])
		have_sanitizer=yes
		sanitizer_why=$with_sanitizer
	])
	AC_SUBST([SANITIZER_CFLAGS])
])

# SINKD_FUZZ: --enable-fuzz; needs clang's libFuzzer. Sets FUZZ_CFLAGS (for the targets' own objects and their link),
# the conditional FUZZ, have_fuzz, fuzz_why.
AC_DEFUN([SINKD_FUZZ], [
	AC_ARG_ENABLE([fuzz],
		[AS_HELP_STRING([--enable-fuzz], [fuzz targets (CC=clang); make check replays their corpus])],
		[], [enable_fuzz=no])
	FUZZ_CFLAGS=
	have_fuzz=no
	fuzz_why="not asked for"
	AS_IF([test "x$enable_fuzz" != xno], [
		FUZZ_CFLAGS="-fsanitize=fuzzer"
		AC_MSG_CHECKING([whether $CC links with $FUZZ_CFLAGS])
		SINKD_LINKS([$FUZZ_CFLAGS], [AC_MSG_RESULT([yes])],
			[AC_MSG_RESULT([no])
			AC_MSG_ERROR([--enable-fuzz needs clang and its run-time libraries: ./configure CC=clang --enable-fuzz])],
			[int LLVMFuzzerTestOneInput(const unsigned char *, unsigned long);
			int LLVMFuzzerTestOneInput(const unsigned char *p, unsigned long n) { return p && n ? 0 : 0; }])
		have_fuzz=yes
		fuzz_why="libFuzzer of $CC"
	])
	AC_SUBST([FUZZ_CFLAGS])
	AM_CONDITIONAL([FUZZ], [test "$have_fuzz" = yes])
])

# SINKD_PYTHON(MODULES): PYTHON becomes the first Python 3 that imports them all, or empty. The system's own comes first:
# another one in front of it in PATH seldom has the distribution's modules.
AC_DEFUN([SINKD_PYTHON], [
	AC_ARG_VAR([PYTHON], [a Python 3 with the modules zmq and msgpack, for the live tests])
	AC_MSG_CHECKING([for a Python 3 with $1])
	AS_IF([test -z "$PYTHON"], [
		for sinkd_python in /usr/bin/python3 python3; do
			AS_IF([$sinkd_python -c 'import $1' >/dev/null 2>&1], [PYTHON=$sinkd_python; break])
		done
	])
	AC_MSG_RESULT([${PYTHON:-none}])
])
