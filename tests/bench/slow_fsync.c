/* A village SD card for LD_PRELOAD: every fsync, fdatasync and sync_file_range takes
 * SLOW_FSYNC_MIN_MS to SLOW_FSYNC_MAX_MS longer, and the card stalls for SLOW_FSYNC_STALL_MS
 * every SLOW_FSYNC_STALL_EVERY_MS. Stalls begin at whole multiples of that period of
 * CLOCK_MONOTONIC, so that who measures knows them without being told.
 *
 * cc -shared -fPIC -O2 -o slow_fsync.so slow_fsync.c -ldl
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

static int64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int64_t setting_us(const char *name) {
    const char *value = getenv(name);
    return value ? atoll(value) * 1000 : 0;
}

static void sleep_us(int64_t us) {
    struct timespec t = {us / 1000000, us % 1000000 * 1000};
    while (us > 0 && nanosleep(&t, &t)) {
    }
}

static void be_slow(void) {
    int64_t least = setting_us("SLOW_FSYNC_MIN_MS"), most = setting_us("SLOW_FSYNC_MAX_MS");
    int64_t stall = setting_us("SLOW_FSYNC_STALL_MS");
    int64_t every = setting_us("SLOW_FSYNC_STALL_EVERY_MS");
    int64_t now = now_us();
    uint64_t mixed = (uint64_t)now * 0x9E3779B97F4A7C15u;
    int64_t pause = least + (most > least ? (int64_t)((mixed >> 33) % (uint64_t)(most - least)) : 0);
    if (every > 0) {
        int64_t begun = now - now % every;
        if (now < begun + stall)
            pause += begun + stall - now;
        else if (now + pause > begun + every)
            pause += stall;
    }
    sleep_us(pause);
}

int fsync(int fd) {
    static int (*real)(int);
    if (!real)
        real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    be_slow();
    return real(fd);
}

int fdatasync(int fd) {
    static int (*real)(int);
    if (!real)
        real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    be_slow();
    return real(fd);
}

int sync_file_range(int fd, off_t offset, off_t count, unsigned int flags) {
    static int (*real)(int, off_t, off_t, unsigned int);
    if (!real)
        real = (int (*)(int, off_t, off_t, unsigned int))dlsym(RTLD_NEXT, "sync_file_range");
    be_slow();
    return real(fd, offset, count, flags);
}
