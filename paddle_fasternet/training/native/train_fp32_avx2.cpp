// float32 on AVX2 and FMA.
#include "standard.h"

#pragma GCC target("avx2,fma")
#include <immintrin.h>
#define INSTRUCTIONS train_fp32_avx2
#define LANES 8
#include "train.h"

namespace fasternet {
Pass *new_pass_fp32_avx2() {
    using namespace train_fp32_avx2;
    return new Trunk<Registers<6, 2>>;
}
}  // namespace fasternet
