// Inference for one instruction set. A file in kinds/ defines INSTRUCTIONS (the namespace), LANES (floats in a vector)
// and, where there are such instructions, BFLOAT16, tells the compiler the instruction set and includes this file.
#include "../common/core.h"

namespace fasternet {
namespace INSTRUCTIONS {
namespace inference {

constexpr int MAX_STAGES = 8;
constexpr long SLACK_ROWS = 64;          // rows that products may read after the last
constexpr long GATHER_ROWS = 64;         // rows of an embedding gathered at once
constexpr long LEFT_BYTES = 32 << 10;    // of a left-hand side that stays in the first-level cache
constexpr long MAX_CHUNK = 64;           // panels
constexpr long STAY_BYTES = 768 << 10;   // of weights that may be expected to stay in the second-level cache
constexpr long SLICE_BYTES = 256 << 10;  // of the hidden layer at once
constexpr long GROUP_BYTES = 512 << 10;  // of a stage's activations at once

#include "output.h"
#include "register_kernel.h"
#include "weights.h"
#include "runner.h"

template <class K> Engine *new_engine(const Network &net) { return new Runner<K>(net); }

}  // namespace inference
}  // namespace INSTRUCTIONS
}  // namespace fasternet
