// float32 on any processor.
#include "standard.h"

#define INSTRUCTIONS train_fp32_plain
#define LANES 4
#include "train.h"

namespace fasternet {
Pass *new_pass_fp32_plain() {
    using namespace train_fp32_plain;
    return new Trunk<Registers<2, 4>>;
}
}  // namespace fasternet
