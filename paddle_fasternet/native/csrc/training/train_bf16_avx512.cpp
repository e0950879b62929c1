// bfloat16 on AVX-512 with its bfloat16 instructions (AMD from Zen 4, Intel from Cooper Lake).
#include "standard.h"
#include "../common/processor.h"

#if defined(FASTERNET_AMX)
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")
#include <immintrin.h>
#define INSTRUCTIONS train_bf16_avx512
#define LANES 16
#define BFLOAT16  // with it go AVX-512 BW, VL and DQ
#include "train.h"

namespace fasternet {
using namespace train_bf16_avx512;
const Training training_bf16_avx512 = training_of<Registers<Bfloat16, 14, 2>>();
}  // namespace fasternet
#endif
