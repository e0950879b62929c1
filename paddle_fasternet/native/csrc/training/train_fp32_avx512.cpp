// float32 on AVX-512.
#include "standard.h"
#include "../common/processor.h"

#if defined(FASTERNET_X86)
#pragma GCC target("avx512f,fma")
#include <immintrin.h>
#define INSTRUCTIONS train_fp32_avx512
#define LANES 16
#include "train.h"

namespace fasternet {
using namespace train_fp32_avx512;
const Training training_fp32_avx512 = train_fp32_avx512::training_of<Registers<Float, 14, 2>>();
}  // namespace fasternet
#endif
