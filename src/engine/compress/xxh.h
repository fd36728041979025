// XXH3 from the library, which picks the widest vectors that this CPU has (AVX2, AVX-512): a page is
// hashed twice as fast as with what every x86-64 has. The hash is the same on all of them.
#pragma once

#ifdef __x86_64__
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif
