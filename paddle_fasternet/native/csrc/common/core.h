// What inference and training share, for one instruction set.
#pragma once

namespace fasternet {
namespace INSTRUCTIONS {

typedef float vec __attribute__((vector_size(LANES * 4)));
typedef int ints __attribute__((vector_size(LANES * 4)));

#include "memory.h"
#include "activation.h"
#include "arithmetic.h"
#include "registers.h"
#include "gather.h"
#include "depthwise.h"

}  // namespace INSTRUCTIONS
}  // namespace fasternet
