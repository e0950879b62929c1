// A network for inference, and what every kind's engine offers. All arrays are float32 with BatchNorm folded in, owned
// by the caller; null stands for "absent".
#pragma once
#include "../common/network.h"

namespace fasternet {

struct Block {
    int dim_conv, groups, kernel, hidden;  // the mixer convolves the first dim_conv channels; 0: no mixer
    const float *conv;                     // [dim_conv, dim_conv / groups, kernel, kernel]
    const float *first, *first_bias;       // [hidden, dim], [hidden]
    const float *second, *second_bias;     // [dim, hidden], [dim]
};

struct Stage {
    int dim, depth;
    PatchShape patches;          // of the embedding before this stage
    const float *weight, *bias;  // [dim, channels before, size, size], [dim]
    const Block *blocks;         // [depth]
};

struct Network {
    int channels, stage_count, features, classes;  // classes = 0: the answers are the features
    int act, embed_act;                            // Activation of the blocks and the head; of the embeddings
    const Stage *stages;
    const float *feature, *feature_bias;  // [features, last dim], [features]
    const float *head, *head_bias;        // [features, classes], [classes]
    const float *mean, *std;              // [channels], 0 to 255, for images of bytes
};

// Copies what it needs of a Network.
struct Engine {
    virtual ~Engine() {}
    // answers: [count, classes]. Within pool.alone. Throws std::bad_alloc.
    virtual void run(const Images &images, float *answers, Pool &pool) = 0;
};

}  // namespace fasternet
