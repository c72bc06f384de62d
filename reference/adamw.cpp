// AdamW of weights that a model has in bfloat16 while they are learned in float32: all of a step in one pass.
//
// What it saves, next to autocast with torch's own: weights need no rounding before each product, gradients stay as the
// products leave them until they are used, and clipping is a factor instead of a pass of its own. That matters most
// where batches have few tokens.
#include <omp.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

using bf16 = uint16_t;

constexpr int64_t PIECE = 16384;  // numbers that a thread takes at a time; sums are of these, whatever the threads

// What the caller fills in (adamw.py).
struct Weight {
  float *master, *mean, *square;  // mean and square: the moving averages of the gradient and of its square
  bf16* rounded;                  // the master as the model has it; null where the model has the master itself
  const void* gradient;           // in bfloat16 where there is `rounded`, otherwise in float32
  int64_t size;
  float rate, decay;
};

// What adamw.py checks: the size of the struct, and where its fields are.
struct Place {
  const char* name;  // of a field; null at the end
  int64_t number;
};
#define AT(FIELD) {#FIELD, offsetof(Weight, FIELD)}
extern "C" const Place layout[] = {{"size", sizeof(Weight)}, AT(master), AT(mean),  AT(square), AT(rounded),
                                   AT(gradient),             AT(size),   AT(rate),  AT(decay),  {nullptr, 0}};

struct Piece {
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

static std::vector<Piece> cut(const Weight* weights, int64_t count) {
  std::vector<Piece> pieces;
  for (const Weight* each = weights; each != weights + count; ++each)
    for (int64_t start = 0; start < each->size; start += PIECE)
      pieces.push_back({each, start, std::min(start + PIECE, each->size)});
  return pieces;
}

template <typename Number>
static double squares(const Number* gradient, int64_t start, int64_t end) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = start; i < end; ++i) sum += double(widen(gradient[i])) * widen(gradient[i]);
  return sum;
}

struct Rates {
  float mean, square, epsilon, correction, root, factor;
};

template <typename Number>
static void learn(const Weight& weight, const Number* __restrict gradient, int64_t start, int64_t end, Rates rates) {
  const float kept = 1 - weight.rate * weight.decay, length = weight.rate / rates.correction;
  float *__restrict master = weight.master, *__restrict mean = weight.mean, *__restrict square = weight.square;
  bf16* __restrict rounded = weight.rounded;
  for (int64_t i = start; i < end; ++i) {
    const float slope = widen(gradient[i]) * rates.factor;
    mean[i] += (1 - rates.mean) * (slope - mean[i]);
    square[i] = rates.square * square[i] + (1 - rates.square) * slope * slope;
    master[i] = kept * master[i] - length * mean[i] / (std::sqrt(square[i]) * rates.root + rates.epsilon);
    if constexpr (sizeof(Number) == sizeof(bf16)) rounded[i] = round(master[i]);
  }
}

// The norm of all gradients together.
extern "C" double norm(const Weight* weights, int64_t count, int64_t threads) {
  const auto pieces = cut(weights, count);
  std::vector<double> sums(pieces.size());
#pragma omp parallel for num_threads(threads) schedule(static)
  for (size_t i = 0; i < pieces.size(); ++i) {
    const auto& [weight, start, end] = pieces[i];
    sums[i] = weight->rounded ? squares(static_cast<const bf16*>(weight->gradient), start, end)
                              : squares(static_cast<const float*>(weight->gradient), start, end);
  }
  double sum = 0;
  for (double each : sums) sum += each;
  return std::sqrt(sum);
}

// One step, the `number`th from 1; gradients are multiplied by `factor` first.
extern "C" void step(const Weight* weights, int64_t count, int64_t number, double mean, double square, double epsilon,
                     double factor, int64_t threads) {
  const Rates rates = {float(mean), float(square), float(epsilon), float(1 - std::pow(mean, number)),
                       float(1 / std::sqrt(1 - std::pow(square, number))), float(factor)};
  const auto pieces = cut(weights, count);
#pragma omp parallel for num_threads(threads) schedule(static)
  for (size_t i = 0; i < pieces.size(); ++i) {
    const auto& [weight, start, end] = pieces[i];
    if (weight->rounded)
      learn(*weight, static_cast<const bf16*>(weight->gradient), start, end, rates);
    else
      learn(*weight, static_cast<const float*>(weight->gradient), start, end, rates);
  }
}
