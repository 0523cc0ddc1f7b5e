/* Faults of the machine, for a program that is started with this library (LD_PRELOAD): a slow disk, a full disk, a clock
 * that steps. They are read from the file FAULTS_FILE, which another process changes meanwhile. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* Also in faults.py. `syncing`: how many syncs run now. `full`: the next write to a file ends after its first half,
 * and then none succeeds. */
static volatile struct { int64_t clock_seconds; int32_t sync_ms, full, syncing; } none, *faults = &none;

__attribute__((constructor)) static void open_faults(void) {
    const char *path = getenv("FAULTS_FILE");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *shared = mmap(NULL, sizeof none, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (shared != MAP_FAILED) faults = shared;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int slowly(int (*sync)(int), int file) {
    if (!faults->sync_ms) return sync(file);
    __sync_fetch_and_add(&faults->syncing, 1);
    usleep(1000 * faults->sync_ms);
    int result = sync(file);
    __sync_fetch_and_sub(&faults->syncing, 1);
    return result;
}

int fdatasync(int file) {
    static __typeof__(&fdatasync) real;
    if (!real) real = REAL(fdatasync);
    return slowly(real, file);
}

int fsync(int file) {
    static __typeof__(&fsync) real;
    if (!real) real = REAL(fsync);
    return slowly(real, file);
}

ssize_t write(int file, const void *data, size_t size) {
    static __typeof__(&write) real;
    struct stat found;
    if (!real) real = REAL(write);
    if (!faults->full || fstat(file, &found) || !S_ISREG(found.st_mode)) return real(file, data, size);
    if (size > 1 && __sync_bool_compare_and_swap(&faults->full, 1, 2)) return real(file, data, size / 2);
    errno = ENOSPC;
    return -1;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static __typeof__(&clock_gettime) real;
    if (!real) real = REAL(clock_gettime);
    int result = real(clock, now);
    if (!result && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += faults->clock_seconds;
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    static int (*real)(struct timeval *, void *);
    if (!real) real = (int (*)(struct timeval *, void *))dlsym(RTLD_NEXT, "gettimeofday");
    int result = real(now, zone);
    if (!result && now) now->tv_sec += faults->clock_seconds;
    return result;
}

time_t time(time_t *now) {
    static __typeof__(&time) real;
    if (!real) real = REAL(time);
    time_t seconds = real(NULL) + faults->clock_seconds;
    if (now) *now = seconds;
    return seconds;
}
