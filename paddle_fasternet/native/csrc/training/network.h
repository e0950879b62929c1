// A network in training: from the images to the stages' maps. All arrays are float32 in Paddle's layouts, owned by the
// caller; null where the network has no such part.
#pragma once
#include "../common/network.h"

namespace fasternet {

enum Mixer { MIXER_NONE, MIXER_PARTIAL, MIXER_DEPTHWISE };

// BatchNorm over the batch; the gradients are written, the running statistics updated.
struct TrainNorm {
    const float *gamma, *beta;
    float *mean, *variance;  // running
    float *d_gamma, *d_beta;
};
struct TrainBlock {
    int mixer, kernel, dim_conv, groups, hidden;
    const float *conv;   // [dim_conv, dim_conv / groups, kernel, kernel], or [dim, 1, kernel, kernel]
    const float *first;  // [hidden, dim]
    TrainNorm norm;
    const float *second;  // [dim, hidden]
    const float *scale;   // layer scale [dim]
    const float *drop;    // factor on the branch of each image (stochastic depth)
    float *d_conv, *d_first, *d_second, *d_scale;
};
struct TrainStage {
    int dim, depth;
    PatchShape patches;   // of the embedding before this stage
    const float *weight;  // of the embedding: [dim, channels before, size, size]
    TrainNorm norm;
    float *d_weight;
    const TrainBlock *blocks;
};
struct TrainNetwork {
    int channels, stage_count, act, embed_act;
    float epsilon, momentum;
    const TrainStage *stages;
};

// One forward pass and what its backward pass needs of it. Within pool.alone; throws std::bad_alloc.
class Pass {
public:
    virtual ~Pass() {}
    // maps: of every stage [count, dim, h, w], or null where the map is not wanted.
    virtual void forward(const TrainNetwork &, const Images &, float *const *maps, Pool &) = 0;
    // d_maps: the gradients at these maps, or null.
    virtual void backward(const TrainNetwork &, const Images &, const float *const *d_maps, Pool &) = 0;
};

// A weight that Muon updates as a matrix [rows, columns].
struct MuonMatrix {
    float *weight, *momentum;
    const float *gradient;
    long rows, columns;
};
struct MuonSettings {
    float rate, decay, momentum, size;  // size: root mean square of an update at a rate of 1
    float a, b, c;
    int iterations;
};
class Muon {
public:
    virtual ~Muon() {}
    virtual void step(const MuonMatrix *matrices, long count, const MuonSettings &, Pool &) = 0;
};

}  // namespace fasternet
