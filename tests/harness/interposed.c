/* What no tool here can do to a running daemon: put its wall clock wrong, and let its syncs fail.
   Loaded before libc by interposed.py; $LXD_NODE_TEST_FAULTS is a directory with, at times, the files
   `clock` (seconds to add) and `syncs` (fsync and fdatasync give EIO). Monotonic clocks are left alone. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int open_fault(const char *name)
{
    char path[4096];
    const char *directory = getenv("LXD_NODE_TEST_FAULTS");
    if (!directory)
        return -1;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return open(path, O_RDONLY | O_CLOEXEC);
}

static long clock_offset(void)
{
    char text[32] = "";
    int kept = errno, file = open_fault("clock");
    if (file >= 0) {
        if (read(file, text, sizeof text - 1) < 0)
            text[0] = 0;
        close(file);
    }
    errno = kept;
    return atol(text);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (!result && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += clock_offset();
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec precise;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &precise))
        return -1;
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *result)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result)
        *result = now.tv_sec;
    return now.tv_sec;
}

static int sync_or_fail(const char *name, int file)
{
    int (*real)(int) = dlsym(RTLD_NEXT, name), fault = open_fault("syncs");
    if (fault < 0)
        return real(file);
    close(fault);
    errno = EIO;
    return -1;
}

int fsync(int file) { return sync_or_fail("fsync", file); }
int fdatasync(int file) { return sync_or_fail("fdatasync", file); }
