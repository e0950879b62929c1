// A FasterNet in training as native.py describes it: from the images to the last stage's map. All arrays are float32 in
// Paddle's layouts; null where the network has no such part.
#pragma once
#include "../common/threads.h"

namespace fasternet {

enum TrainAct { TRAIN_NONE, TRAIN_RELU, TRAIN_GELU };
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
    int step, overlap;    // of the patches that the embedding before the stage takes, step + 2 overlap pixels wide
    const float *weight;  // of the embedding: [dim, channels before, step + 2 overlap, step + 2 overlap]
    TrainNorm norm;
    float *d_weight;
    const TrainBlock *blocks;
};
struct TrainNetwork {
    int channels, stage_count, act, embed_act;
    float epsilon, momentum;
    const TrainStage *stages;
};
struct Batch {
    const float *images;  // [count, channels, height, width]
    long count, height, width;
};

// One forward pass and what its backward pass needs of it.
class Pass {
public:
    virtual ~Pass() {}
    // map: [count, dim, h, w] of the last stage. Throws std::bad_alloc.
    virtual void forward(const TrainNetwork &, const Batch &, float *map, Pool &) = 0;
    virtual void backward(const TrainNetwork &, const Batch &, const float *d_map, Pool &) = 0;
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

// What an instruction set offers.
struct Training {
    Pass *(*new_pass)();
    Muon *(*new_muon)();
};
extern const Training training_bf16_amx, training_bf16_avx512, training_fp32_avx512, training_fp32_avx2,
    training_fp32_plain;

}  // namespace fasternet
