// Training for one instruction set, included as inference/inference.h is.
#include "../common/core.h"

namespace fasternet {
namespace INSTRUCTIONS {
namespace training {

constexpr long SLACK = 8192;             // values that products may read after the last
constexpr long PLANE_ROWS = 512;         // of maps laid beside each other for a convolution
constexpr long CHUNK_BYTES = 640 << 10;  // of the hidden layer at once

#include "norm.h"
#include "patches.h"
#include "depthwise.h"
#include "memory.h"
#include "mixing.h"
#include "trunk.h"
#include "muon.h"
#include "register_kernel.h"

template <class A> Pass *new_pass() { return new Trunk<A>; }
template <class A> Muon *new_muon() { return new MuonOf<A>; }

}  // namespace training

// A kind whose products run in vector registers.
template <class A, int MR, int VECTORS> constexpr Kind kind_of(const char *name, bool (*works)()) {
    using Kernel = training::RegisterKernel<A, MR, VECTORS>;
    return {name, works, inference::new_engine<inference::RegisterKernel<A, MR, VECTORS>>, training::new_pass<Kernel>,
            training::new_muon<Kernel>};
}

}  // namespace INSTRUCTIONS
}  // namespace fasternet
