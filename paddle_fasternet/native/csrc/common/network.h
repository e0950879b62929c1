// What inference and training have in common of a network's description.
#pragma once
#include <cstdint>

#include "threads.h"

namespace fasternet {

enum Activation { NONE = 0, RELU = 1, GELU = 2 };

constexpr int MAX_KERNEL = 15;

// Patches that an embedding (stem or merging layer) takes: `step` pixels apart, reaching `overlap` pixels beyond that on
// each side.
struct PatchShape {
    int step, overlap;
    long size() const { return step + 2 * overlap; }
};

// Either `bytes` (NHWC, 0 to 255) or `floats` (NCHW, normalised), owned by the caller.
struct Images {
    const uint8_t *bytes;
    const float *floats;
    long count, height, width;
};

}  // namespace fasternet
