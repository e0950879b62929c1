// float32 on AVX-512.
#include "standard.h"
#include "../common/processor.h"

#if defined(FASTERNET_X86)
#pragma GCC target("avx512f,fma")
#include <immintrin.h>
#define INSTRUCTIONS fp32_avx512
#define LANES 16
#include "engine.h"

namespace fasternet {
Engine *make_fp32_avx512(const Network &net) {
    using namespace fp32_avx512;
    return new Runner<Registers<Float, 14, 2>>(net);
}
}  // namespace fasternet
#endif
