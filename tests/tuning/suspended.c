/* Preloaded into a process: its CLOCK_MONOTONIC stands still for as long as it is told, as while a machine is suspended.

   SUSPENDED names a file of two 64-bit numbers: by how many nanoseconds the clock is behind, and whether the process
   stops itself (SIGSTOP) just before it next moves a file to a path that contains STOP_BEFORE. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define YEARS_30 1000000000LL /* no machine is up for as long, and no wall clock shows less */

static volatile int64_t nothing[2];
static volatile int64_t *numbers = nothing;

__attribute__((constructor)) static void map_numbers(void) {
    const char *path = getenv("SUSPENDED");
    int file = path ? open(path, O_RDWR) : -1;
    if (file >= 0) {
        numbers = mmap(NULL, sizeof nothing, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        close(file);
    }
}

static struct timespec moved(struct timespec at, int64_t by) {
    int64_t all = at.tv_sec * SECOND + at.tv_nsec + by;
    return (struct timespec){.tv_sec = all / SECOND, .tv_nsec = all % SECOND};
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = REAL(clock_gettime);
    int failed = real(clock, at);
    if (!failed && clock == CLOCK_MONOTONIC) *at = moved(*at, -numbers[0]);
    return failed;
}

/* Waits until a moment of the clock above. The kernel's own clock may be past it, also where the process was stopped. */
#define UNTIL(is_monotonic, wait, timed_out)                            \
    if (!(is_monotonic)) { const struct timespec *end = at; return wait; } \
    for (;;) {                                                          \
        int64_t by = numbers[0];                                        \
        struct timespec there = moved(*at, by), *end = &there;          \
        int result = wait;                                              \
        if (!(timed_out) || by == numbers[0]) return result;            \
    }

int sem_clockwait(sem_t *semaphore, clockid_t clock, const struct timespec *at) {
    UNTIL(clock == CLOCK_MONOTONIC, REAL(sem_clockwait)(semaphore, clock, end), result && errno == ETIMEDOUT)
}

int pthread_cond_clockwait(pthread_cond_t *cond, pthread_mutex_t *mutex, clockid_t clock, const struct timespec *at) {
    UNTIL(clock == CLOCK_MONOTONIC, REAL(pthread_cond_clockwait)(cond, mutex, clock, end), result == ETIMEDOUT)
}

int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *at) {
    UNTIL(at->tv_sec < YEARS_30, REAL(pthread_cond_timedwait)(cond, mutex, end), result == ETIMEDOUT)
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *at, struct timespec *rest) {
    UNTIL(clock == CLOCK_MONOTONIC && (flags & TIMER_ABSTIME), REAL(clock_nanosleep)(clock, flags, end, rest), !result)
}

int rename(const char *from, const char *to) {
    const char *part = getenv("STOP_BEFORE");
    if (numbers[1] && part && strstr(to, part)) {
        numbers[1] = 0;
        raise(SIGSTOP); /* of this thread: it does not move the file before it stops */
    }
    return REAL(rename)(from, to);
}
