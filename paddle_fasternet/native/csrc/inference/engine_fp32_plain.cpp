// float32 on any processor.
#include "standard.h"

#define INSTRUCTIONS fp32_plain
#define LANES 4
#include "engine.h"

namespace fasternet {
Engine *make_fp32_plain(const Network &net) {
    using namespace fp32_plain;
    return new Runner<Registers<Float, 2, 4>>(net);
}
}  // namespace fasternet
