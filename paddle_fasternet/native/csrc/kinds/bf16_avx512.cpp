// bfloat16 on AVX-512 with its bfloat16 instructions (AMD from Zen 4, Intel from Cooper Lake).
#include "kinds.h"

#if defined(FASTERNET_AMX)
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")
#include <immintrin.h>
#define INSTRUCTIONS bf16_avx512_code
#define LANES 16
#define BFLOAT16  // with it go AVX-512 BW, VL and DQ
#include "../inference/inference.h"
#include "../training/training.h"

namespace fasternet {
using namespace bf16_avx512_code;
extern const Kind bf16_avx512 = kind_of<Bfloat16, 14, 2>("bf16-avx512", has_bf16);
}  // namespace fasternet
#endif
