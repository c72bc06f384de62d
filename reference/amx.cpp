// BERT's layers for inference, in bfloat16 or int8, on processors with AMX: all of them in one call.
//
// What it saves:
// - Each thread takes some sequences, about 256 tokens, through all layers: what is made of them stays in its second
//   cache. Where there are too few for all threads, these share out the columns of each product instead.
// - What follows a product (bias, gelu, residual) is computed while the tile unit works on the next block of it, and
//   weights are fetched ahead of their use.
// - In attention each sequence and head is one piece of work, 16 queries at a time, whose scores stay in the first
//   cache; no padding is computed but up to the next 32 keys, and none elsewhere but up to 32 tokens of each group.
//
// Rows that are the left factor of a product are kept in tiles, [rows / 16][columns / K][16][K] with K numbers in 64
// bytes: row after row, the 16 rows of a block would fall on a few places of the first cache and drive each other out.
#include <immintrin.h>
#include <omp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

using bf16 = uint16_t;

constexpr int64_t BLOCK = 32;  // rows, and columns, of what is multiplied at a time: two tiles by two
constexpr int64_t MOST = 256;  // rows at a time, so that all that is made of them stays in the second cache
constexpr int64_t CHUNK = 12;  // steps of 64 bytes along the inner dimension, so that weights stay in the first cache
constexpr double ALONE = 1.3;  // how much faster threads are on groups of their own than on the same, if all have work

// What the callers fill in (amx.py).
struct Linear {
  const void* tiles;   // [outputs / 32][inputs / K][2][16][16][4 bytes]
  const float *scale;  // of each output, for int8
  const float *bias;
  int64_t inputs, outputs;
};
struct Norm {
  const float *gain, *shift;
  float epsilon;
};
struct Layer {
  Linear qkv, output, up, down;
  Norm attention_norm, output_norm;
};

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// Memory on a border of 64 bytes.
template <typename T>
class Array {
  std::unique_ptr<uint8_t[]> memory;
  T* start;

 public:
  explicit Array(int64_t count)
      : memory(new uint8_t[count * sizeof(T) + 64]), start((T*)((uintptr_t(memory.get()) + 63) / 64 * 64)) {}
  operator T*() { return start; }
};

// Who of those that work together this is.
struct Share {
  int64_t part = 0, parts = 1;
  int64_t from(int64_t count) const { return count * part / parts; }
  int64_t to(int64_t count) const { return count * (part + 1) / parts; }
  void wait() const {
    if (parts > 1) {
#pragma omp barrier
    }
  }
};

static inline __m512 load(const bf16* p) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16));
}
static inline void store(bf16* p, __m512 x) { _mm256_storeu_si256((__m256i*)p, (__m256i)_mm512_cvtneps_pbh(x)); }

// Where a number is in tiles of so many columns.
template <typename T>
static inline int64_t place(int64_t row, int64_t column, int64_t columns) {
  constexpr int64_t K = 64 / sizeof(T);
  return (row / 16 * (columns / K) + column / K) * 16 * K + row % 16 * K + column % K;
}

// Tile loads do not tell gcc that they read memory: what they are to read has to be written before.
static inline void in_memory() { asm volatile("" ::: "memory"); }

// x Phi(x): Phi - 1/2 is odd, and beyond 4.2 as good as 1/2; the polynomial in x^2 is within 3e-5 of it.
static inline __m512 gelu(__m512 x) {
  const __m512 z = _mm512_max_ps(_mm512_min_ps(x, _mm512_set1_ps(4.2f)), _mm512_set1_ps(-4.2f));
  const __m512 t = _mm512_mul_ps(z, z);
  __m512 p = _mm512_set1_ps(4.8755544740375356e-11f);
  for (float c : {-4.760268623726915e-09f, 2.0619134488697455e-07f, -5.273177976050647e-06f, 8.9696841314435e-05f,
                  -0.0010858481982722878f, 0.009739890694618225f, -0.06622260063886642f, 0.39883676171302795f})
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(c));
  return _mm512_mul_ps(x, _mm512_fmadd_ps(z, p, _mm512_set1_ps(0.5f)));
}

// x w^T + b for this share of the columns. ``follow(row, column, y)`` gets 16 numbers at a time, once for each.
template <typename T, typename F>
static inline void product(const T* x, const float* x_scale, int64_t rows, const Linear& w, Share share, F follow) {
  constexpr int64_t K = 64 / sizeof(T), TILE = 16 * K;
  const int64_t steps = w.inputs / K, blocks = w.outputs / BLOCK;
  const int64_t lines = (32 * BLOCK + rows - 1) / rows;  // of the 32 of a step, to be fetched ahead with each rows
  alignas(64) float sums[MOST * BLOCK];
  int64_t row = 0, end = 0, column = 0;  // whose sums are complete, and wait for what follows
  in_memory();
  auto follow_some = [&](int64_t count) {
    for (const int64_t stop = std::min(end, row + count); row < stop; row++)
      for (int64_t j = 0; j < BLOCK; j += 16) {
        const float* sum = sums + row * BLOCK + j;
        const __m512 bias = _mm512_loadu_ps(w.bias + column + j);
        if constexpr (K == 32) {
          follow(row, column + j, _mm512_add_ps(_mm512_load_ps(sum), bias));
        } else {
          const __m512 scale = _mm512_mul_ps(_mm512_set1_ps(x_scale[row]), _mm512_loadu_ps(w.scale + column + j));
          follow(row, column + j, _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_load_si512(sum)), scale, bias));
        }
      }
  };
  // For each 32 of the outputs, some steps at a time, all rows; then the weights of these steps stay in the first cache.
  for (int64_t n = share.from(blocks); n < share.to(blocks); n++)
    for (int64_t first = 0; first < steps; first += CHUNK) {
      const int64_t last = std::min(steps, first + CHUNK), each = (BLOCK + last - first - 1) / (last - first);
      for (int64_t m = 0; m < rows; m += BLOCK) {
        float* sum = sums + m * BLOCK;
        if (first == 0) {
          _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
        } else {
          _tile_loadd(0, sum, 128); _tile_loadd(1, sum + 16, 128);
          _tile_loadd(2, sum + 512, 128); _tile_loadd(3, sum + 528, 128);
        }
        const T *above = x + m / 16 * steps * TILE, *below = above + steps * TILE;
        const T *weights = (const T*)w.tiles + n * BLOCK * w.inputs, *next = weights + 2 * last * TILE;
        for (int64_t k = first; k < last; k++) {
          for (int64_t line = m / BLOCK * lines; line < std::min<int64_t>(32, (m / BLOCK + 1) * lines); line++)
            _mm_prefetch((const char*)(next + 2 * (k - first) * TILE) + 64 * line, _MM_HINT_T1);
          _tile_loadd(4, above + k * TILE, 64);
          _tile_loadd(6, weights + 2 * k * TILE, 64);
          _tile_loadd(7, weights + (2 * k + 1) * TILE, 64);
          _tile_loadd(5, below + k * TILE, 64);
          if constexpr (K == 32) {
            _tile_dpbf16ps(0, 4, 6); _tile_dpbf16ps(1, 4, 7); _tile_dpbf16ps(2, 5, 6); _tile_dpbf16ps(3, 5, 7);
          } else {
            _tile_dpbssd(0, 4, 6); _tile_dpbssd(1, 4, 7); _tile_dpbssd(2, 5, 6); _tile_dpbssd(3, 5, 7);
          }
          follow_some(each);
        }
        _tile_stored(0, sum, 128); _tile_stored(1, sum + 16, 128);
        _tile_stored(2, sum + 512, 128); _tile_stored(3, sum + 528, 128);
        if (last == steps) row = m, end = m + BLOCK, column = n * BLOCK;
      }
    }
  follow_some(BLOCK);
}

// LayerNorm of a row of sums, to its place in tiles.
static void norm(const float* x, int64_t n, const Norm& w, bf16* out, int64_t row) {
  __m512 sum = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
  for (int64_t j = 0; j < n; j += 16) sum = _mm512_add_ps(sum, _mm512_load_ps(x + j));
  const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / n);
  for (int64_t j = 0; j < n; j += 16) {
    const __m512 d = _mm512_sub_ps(_mm512_load_ps(x + j), mean);
    squares = _mm512_fmadd_ps(d, d, squares);
  }
  const __m512 factor = _mm512_set1_ps(1 / std::sqrt(_mm512_reduce_add_ps(squares) / n + w.epsilon));
  for (int64_t j = 0; j < n; j += 16) {
    const __m512 d = _mm512_mul_ps(_mm512_sub_ps(_mm512_load_ps(x + j), mean), factor);
    store(out + place<bf16>(row, j, n), _mm512_fmadd_ps(d, _mm512_loadu_ps(w.gain + j), _mm512_loadu_ps(w.shift + j)));
  }
}

// A row as int8, -127 to 127, and what one of its steps is worth: NaN where the row has one.
static float quantise(const bf16* x, int64_t n, int64_t row, int8_t* out) {
  __m512 top = _mm512_set1_ps(1e-12f);
  __mmask16 unordered = 0;
  for (int64_t j = 0; j < n; j += 16) {
    const __m512 y = load(x + place<bf16>(row, j, n));
    top = _mm512_max_ps(top, _mm512_abs_ps(y));
    unordered |= _mm512_cmp_ps_mask(y, y, _CMP_UNORD_Q);
  }
  const float largest = unordered ? NAN : _mm512_reduce_max_ps(top);
  const __m512 steps = _mm512_set1_ps(127 / largest);
  for (int64_t j = 0; j < n; j += 16) {
    const __m512i y = _mm512_cvtps_epi32(_mm512_mul_ps(load(x + place<bf16>(row, j, n)), steps));
    _mm_storeu_si128((__m128i*)(out + place<int8_t>(row, j, n)), _mm512_cvtsepi32_epi8(y));
  }
  return largest / 127;
}

// What is made of some sequences: by layer, and, at most MOST rows at a time, by the steps of one.
template <typename T>
struct Room {
  Array<bf16> hidden, qkv, context;
  Array<float> sums, scale;
  Array<bf16> middle, wide;
  Array<T> quantised;
  Room(int64_t rows, int64_t h, int64_t columns, int64_t some)
      : hidden(rows * h), qkv(rows * 3 * h), context(rows * h), sums(some * h), scale(some), middle(some * h),
        wide(some * columns), quantised(sizeof(T) == 1 ? some * std::max(h, columns) : 0) {}
  Room(int64_t rows, const Layer& layer)
      : Room(rows, layer.output.outputs, layer.up.outputs, std::min(rows, MOST)) {}

  // The rows as a left factor.
  const T* factor(const bf16* x, int64_t columns, int64_t rows, Share share) {
    if constexpr (sizeof(T) == 2) {
      return x;
    } else {
      for (int64_t r = share.from(rows); r < share.to(rows); r++) scale[r] = quantise(x, columns, r, quantised);
      share.wait();
      return quantised;
    }
  }
};

template <typename T>
static void project(const Linear& w, const bf16* hidden, bf16* qkv, int64_t rows, Room<T>& room, Share share) {
  const T* x = room.factor(hidden, w.inputs, rows, share);
  product(x, room.scale, rows, w, share, [&](int64_t r, int64_t c, __m512 y) { store(qkv + r * w.outputs + c, y); });
  share.wait();
}

// From attention's context to the layer's output, which takes the place of its input in ``hidden``.
template <typename T>
static void rest_of_layer(const Layer& w, const bf16* context, bf16* hidden, int64_t rows, Room<T>& room, Share share) {
  const int64_t h = w.output.outputs;
  auto add_to = [&](const bf16* residual) {
    return [&room, residual, h](int64_t r, int64_t c, __m512 y) {
      _mm512_store_ps(room.sums + r * h + c, _mm512_add_ps(y, load(residual + place<bf16>(r, c, h))));
    };
  };
  auto norm_all = [&](const Norm& how, bf16* out) {
    share.wait();
    for (int64_t r = share.from(rows); r < share.to(rows); r++) norm(room.sums + r * h, h, how, out, r);
    share.wait();
  };
  product(room.factor(context, h, rows, share), room.scale, rows, w.output, share, add_to(hidden));
  norm_all(w.attention_norm, room.middle);
  product(room.factor(room.middle, h, rows, share), room.scale, rows, w.up, share,
          [&](int64_t r, int64_t c, __m512 y) { store(room.wide + place<bf16>(r, c, w.up.outputs), gelu(y)); });
  share.wait();
  product(room.factor(room.wide, w.down.inputs, rows, share), room.scale, rows, w.down, share, add_to(room.middle));
  norm_all(w.output_norm, hidden);
}

// What attention works in. The right factors of its products have two rows side by side, as tiles want them, so that
// one uint32_t holds a pair; ``filled`` is the length and more, up to a multiple of 32.
struct AttentionRoom {
  Array<uint32_t> keys, values;  // [d / 2, filled] transposed, and [filled / 2, d]
  Array<bf16> queries, p;        // [16, d] and [16, filled]
  Array<float> scores, context;  // the same
  AttentionRoom(int64_t filled, int64_t d)
      : keys(filled * d / 2), values(filled * d / 2), queries(16 * d), p(16 * filled), scores(16 * filled),
        context(16 * d) {}
};

// The first lanes of a vector that are below ``length`` when the first of all is number ``j``.
static inline __mmask16 within(int64_t length, int64_t j) {
  return length - j >= 16 ? 0xffff : length > j ? (1 << (length - j)) - 1 : 0;
}

static void lay_out(const bf16* k, const bf16* v, int64_t stride, int64_t length, int64_t filled, int64_t d,
                    AttentionRoom& room) {
  const __m512i rows = _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                                          _mm512_set1_epi32(stride / 2));
  for (int64_t i = 0; i < filled; i += 16)
    for (int64_t j = 0; j < d / 2; j++)
      _mm512_store_si512(room.keys + j * filled + i,
                         _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), within(length, i), rows,
                                                     (const int*)(k + i * stride) + j, 4));
  for (int64_t i = 0; i < filled; i += 2) {
    const bf16 *first = v + i * stride, *second = first + stride;
    uint32_t* __restrict to = room.values + i / 2 * d;
    if (i + 1 < length)
      for (int64_t j = 0; j < d; j++) to[j] = first[j] | uint32_t(second[j]) << 16;
    else
      for (int64_t j = 0; j < d; j++) to[j] = i < length ? first[j] : 0;
  }
}

// p = exp((s - max s) / sqrt(d)) of a row of scores, 0 from ``length`` on; returns the sum. ``scale`` is log2 e /
// sqrt(d), since exp(x) = 2^(x log2 e): whole powers go into the exponent, a polynomial gives the rest to 3e-6.
static float softmax(const float* s, int64_t length, int64_t filled, float scale, bf16* p) {
  __m512 top = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps();
  for (int64_t j = 0; j < length; j += 16) top = _mm512_mask_max_ps(top, within(length, j), top, _mm512_load_ps(s + j));
  const __m512 shift = _mm512_set1_ps(-_mm512_reduce_max_ps(top) * scale);
  for (int64_t j = 0; j < filled; j += 16) {
    const __m512 x = _mm512_fmadd_ps(_mm512_load_ps(s + j), _mm512_set1_ps(scale), shift);
    const __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT), t = _mm512_sub_ps(x, whole);
    __m512 y = _mm512_set1_ps(0.00956051021f);
    for (float coefficient : {0.0559170392f, 0.240249811f, 0.693121968f, 0.999999191f})
      y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(coefficient));
    y = _mm512_maskz_scalef_ps(within(length, j), y, whole);
    sum = _mm512_add_ps(sum, y);
    store(p + j, y);
  }
  return _mm512_reduce_add_ps(sum);
}

// c[16, 64 or 32 of the columns] = a[16, inner] b, with b in pairs of rows, [inner / 2, columns].
template <int64_t SOME>
static inline void small_product(const bf16* a, int64_t a_stride, const uint32_t* b, int64_t columns, int64_t inner,
                                 float* c) {
  _tile_zero(0); _tile_zero(1);
  if constexpr (SOME == 64) { _tile_zero(2); _tile_zero(3); }
  for (int64_t i = 0; i < inner; i += 32, b += 16 * columns) {
    _tile_loadd(4, a + i, a_stride * 2);
    _tile_loadd(5, b, columns * 4); _tile_loadd(6, b + 16, columns * 4);
    _tile_dpbf16ps(0, 4, 5); _tile_dpbf16ps(1, 4, 6);
    if constexpr (SOME == 64) {
      _tile_loadd(7, b + 32, columns * 4); _tile_loadd(5, b + 48, columns * 4);
      _tile_dpbf16ps(2, 4, 7); _tile_dpbf16ps(3, 4, 5);
    }
  }
  _tile_stored(0, c, columns * 4); _tile_stored(1, c + 16, columns * 4);
  if constexpr (SOME == 64) { _tile_stored(2, c + 32, columns * 4); _tile_stored(3, c + 48, columns * 4); }
}

// All columns of both products of attention: a multiple of 32.
static inline void small_product(const bf16* a, int64_t a_stride, const uint32_t* b, int64_t columns, int64_t inner,
                                 float* c) {
  in_memory();
  int64_t j = 0;
  for (; j + 64 <= columns; j += 64) small_product<64>(a, a_stride, b + j, columns, inner, c + j);
  if (j < columns) small_product<32>(a, a_stride, b + j, columns, inner, c + j);
}

// One head of one sequence: ``qkv`` is where its first query is; its context goes to tiles of ``out`` from ``row`` and
// ``column`` on.
static void attention(const bf16* qkv, int64_t length, int64_t h, int64_t d, bf16* out, int64_t row, int64_t column,
                      AttentionRoom& room) {
  const int64_t stride = 3 * h, filled = (length + 31) / 32 * 32;
  const float scale = 1.4426950408889634f / std::sqrt(float(d));
  lay_out(qkv + h, qkv + 2 * h, stride, length, filled, d, room);
  for (int64_t start = 0; start < length; start += 16) {
    const int64_t rows = std::min<int64_t>(16, length - start);
    const bf16* q = qkv + start * stride;
    if (rows < 16)  // a tile would be read beyond the end
      for (int64_t i = 0; i < rows; i++) std::memcpy(room.queries + i * d, q + i * stride, d * 2);
    small_product(rows < 16 ? room.queries : q, rows < 16 ? d : stride, room.keys, filled, d, room.scores);
    float sums[16];
    for (int64_t i = 0; i < rows; i++)
      sums[i] = softmax(room.scores + i * filled, length, filled, scale, room.p + i * filled);
    small_product(room.p, filled, room.values, d, filled, room.context);
    for (int64_t i = 0; i < rows; i++)
      for (int64_t j = 0; j < d; j += 16)
        store(out + place<bf16>(row + start + i, column + j, h),
              _mm512_div_ps(_mm512_load_ps(room.context + i * d + j), _mm512_set1_ps(sums[i])));
  }
}

static inline int64_t whole_blocks(int64_t rows) { return (rows + BLOCK - 1) / BLOCK * BLOCK; }

// Some sequences through all layers, by one thread alone or by several that share out the columns of each product.
template <typename T>
static void through_layers(const Layer* layers, int64_t count, int64_t heads, const bf16* embedded,
                           const int32_t* starts, int64_t sequences, Room<T>& room, AttentionRoom& attention_room,
                           Share share, bf16* out) {
  const int64_t h = layers->output.outputs, d = h / heads, tokens = starts[sequences] - starts[0];
  const int64_t rows = whole_blocks(tokens), pairs = sequences * heads;
  embedded += starts[0] * h, out += starts[0] * h;
  for (int64_t r = share.from(rows); r < share.to(rows); r++)
    for (int64_t j = 0; j < h; j += 32) {
      bf16* to = room.hidden + place<bf16>(r, j, h);
      r < tokens ? std::memcpy(to, embedded + r * h + j, 64) : std::memset(to, 0, 64);  // the last rows are nobody's
      if (r >= tokens) std::memset(room.context + place<bf16>(r, j, h), 0, 64);
    }
  share.wait();
  for (const Layer* layer = layers; layer < layers + count; layer++) {
    for (int64_t m = 0; m < rows; m += MOST)
      project(layer->qkv, room.hidden + m * h, room.qkv + m * 3 * h, std::min(MOST, rows - m), room, share);
    for (int64_t pair = share.part; pair < pairs; pair += share.parts) {
      const int64_t first = starts[pair / heads] - starts[0], length = starts[pair / heads + 1] - starts[pair / heads];
      const int64_t column = pair % heads * d;
      attention(room.qkv + first * 3 * h + column, length, h, d, room.context, first, column, attention_room);
    }
    share.wait();
    for (int64_t m = 0; m < rows; m += MOST)
      rest_of_layer(*layer, room.context + m * h, room.hidden + m * h, std::min(MOST, rows - m), room, share);
  }
  for (int64_t r = share.from(tokens); r < share.to(tokens); r++)
    for (int64_t j = 0; j < h; j += 32) std::memcpy(out + r * h + j, room.hidden + place<bf16>(r, j, h), 64);
}

// Where groups of sequences begin, and where the last one ends: of at most so many rows, but for a longer sequence,
// and at least half of them where that saves padding to whole blocks.
static std::vector<int64_t> groups_of(const int32_t* starts, int64_t sequences, int64_t most) {
  std::vector<int64_t> groups = {0};
  while (groups.back() < sequences) {
    const int64_t first = groups.back();
    int64_t best = first + 1;
    double least = INFINITY;
    for (int64_t end = first + 1; end <= sequences; end++) {
      const int64_t tokens = starts[end] - starts[first];
      if (tokens > most) break;
      const double padded = double(whole_blocks(tokens)) / tokens;
      if (2 * tokens < most || padded <= least) best = end, least = 2 * tokens < most ? INFINITY : padded;
    }
    groups.push_back(best);
  }
  return groups;
}

// Rows of the thread that gets most of the groups when each goes to the first that is free.
static int64_t busiest(const std::vector<int64_t>& groups, const int32_t* starts, int64_t threads) {
  std::vector<int64_t> rows(threads, 0);
  for (size_t i = 0; i + 1 < groups.size(); i++)
    *std::min_element(rows.begin(), rows.end()) += whole_blocks(starts[groups[i + 1]] - starts[groups[i]]);
  return *std::max_element(rows.begin(), rows.end());
}

template <typename T>
static void encode(const Layer* layers, int64_t count, int64_t heads, const bf16* embedded, const int32_t* starts,
                   int64_t sequences, int64_t longest, int64_t threads, bf16* out) {
  const int64_t rows = whole_blocks(starts[sequences]), d = layers->output.outputs / heads;
  const int64_t most = std::min(MOST, whole_blocks((rows + threads - 1) / threads));
  const std::vector<int64_t> groups = groups_of(starts, sequences, most);
  const bool shared = busiest(groups, starts, threads) * threads > ALONE * rows;
  Room<T> common(shared ? rows : 0, *layers);
#pragma omp parallel num_threads(threads)
  {
    const TileConfig config;
    _tile_loadconfig(&config);
    AttentionRoom attention_room(whole_blocks(longest), d);
    if (shared) {
      const Share share{omp_get_thread_num(), omp_get_num_threads()};
      through_layers(layers, count, heads, embedded, starts, sequences, common, attention_room, share, out);
    } else {
      Room<T> own(std::max(most, whole_blocks(longest)), *layers);
#pragma omp for schedule(dynamic)
      for (size_t i = 0; i < groups.size() - 1; i++)
        through_layers(layers, count, heads, embedded, starts + groups[i], groups[i + 1] - groups[i], own,
                       attention_room, Share{}, out);
    }
    _tile_release();
  }
}

// Linux lets a process use AMX once it has asked. 0: it may.
extern "C" int64_t ask_for_tiles() { return syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18); }

// embedded [tokens, h] -> out [tokens, h], through ``count`` layers. Sequence i is tokens starts[i] to starts[i + 1],
// ``longest`` the length of the longest. Sizes are multiples of 32, in int8 those of the linear layers of 64.
extern "C" void encode_bf16(const Layer* layers, int64_t count, int64_t heads, const bf16* embedded,
                            const int32_t* starts, int64_t sequences, int64_t longest, int64_t threads, bf16* out) {
  encode<bf16>(layers, count, heads, embedded, starts, sequences, longest, threads, out);
}
extern "C" void encode_int8(const Layer* layers, int64_t count, int64_t heads, const bf16* embedded,
                            const int32_t* starts, int64_t sequences, int64_t longest, int64_t threads, bf16* out) {
  encode<int8_t>(layers, count, heads, embedded, starts, sequences, longest, threads, out);
}
