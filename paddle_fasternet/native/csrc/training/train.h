// The training kernels for one instruction set. A train_*.cpp defines INSTRUCTIONS (the namespace), LANES (floats in a
// vector) and, where there are such instructions, BFLOAT16, tells the compiler the instruction set, and includes this
// file; standard.h comes before that, because a function of the standard library compiled for a newer processor could be
// the copy that everybody uses.

namespace fasternet {
namespace INSTRUCTIONS {

typedef float vec __attribute__((vector_size(LANES * 4)));
typedef int ints __attribute__((vector_size(LANES * 4)));

constexpr long SLACK = 8192;             // values that products may read behind the last
constexpr long PLANE_ROWS = 512;         // of maps laid beside each other for a convolution
constexpr long CHUNK_BYTES = 640 << 10;  // of the hidden layer at once

#include "../common/matrix.h"
#include "../common/activation.h"
#include "../common/arithmetic.h"
#include "slopes.h"
#include "factors.h"
#include "norm.h"
#include "plane.h"
#include "patches.h"
#include "depthwise.h"
#include "memory.h"
#include "mixing.h"
#include "trunk.h"
#include "muon.h"
#include "registers.h"

template <class A> constexpr Training training_of() {
    return {[]() -> Pass * { return new Trunk<A>; }, []() -> Muon * { return new MuonOf<A>; }};
}

}  // namespace INSTRUCTIONS
}  // namespace fasternet
