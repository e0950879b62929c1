// The kinds of kernels: an instruction set and a precision. A new kind is a file beside this one and a line in kinds.cpp.
#pragma once
#include "../common/standard.h"
#include "../inference/network.h"
#include "../training/network.h"
#include "processor.h"

namespace fasternet {

struct Kind {
    const char *name;  // PRECISION-INSTRUCTIONS
    bool (*works)();   // on this processor
    Engine *(*new_engine)(const Network &);
    Pass *(*new_pass)();  // null: none for training, as new_muon
    Muon *(*new_muon)();
};
extern const Kind *const KINDS[];  // best first
extern const int KIND_COUNT;

}  // namespace fasternet
