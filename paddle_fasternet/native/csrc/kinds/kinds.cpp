#include "kinds.h"

// Best first. A kind whose file is compiled to nothing on this platform is null.
#define TABLE         \
    KIND(bf16_amx)    \
    KIND(bf16_avx512) \
    KIND(fp32_amx)    \
    KIND(fp32_avx512) \
    KIND(fp32_avx2)   \
    KIND(fp32_plain)

namespace fasternet {

#define KIND(name) extern const Kind name __attribute__((weak));
TABLE
#undef KIND
#define KIND(name) &name,
const Kind *const KINDS[] = {TABLE};
const int KIND_COUNT = sizeof(KINDS) / sizeof(KINDS[0]);

}  // namespace fasternet
