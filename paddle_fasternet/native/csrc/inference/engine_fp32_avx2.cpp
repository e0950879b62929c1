// float32 on AVX2 and FMA.
#include "standard.h"
#include "../common/processor.h"

#if defined(FASTERNET_X86)
#pragma GCC target("avx2,fma")
#include <immintrin.h>
#define INSTRUCTIONS fp32_avx2
#define LANES 8
#include "engine.h"

namespace fasternet {
Engine *make_fp32_avx2(const Network &net) {
    using namespace fp32_avx2;
    return new Runner<Registers<Float, 6, 2>>(net);
}
}  // namespace fasternet
#endif
