// Everything an engine consists of, for one instruction set. An engine_*.cpp defines INSTRUCTIONS (the namespace), LANES
// (floats in a vector) and, where there are such instructions, BFLOAT16, tells the compiler the instruction set, and
// includes this file. The standard headers come before that: a function of theirs compiled for a newer processor could
// be the copy that everybody uses.

namespace fasternet {
namespace INSTRUCTIONS {

typedef float vec __attribute__((vector_size(LANES * 4)));
typedef int ints __attribute__((vector_size(LANES * 4)));

constexpr int MAX_STAGES = 8, MAX_KERNEL = 15;
constexpr long SLACK_ROWS = 64;          // rows that products may read behind the last
constexpr long GATHER_ROWS = 64;         // rows of an embedding gathered at once
constexpr long LEFT_BYTES = 32 << 10;    // of a left factor that stays in the first-level cache
constexpr long MAX_CHUNK = 64;           // panels
constexpr long STAY_BYTES = 768 << 10;   // of weights that may be expected to stay in the second-level cache
constexpr long SLICE_BYTES = 256 << 10;  // of the hidden layer at once
constexpr long GROUP_BYTES = 512 << 10;  // of a stage's activations at once

#include "../common/matrix.h"
#include "../common/activation.h"
#include "../common/arithmetic.h"
#include "gather.h"
#include "weights.h"
#include "runner.h"
#include "registers.h"

}  // namespace INSTRUCTIONS
}  // namespace fasternet
