// Attention over packed sequences on a CPU. What it saves: PyTorch's kernel wants a rectangle, or a call for each run
// of equal lengths; here each sequence and head is one piece of work, its scores never leave the first cache, and no
// padding is computed but up to the next multiple of BLOCK. Products are oneDNN's (AMX where there is), as torch exports them.
#include <algorithm>
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

constexpr int64_t BLOCK = 32;  // queries at a time; keys are filled up to a multiple of it

static inline float to_float(float x) { return x; }
static inline float to_float(BFloat16 x) {
  uint32_t bits = uint32_t(x.bits) << 16;
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}
static inline void store(float x, float* to) { *to = x; }
static inline void store(float x, BFloat16* to) {  // to nearest, ties to even
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  to->bits = uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// 2^x for x <= 0: the whole part goes into the exponent, a polynomial gives the rest to 1e-7.
static inline float exp2_negative(float x) {
  x = std::max(x, -126.0f);
  float whole = std::nearbyint(x), t = x - whole;
  float p = 1.5403530e-4f;
  p = p * t + 1.3333558e-3f;
  p = p * t + 9.6181291e-3f;
  p = p * t + 5.5504109e-2f;
  p = p * t + 2.4022651e-1f;
  p = p * t + 6.9314718e-1f;
  p = p * t + 1.0f;
  int32_t bits = (int32_t(whole) + 127) << 23;
  float power;
  std::memcpy(&power, &bits, 4);
  return p * power;
}

// Pairs of rows side by side, as products in bfloat16 want their right factor; in float32 the rows as they are.
template <typename T>
constexpr int64_t PAIR = sizeof(T) == 2 ? 2 : 1;
template <typename T>
static inline int64_t place(int64_t row, int64_t column, int64_t columns) {
  return row / PAIR<T> * columns * PAIR<T> + column * PAIR<T> + row % PAIR<T>;
}

template <typename T>
struct Room {  // for one sequence and head
  std::vector<T> keys, values, queries, p;
  std::vector<float> scores, context, sums;
  Room(int64_t longest, int64_t d)
      : keys(longest * d), values(longest * d), queries(BLOCK * d), p(BLOCK * longest), scores(BLOCK * longest),
        context(BLOCK * d), sums(BLOCK) {}
};

template <typename T>
static void one_head(const T* qkv, int64_t length, int64_t heads, int64_t d, T* out, Room<T>& room) {
  const int64_t stride = 3 * heads * d, filled = (length + BLOCK - 1) / BLOCK * BLOCK;
  const T *k = qkv + heads * d, *v = qkv + 2 * heads * d;
  const float scale = 1.4426950408889634f / std::sqrt(float(d));  // exp(x) = 2^(x log2 e)
  T *__restrict keys = room.keys.data(), *__restrict values = room.values.data(), *__restrict p = room.p.data();
  std::fill_n(keys, filled * d, T{});
  std::fill_n(values, filled * d, T{});
  for (int64_t i = 0; i < length; i++)
    for (int64_t j = 0; j < d; j++) {
      keys[place<T>(j, i, filled)] = k[i * stride + j];
      values[place<T>(i, j, d)] = v[i * stride + j];
    }
  for (int64_t start = 0; start < length; start += BLOCK) {
    const int64_t rows = std::min(BLOCK, length - start);
    for (int64_t i = 0; i < rows; i++)
      std::memcpy(&room.queries[i * d], qkv + (start + i) * stride, d * sizeof(T));
    brgemm(BLOCK, filled, d, d, filled, filled, false, room.queries.data(), keys, room.scores.data(), PAIR<T> == 2);
    for (int64_t i = 0; i < rows; i++) {
      float* __restrict s = room.scores.data() + i * filled;
      float top = s[0], sum = 0;
      for (int64_t j = 0; j < length; j++) top = std::max(top, s[j]);
      for (int64_t j = 0; j < length; j++) {
        s[j] = exp2_negative((s[j] - top) * scale);
        sum += s[j];
      }
      room.sums[i] = 1 / sum;
      for (int64_t j = length; j < filled; j++) s[j] = 0;
      for (int64_t j = 0; j < filled; j++) store(s[j], p + i * filled + j);
    }
    brgemm(BLOCK, d, filled, filled, d, d, false, p, values, room.context.data(), PAIR<T> == 2);
    for (int64_t i = 0; i < rows; i++)
      for (int64_t j = 0; j < d; j++)
        store(room.context[i * d + j] * room.sums[i], out + (start + i) * heads * d + j);
  }
}

template <typename T>
static void attention(const T* qkv, const int32_t* starts, int64_t sequences, int64_t longest, int64_t heads,
                      int64_t d, T* out) {
#pragma omp parallel
  {
    Room<T> room((longest + BLOCK - 1) / BLOCK * BLOCK, d);
#pragma omp for collapse(2) schedule(dynamic, 4)
    for (int64_t i = 0; i < sequences; i++)
      for (int64_t head = 0; head < heads; head++)
        one_head(qkv + starts[i] * 3 * heads * d + head * d, starts[i + 1] - starts[i], heads, d,
                 out + starts[i] * heads * d + head * d, room);
    at::native::cpublas::brgemm_release(PAIR<T> == 2);
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
