// bfloat16 on AMX.
#include "standard.h"
#include "../common/processor.h"

#if defined(FASTERNET_AMX)
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,amx-tile,amx-bf16,fma")
#include <immintrin.h>
#define INSTRUCTIONS train_amx
#define LANES 16
#define BFLOAT16  // with it go AVX-512 BW, VL and DQ
#include "train.h"

namespace fasternet {
namespace train_amx {
#include "../common/tile_shapes.h"
#include "tiles.h"
}
const Training training_bf16_amx = train_amx::training_of<train_amx::Tiles>();
}  // namespace fasternet
#endif
