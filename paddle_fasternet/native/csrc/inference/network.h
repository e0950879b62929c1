// What a network is made of, and what every engine (one for each instruction set and precision) offers.
#pragma once
#include <cstdint>

#include "../common/threads.h"

namespace fasternet {

enum Activation { NONE = 0, RELU = 1, GELU = 2 };

// All weights are float32, BatchNorm folded into them. A null pointer stands for "absent".
struct Block {
    int dim_conv, kernel, hidden;    // dim_conv = 0: no partial convolution
    const float *conv;               // [dim_conv, dim_conv, kernel, kernel]
    const float *first, *first_bias;    // [hidden, dim], [hidden]
    const float *second, *second_bias;  // [dim, hidden], [dim]
};

// Patches lie `step` pixels apart and reach `overlap` pixels beyond that on each side.
struct PatchShape {
    int step, overlap;
    long size() const { return step + 2 * overlap; }
};

struct Stage {
    int dim, depth;
    PatchShape patches;              // of the embedding before this stage (stem or merging layer)
    const float *weight, *bias;      // [dim, channels before, size, size], [dim]
    const Block *blocks;             // [depth]
};

struct Network {
    int channels, stage_count, features, classes;  // classes = 0: the answers are the features
    int act, embed_act;              // Activation in the blocks and the head; behind the embeddings
    const Stage *stages;
    const float *feature, *feature_bias;  // [features, last dim], [features]
    const float *head, *head_bias;        // [features, classes], [classes]
    const float *mean, *std;              // [channels], 0 to 255, for images of bytes
};

// Either `bytes` (NHWC, 0 to 255) or `floats` (NCHW, normalised).
struct Images {
    const uint8_t *bytes;
    const float *floats;
    long count, height, width;
};

struct Engine {
    virtual ~Engine() {}
    virtual void run(const Images &images, float *answers, Pool &pool) = 0;  // answers: [count, classes]
};

// Each copies what it needs of the network.
Engine *make_fp32_plain(const Network &);
Engine *make_fp32_avx2(const Network &);
Engine *make_fp32_avx512(const Network &);
Engine *make_fp32_amx(const Network &);
Engine *make_bf16_avx512(const Network &);
Engine *make_bf16_amx(const Network &);

}  // namespace fasternet
