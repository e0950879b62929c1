// float32 on AVX-512.
#include "standard.h"

#pragma GCC target("avx512f,fma")
#include <immintrin.h>
#define INSTRUCTIONS train_fp32_avx512
#define LANES 16
#include "train.h"

namespace fasternet {
Pass *new_pass_fp32_avx512() {
    using namespace train_fp32_avx512;
    return new Trunk<Registers<14, 2>>;
}
}  // namespace fasternet
