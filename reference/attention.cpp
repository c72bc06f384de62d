// Attention over packed sequences on a CPU. What it saves: PyTorch's kernel wants a rectangle, or a call for each run
// of equal lengths; here each sequence and head is one piece of work, and no padding is computed but up to the next
// multiple of BLOCK. Products are oneDNN's (AMX where there is), as torch exports them.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace c10 {
struct BFloat16 {
  uint16_t bits;
};
}  // namespace c10
namespace at {
using c10::BFloat16;
}
namespace at::native::cpublas {
void brgemm(int64_t m, int64_t n, int64_t k, int64_t lda, int64_t ldb, int64_t ldc, bool add, const at::BFloat16* a,
            const at::BFloat16* b, float* c, bool is_vnni);
void brgemm(int64_t m, int64_t n, int64_t k, int64_t lda, int64_t ldb, int64_t ldc, bool add, const float* a,
            const float* b, float* c, bool is_vnni);
void brgemm_release(bool is_vnni);
}  // namespace at::native::cpublas
using at::BFloat16;
using at::native::cpublas::brgemm;

constexpr int64_t BLOCK = 32;  // keys are filled up to a multiple of it; queries go by two blocks at a time

static inline void store(float x, float* to) { *to = x; }
static inline void store(float x, BFloat16* to) {  // to nearest, ties to even
  uint32_t bits = std::bit_cast<uint32_t>(x);
  to->bits = uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// 2^x for x <= 0: the whole part goes into the exponent, a polynomial gives the rest to 1e-7.
static inline float exp2_negative(float x) {
  x = x > -126.0f ? x : -126.0f;
  float whole = std::nearbyint(x), t = x - whole;
  float p = 1.5403530e-4f;
  p = p * t + 1.3333558e-3f;
  p = p * t + 9.6181291e-3f;
  p = p * t + 5.5504109e-2f;
  p = p * t + 2.4022651e-1f;
  p = p * t + 6.9314718e-1f;
  p = p * t + 1.0f;
  return p * std::bit_cast<float>((int32_t(whole) + 127) << 23);
}

// The right factors of the products: keys transposed, [d, filled], and values, [filled, d]. In bfloat16 two rows of a
// factor lie side by side: [d / 2, filled, 2] and [filled / 2, d, 2].
static void lay_out(const float* k, const float* v, int64_t stride, int64_t length, int64_t filled, int64_t d,
                    float* __restrict keys, float* __restrict values) {
  for (int64_t i = 0; i < length; i++)
    for (int64_t j = 0; j < d; j++) {
      keys[j * filled + i] = k[i * stride + j];
      values[i * d + j] = v[i * stride + j];
    }
}
static void lay_out(const BFloat16* k, const BFloat16* v, int64_t stride, int64_t length, int64_t filled, int64_t d,
                    BFloat16* __restrict keys, BFloat16* __restrict values) {
  const uint32_t* pairs = reinterpret_cast<const uint32_t*>(k);
  uint32_t* __restrict columns = reinterpret_cast<uint32_t*>(keys);
  for (int64_t j = 0; j < d / 2; j++)
    for (int64_t i = 0; i < length; i++) columns[j * filled + i] = pairs[i * stride / 2 + j];
  for (int64_t i = 0; i + 1 < length; i += 2)
    for (int64_t j = 0; j < d; j++) {
      values[i * d + 2 * j] = v[i * stride + j];
      values[i * d + 2 * j + 1] = v[(i + 1) * stride + j];
    }
  for (int64_t j = 0; length % 2 && j < d; j++) values[(length - 1) * d + 2 * j] = v[(length - 1) * stride + j];
}

template <typename T>
struct Room {  // for one sequence and head
  std::vector<T> keys, values, queries, p;
  std::vector<float> scores, context, sums;
  Room(int64_t filled, int64_t d)
      : keys(filled * d), values(filled * d), queries(2 * BLOCK * d), p(2 * BLOCK * filled),
        scores(2 * BLOCK * filled), context(2 * BLOCK * d), sums(2 * BLOCK) {}
};

// exp((s - max) / sqrt(d)) of a row of scores, zero after ``length``; returns the sum.
template <typename T>
static float softmax(float* __restrict s, int64_t length, int64_t filled, float scale, T* __restrict p) {
  float top = s[0], sum = 0;
#pragma omp simd reduction(max : top)
  for (int64_t j = 0; j < length; j++) top = s[j] > top ? s[j] : top;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < length; j++) {
    s[j] = exp2_negative((s[j] - top) * scale);
    sum += s[j];
  }
  for (int64_t j = length; j < filled; j++) s[j] = 0;
  for (int64_t j = 0; j < filled; j++) store(s[j], p + j);
  return sum;
}

template <typename T>
static void one_head(const T* qkv, int64_t length, int64_t heads, int64_t d, T* out, Room<T>& room) {
  const int64_t stride = 3 * heads * d, filled = (length + BLOCK - 1) / BLOCK * BLOCK;
  const int64_t block = std::min(filled, 2 * BLOCK);
  const float scale = 1.4426950408889634f / std::sqrt(float(d));  // exp(x) = 2^(x log2 e)
  const bool pairs = sizeof(T) == 2;
  std::fill_n(room.keys.data(), filled * d, T{});
  std::fill_n(room.values.data(), filled * d, T{});
  lay_out(qkv + heads * d, qkv + 2 * heads * d, stride, length, filled, d, room.keys.data(), room.values.data());
  for (int64_t start = 0; start < length; start += block) {
    const int64_t rows = std::min(block, length - start);
    for (int64_t i = 0; i < rows; i++)
      std::memcpy(&room.queries[i * d], qkv + (start + i) * stride, d * sizeof(T));
    brgemm(block, filled, d, d, filled, filled, false, room.queries.data(), room.keys.data(), room.scores.data(),
           pairs);
    for (int64_t i = 0; i < rows; i++)
      room.sums[i] = softmax(&room.scores[i * filled], length, filled, scale, &room.p[i * filled]);
    brgemm(block, d, filled, filled, d, d, false, room.p.data(), room.values.data(), room.context.data(), pairs);
    for (int64_t i = 0; i < rows; i++) {
      const float* __restrict from = &room.context[i * d];
      T* __restrict to = out + (start + i) * heads * d;
      for (int64_t j = 0; j < d; j++) store(from[j] / room.sums[i], to + j);
    }
  }
}

template <typename T>
static void attention(const T* qkv, const int32_t* starts, int64_t sequences, int64_t longest, int64_t heads,
                      int64_t d, T* out) {
#pragma omp parallel
  {
    Room<T> room((longest + BLOCK - 1) / BLOCK * BLOCK, d);
#pragma omp for collapse(2) schedule(dynamic)
    for (int64_t i = 0; i < sequences; i++)
      for (int64_t head = 0; head < heads; head++)
        one_head(qkv + starts[i] * 3 * heads * d + head * d, starts[i + 1] - starts[i], heads, d,
                 out + starts[i] * heads * d + head * d, room);
    at::native::cpublas::brgemm_release(sizeof(T) == 2);
  }
}

extern "C" void attention_bf16(const void* qkv, const int32_t* starts, int64_t sequences, int64_t longest,
                               int64_t heads, int64_t d, void* out) {
  attention(static_cast<const BFloat16*>(qkv), starts, sequences, longest, heads, d, static_cast<BFloat16*>(out));
}
extern "C" void attention_fp32(const void* qkv, const int32_t* starts, int64_t sequences, int64_t longest,
                               int64_t heads, int64_t d, void* out) {
  attention(static_cast<const float*>(qkv), starts, sequences, longest, heads, d, static_cast<float*>(out));
}
