// float32 on AVX2 and FMA.
#include "kinds.h"

#if defined(FASTERNET_X86)
#pragma GCC target("avx2,fma")
#include <immintrin.h>
#define INSTRUCTIONS fp32_avx2_code
#define LANES 8
#include "../inference/inference.h"
#include "../training/training.h"

namespace fasternet {
using namespace fp32_avx2_code;
extern const Kind fp32_avx2 = kind_of<Float, 6, 2>("fp32-avx2", has_avx2);
}  // namespace fasternet
#endif
