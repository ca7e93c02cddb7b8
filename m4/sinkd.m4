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
