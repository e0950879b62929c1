// float32 on AVX-512.
#include "kinds.h"

#if defined(FASTERNET_X86)
#pragma GCC target("avx512f,fma")
#include <immintrin.h>
#define INSTRUCTIONS fp32_avx512_code
#define LANES 16
#include "../inference/inference.h"
#include "../training/training.h"

namespace fasternet {
using namespace fp32_avx512_code;
extern const Kind fp32_avx512 = kind_of<Float, 14, 2>("fp32-avx512", has_avx512);
}  // namespace fasternet
#endif
