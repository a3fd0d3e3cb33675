package grammar

/*
#define _GNU_SOURCE
#include <pthread.h>

// this_stack is the stack of the thread it runs on, in bytes; 0 if the C library does not tell.
static size_t this_stack(void) {
	pthread_attr_t attr;
	size_t size = 0;
	if (pthread_getattr_np(pthread_self(), &attr) == 0) {
		pthread_attr_getstacksize(&attr, &size);
		pthread_attr_destroy(&attr);
	}
	return size;
}
*/
import "C"

import (
	"runtime"
	"syscall"
)

// threadStack is the size in bytes of the smallest stack that C code called from Go runs on:
// that of a thread, or of the process's first one, which grows up to the limit of stacks.
func threadStack() int {
	size := uint64(unlimitedStack)
	measured := make(chan uint64)
	go func() {
		runtime.LockOSThread() // not the first: while packages are initialized main has that
		defer runtime.UnlockOSThread()
		measured <- currentStack()
	}()
	if n := <-measured; n > 0 {
		size = n
	}
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_STACK, &limit) == nil {
		size = min(size, limit.Cur)
	}
	return int(min(size, 1<<40))
}

// currentStack is the size in bytes of the stack of the thread it runs on; 0 is not known.
func currentStack() uint64 { return uint64(C.this_stack()) }
