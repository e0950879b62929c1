// float32 on any processor.
#include "kinds.h"

#define INSTRUCTIONS fp32_plain_code
#define LANES 4
#include "../inference/inference.h"
#include "../training/training.h"

namespace fasternet {
using namespace fp32_plain_code;
extern const Kind fp32_plain = kind_of<Float, 2, 4>("fp32-plain", always);
}  // namespace fasternet
