// AdamW in mixed precision: the model computes with weights in bfloat16, the optimizer updates float32 master weights.
// A step is one pass over memory.
//
// Compared with autocast and torch's AdamW, it saves rounding the weights before each product, converting the gradients
// to float32, and a pass for clipping, which is a factor here. That matters most for batches of few tokens.
#include <omp.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

using bf16 = uint16_t;

constexpr int64_t CHUNK = 16384;  // elements; partial sums are per chunk, so results do not depend on the threads

// Filled in by adamw.py.
struct Weight {
  float *master, *exp_avg, *exp_avg_sq;  // moving averages of the gradient and of its square
  bf16* rounded;                         // the model's copy of the master; null if the model uses the master itself
  const void* gradient;                  // bfloat16 if there is `rounded`, else float32
  int64_t size;
  float lr, weight_decay;
};

// The size of the struct and the offsets of its fields, which adamw.py compares with its own.
struct LayoutEntry {
  const char* name;  // null at the end
  int64_t value;
};
#define FIELD(NAME) {#NAME, offsetof(Weight, NAME)}
extern "C" const LayoutEntry layout[] = {
    {"size", sizeof(Weight)}, FIELD(master), FIELD(exp_avg), FIELD(exp_avg_sq),   FIELD(rounded),
    FIELD(gradient),          FIELD(size),   FIELD(lr),      FIELD(weight_decay), {nullptr, 0}};

struct Chunk {
  const Weight* weight;
  int64_t start, end;
};

static float widen(bf16 x) { return std::bit_cast<float>(uint32_t(x) << 16); }
static float widen(float x) { return x; }

static bf16 round(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t nearest = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  return x == x ? bf16(nearest) : bf16(0x7fc0);
}

static std::vector<Chunk> split(const Weight* weights, int64_t count) {
  std::vector<Chunk> chunks;
  for (const Weight* each = weights; each != weights + count; ++each)
    for (int64_t start = 0; start < each->size; start += CHUNK)
      chunks.push_back({each, start, std::min(start + CHUNK, each->size)});
  return chunks;
}

template <typename Number>
static double sum_of_squares(const Number* gradient, int64_t start, int64_t end) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = start; i < end; ++i) sum += double(widen(gradient[i])) * widen(gradient[i]);
  return sum;
}

struct Hyperparameters {
  float beta1, beta2, epsilon;
  float bias_correction1, inverse_root2;  // 1 - beta1^t, and 1 / sqrt(1 - beta2^t)
  float gradient_scale;                   // clips the norm
};

template <typename Number>
static void update(const Weight& weight, const Number* __restrict gradient, int64_t start, int64_t end,
                   Hyperparameters with) {
  const float decay = 1 - weight.lr * weight.weight_decay, step_size = weight.lr / with.bias_correction1;
  float *__restrict master = weight.master, *__restrict mean = weight.exp_avg, *__restrict square = weight.exp_avg_sq;
  bf16* __restrict rounded = weight.rounded;
  for (int64_t i = start; i < end; ++i) {
    const float g = widen(gradient[i]) * with.gradient_scale;
    mean[i] += (1 - with.beta1) * (g - mean[i]);
    square[i] = with.beta2 * square[i] + (1 - with.beta2) * g * g;
    master[i] = decay * master[i] - step_size * mean[i] / (std::sqrt(square[i]) * with.inverse_root2 + with.epsilon);
    if constexpr (sizeof(Number) == sizeof(bf16)) rounded[i] = round(master[i]);
  }
}

// The norm of all gradients, as one vector.
extern "C" double norm(const Weight* weights, int64_t count, int64_t threads) {
  const auto chunks = split(weights, count);
  std::vector<double> sums(chunks.size());
#pragma omp parallel for num_threads(threads) schedule(static)
  for (size_t i = 0; i < chunks.size(); ++i) {
    const auto& [weight, start, end] = chunks[i];
    sums[i] = weight->rounded ? sum_of_squares(static_cast<const bf16*>(weight->gradient), start, end)
                              : sum_of_squares(static_cast<const float*>(weight->gradient), start, end);
  }
  double sum = 0;
  for (double each : sums) sum += each;
  return std::sqrt(sum);
}

// Step number t, counted from 1. Gradients are multiplied by `gradient_scale` first.
extern "C" void step(const Weight* weights, int64_t count, int64_t t, double beta1, double beta2, double epsilon,
                     double gradient_scale, int64_t threads) {
  const Hyperparameters with = {float(beta1), float(beta2), float(epsilon), float(1 - std::pow(beta1, t)),
                                float(1 / std::sqrt(1 - std::pow(beta2, t))), float(gradient_scale)};
  const auto chunks = split(weights, count);
#pragma omp parallel for num_threads(threads) schedule(static)
  for (size_t i = 0; i < chunks.size(); ++i) {
    const auto& [weight, start, end] = chunks[i];
    if (weight->rounded)
      update(*weight, static_cast<const bf16*>(weight->gradient), start, end, with);
    else
      update(*weight, static_cast<const float*>(weight->gradient), start, end, with);
  }
}
