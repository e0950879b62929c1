// float32 on AVX2 and FMA.
#include "standard.h"
#include "../common/processor.h"

#if defined(FASTERNET_X86)
#pragma GCC target("avx2,fma")
#include <immintrin.h>
#define INSTRUCTIONS train_fp32_avx2
#define LANES 8
#include "train.h"

namespace fasternet {
using namespace train_fp32_avx2;
const Training training_fp32_avx2 = train_fp32_avx2::training_of<Registers<Float, 6, 2>>();
}  // namespace fasternet
#endif
