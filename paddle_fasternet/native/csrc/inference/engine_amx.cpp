// bfloat16 and float32 on AMX.
#include "standard.h"
#include "../common/processor.h"

#if defined(FASTERNET_AMX)
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,amx-tile,amx-bf16,fma")
#include <immintrin.h>
#define INSTRUCTIONS amx
#define LANES 16
#define BFLOAT16  // with it go AVX-512 BW, VL and DQ
#include "engine.h"

namespace fasternet {
namespace amx {
#include "../common/tile_shapes.h"
#include "tiles.h"
}
Engine *make_bf16_amx(const Network &net) { return new amx::Runner<amx::Tiles<1>>(net); }
Engine *make_fp32_amx(const Network &net) { return new amx::Runner<amx::Tiles<3>>(net); }
}  // namespace fasternet
#endif
