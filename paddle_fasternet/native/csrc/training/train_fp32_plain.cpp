// float32 on any processor.
#include "standard.h"

#define INSTRUCTIONS train_fp32_plain
#define LANES 4
#include "train.h"

namespace fasternet {
using namespace train_fp32_plain;
const Training training_fp32_plain = train_fp32_plain::training_of<Registers<Float, 2, 4>>();
}  // namespace fasternet
