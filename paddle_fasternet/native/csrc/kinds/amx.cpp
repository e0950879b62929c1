// bfloat16 and float32 on AMX (Intel from Sapphire Rapids).
#include "kinds.h"

#if defined(FASTERNET_AMX)
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,amx-tile,amx-bf16,fma")
#include <immintrin.h>
#define INSTRUCTIONS amx_code
#define LANES 16
#define BFLOAT16  // with it go AVX-512 BW, VL and DQ
#include "../inference/inference.h"
#include "../training/training.h"

namespace fasternet {
namespace amx_code {

// The shape of all eight tiles: 16 rows of 64 bytes.
static inline void configure_tiles() {
    struct alignas(64) {
        uint8_t palette = 1, start = 0, reserved[14] = {};
        uint16_t bytes[16] = {};
        uint8_t rows[16] = {};
    } shapes;
    for (int i = 0; i < 8; i++) shapes.bytes[i] = 64, shapes.rows[i] = 16;
    _tile_loadconfig(&shapes);
}

namespace inference {
#include "../inference/tile_kernel.h"
}
namespace training {
#include "../training/tile_kernel.h"
}

}  // namespace amx_code

using namespace amx_code;
extern const Kind bf16_amx = {"bf16-amx", has_amx, inference::new_engine<inference::TileKernel<1>>,
                              training::new_pass<training::TileKernel>, training::new_muon<training::TileKernel>};
extern const Kind fp32_amx = {"fp32-amx", has_amx, inference::new_engine<inference::TileKernel<3>>, nullptr, nullptr};
}  // namespace fasternet
#endif
