// Attention over packed sequences in bfloat16, on processors with AMX. What it saves: PyTorch's kernel wants a
// rectangle, or a call for each run of equal lengths, and asks oneDNN for products so small that the asking costs as
// much as they do. Here each sequence and head is one piece of work, 16 queries at a time, whose scores stay in the
// first cache, and no padding is computed but up to the next 32 keys.
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>

#define AMX __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bf16")))

constexpr int64_t ROWS = 16;  // of a tile, each of 64 bytes: 32 numbers in bfloat16, 16 in float32

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {ROWS, ROWS, ROWS, ROWS, ROWS, ROWS, ROWS};
};

// What one thread works in. The right factors of the products have two rows side by side, as tiles want them, so that
// one uint32_t holds a pair; ``filled`` is the length and more, up to a multiple of 32.
struct Room {
  std::unique_ptr<uint8_t[]> memory;
  uint32_t *keys, *values;   // [d / 2, filled] transposed, and [filled / 2, d]
  uint16_t *queries, *p;     // [ROWS, d] and [ROWS, filled]
  float *scores, *context;   // the same
  Room(int64_t filled, int64_t d) : memory(new uint8_t[4 * filled * d + (ROWS * 6) * (filled + d) + 7 * 64]) {
    uint8_t* free = memory.get();
    auto take = [&free](auto*& array, int64_t bytes) {
      uint8_t* start = free + (64 - uintptr_t(free) % 64) % 64;
      array = reinterpret_cast<std::remove_reference_t<decltype(array)>>(start);
      free = start + bytes;
    };
    take(keys, 2 * filled * d);
    take(values, 2 * filled * d);
    take(queries, 2 * ROWS * d);
    take(p, 2 * ROWS * filled);
    take(scores, 4 * ROWS * filled);
    take(context, 4 * ROWS * d);
  }
};

static void lay_out(const uint16_t* k, const uint16_t* v, int64_t stride, int64_t length, int64_t filled, int64_t d,
                    Room& room) {
  const uint32_t* pairs = reinterpret_cast<const uint32_t*>(k);
  for (int64_t j = 0; j < d / 2; j++) {
    uint32_t* __restrict to = room.keys + j * filled;
    for (int64_t i = 0; i < length; i++) to[i] = pairs[i * stride / 2 + j];
    std::fill(to + length, to + filled, 0);
  }
  for (int64_t i = 0; i < filled; i += 2) {
    const uint16_t *first = v + i * stride, *second = first + stride;
    uint32_t* __restrict to = room.values + i / 2 * d;
    if (i + 1 < length)
      for (int64_t j = 0; j < d; j++) to[j] = first[j] | uint32_t(second[j]) << 16;
    else
      for (int64_t j = 0; j < d; j++) to[j] = i < length ? first[j] : 0;
  }
}

// p = exp((s - max s) / sqrt(d)) of a row of scores, 0 from ``length`` on; returns the sum. ``scale`` is log2 e /
// sqrt(d), since exp(x) = 2^(x log2 e): whole powers go into the exponent, a polynomial gives the rest to 3e-6.
AMX static float softmax(const float* s, int64_t length, int64_t filled, float scale, uint16_t* p) {
  auto within = [length](int64_t j) -> __mmask16 {
    return length - j >= 16 ? 0xffff : length > j ? (1 << (length - j)) - 1 : 0;
  };
  __m512 top = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps();
  for (int64_t j = 0; j < length; j += 16) top = _mm512_mask_max_ps(top, within(j), top, _mm512_load_ps(s + j));
  const __m512 shift = _mm512_set1_ps(-_mm512_reduce_max_ps(top) * scale);
  for (int64_t j = 0; j < filled; j += 16) {
    const __m512 x = _mm512_fmadd_ps(_mm512_load_ps(s + j), _mm512_set1_ps(scale), shift);
    const __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT), t = _mm512_sub_ps(x, whole);
    __m512 y = _mm512_set1_ps(0.00956051021f);
    for (float coefficient : {0.0559170392f, 0.240249811f, 0.693121968f, 0.999999191f})
      y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(coefficient));
    y = _mm512_maskz_scalef_ps(within(j), y, whole);
    sum = _mm512_add_ps(sum, y);
    _mm256_store_si256(reinterpret_cast<__m256i*>(p + j), (__m256i)_mm512_cvtneps_pbh(y));
  }
  return _mm512_reduce_add_ps(sum);
}

// Both products: c[ROWS, 32 columns from ``c`` on] = a[ROWS, inner] b, with b in pairs of rows, [inner / 2, columns].
AMX static inline void product(const uint16_t* a, int64_t a_stride, const uint32_t* b, int64_t columns, int64_t inner,
                               float* c) {
  _tile_zero(0);
  _tile_zero(1);
  for (int64_t i = 0; i < inner; i += 32) {
    _tile_loadd(2, a + i, a_stride * 2);
    _tile_loadd(3, b + i / 2 * columns, columns * 4);
    _tile_loadd(4, b + i / 2 * columns + 16, columns * 4);
    _tile_dpbf16ps(0, 2, 3);
    _tile_dpbf16ps(1, 2, 4);
  }
  _tile_stored(0, c, columns * 4);
  _tile_stored(1, c + 16, columns * 4);
}

AMX static void one_head(const uint16_t* qkv, int64_t length, int64_t heads, int64_t d, uint16_t* out, Room& room) {
  const int64_t stride = 3 * heads * d, filled = (length + 31) / 32 * 32;
  const float scale = 1.4426950408889634f / std::sqrt(float(d));
  lay_out(qkv + heads * d, qkv + 2 * heads * d, stride, length, filled, d, room);
  for (int64_t start = 0; start < length; start += ROWS) {
    const int64_t rows = std::min(ROWS, length - start);
    const uint16_t* q = qkv + start * stride;
    if (rows < ROWS)  // a tile would be read beyond the end
      for (int64_t i = 0; i < rows; i++) std::memcpy(room.queries + i * d, q + i * stride, d * 2);
    for (int64_t j = 0; j < filled; j += 32)
      product(rows < ROWS ? room.queries : q, rows < ROWS ? d : stride, room.keys + j, filled, d, room.scores + j);
    float sums[ROWS];
    for (int64_t i = 0; i < rows; i++)
      sums[i] = softmax(room.scores + i * filled, length, filled, scale, room.p + i * filled);
    for (int64_t j = 0; j < d; j += 32) product(room.p, filled, room.values + j, d, filled, room.context + j);
    for (int64_t i = 0; i < rows; i++)
      for (int64_t j = 0; j < d; j += 16) {
        const __m512 mean = _mm512_div_ps(_mm512_load_ps(room.context + i * d + j), _mm512_set1_ps(sums[i]));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + (start + i) * heads * d + j),
                            (__m256i)_mm512_cvtneps_pbh(mean));
      }
  }
}

// Linux lets a process use AMX once it has asked. 0: it may.
extern "C" int64_t ask_for_tiles() { return syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18); }

// qkv [tokens, 3, heads, d] -> out [tokens, heads, d]; sequence i is tokens starts[i] to starts[i + 1]. d is a multiple
// of 32, ``longest`` the length of the longest sequence.
extern "C" AMX void attention(const uint16_t* qkv, const int32_t* starts, int64_t sequences, int64_t longest,
                              int64_t heads, int64_t d, uint16_t* out) {
#pragma omp parallel
  {
    const TileConfig config;
    _tile_loadconfig(&config);
    Room room((longest + 31) / 32 * 32, d);
#pragma omp for collapse(2) schedule(dynamic)
    for (int64_t i = 0; i < sequences; i++)
      for (int64_t head = 0; head < heads; head++)
        one_head(qkv + starts[i] * 3 * heads * d + head * d, starts[i + 1] - starts[i], heads, d,
                 out + starts[i] * heads * d + head * d, room);
    _tile_release();
  }
}
