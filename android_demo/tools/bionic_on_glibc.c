/* Android's C library for one shared library on a glibc Linux: the AAR's own libtensorflowlite_jni.so (x86_64) then
 * runs in a desktop JVM, so that the tests execute the code that the phone executes.
 *
 * The library asks for symbols of version LIBC from libc.so, libm.so, libdl.so and liblog.so. Most are glibc's under
 * the same name and are forwarded by generated jumps (tools/native_library.sh); those that differ are here. Data
 * types that the library shares with its C library (pthread_mutex_t, pthread_cond_t, pthread_rwlock_t, struct stat)
 * have the same size and zero state in both on x86_64; FILE is only ever handled through a pointer. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BIONIC(name) __asm__(".symver bionic_" #name "," #name "@LIBC")

/* stdin, stdout and stderr are elements of an array of 152-byte structures. */
char bionic___sF[3][152];
BIONIC(__sF);

static FILE *host(FILE *file) {
    uintptr_t at = (uintptr_t)file - (uintptr_t)bionic___sF;
    if (at >= sizeof bionic___sF) return file;
    return at / sizeof bionic___sF[0] == 1 ? stdout : stderr;
}

BIONIC(vfprintf);
int bionic_vfprintf(FILE *file, const char *format, va_list values) { return vfprintf(host(file), format, values); }

BIONIC(fprintf);
int bionic_fprintf(FILE *file, const char *format, ...) {
    va_list values;
    va_start(values, format);
    int count = vfprintf(host(file), format, values);
    va_end(values);
    return count;
}

BIONIC(fputc);
int bionic_fputc(int c, FILE *file) { return fputc(c, host(file)); }

BIONIC(fwrite);
size_t bionic_fwrite(const void *data, size_t size, size_t count, FILE *file) {
    return fwrite(data, size, count, host(file));
}

BIONIC(fflush);
int bionic_fflush(FILE *file) { return fflush(file ? host(file) : NULL); }

BIONIC(fileno);
int bionic_fileno(FILE *file) { return fileno(host(file)); }

BIONIC(__errno);
int *bionic___errno(void) { return &errno; }

BIONIC(__strlen_chk);
size_t bionic___strlen_chk(const char *text, size_t size) {
    (void)size;
    return strlen(text);
}

/* POSIX's strerror_r, not GNU's. */
extern int __xpg_strerror_r(int code, char *buffer, size_t size);
BIONIC(strerror_r);
int bionic_strerror_r(int code, char *buffer, size_t size) { return __xpg_strerror_r(code, buffer, size); }

/* No property is set. */
BIONIC(__system_property_get);
int bionic___system_property_get(const char *key, char *value) {
    (void)key;
    *value = 0;
    return 0;
}

/* The names have other numbers. */
BIONIC(sysconf);
long bionic_sysconf(int name) {
    switch (name) {
    case 39:
    case 40:
        return sysconf(_SC_PAGESIZE);
    case 96:
        return sysconf(_SC_NPROCESSORS_CONF);
    case 97:
        return sysconf(_SC_NPROCESSORS_ONLN);
    case 98:
        return sysconf(_SC_PHYS_PAGES);
    default:
        errno = EINVAL;
        return -1;
    }
}

BIONIC(android_set_abort_message);
void bionic_android_set_abort_message(const char *message) { fprintf(stderr, "%s\n", message); }

/* liblog: warnings (5) and worse. */
int __android_log_vprint(int priority, const char *tag, const char *format, va_list values) {
    if (priority < 5) return 0;
    fprintf(stderr, "%s: ", tag);
    int count = vfprintf(stderr, format, values);
    fputc('\n', stderr);
    return count;
}
