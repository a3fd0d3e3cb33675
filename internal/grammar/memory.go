package grammar

/*
#include <stdlib.h>
#ifdef __GLIBC__
#include <malloc.h>
static void give_back(void) { malloc_trim(0); }
#else
static void give_back(void) {}
#endif
*/
import "C"

// GiveBack returns to the system what memory the parser, which is C, has freed: the C
// library keeps it for each thread that it ran on.
func GiveBack() { C.give_back() }
