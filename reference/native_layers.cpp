// BERT's layers for inference, all of them in one call: in float32 by the processor's vectors (AVX-512, AVX2, NEON), in
// bfloat16 and int8 by vectors of 512 bits (AVX-512's BF16 and VNNI) or by tiles (AMX).
//
// What it saves:
// - Each thread takes some sequences, about 128 or 256 tokens, through all layers: what is made of them stays in its
//   second cache. Where there are too few for all threads, these share out the columns of each product instead.
// - What follows a product (bias, gelu, residual) is computed before its sums leave the core, or while the tile unit
//   works on the next block of it.
// - In attention each sequence and head is one piece of work, some queries at a time, whose scores stay in the first
//   cache; no padding is computed but up to the next 32 keys, and none elsewhere but, for tiles, up to 32 tokens of
//   each group.
#include <omp.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "native_vectors.h"

// What compilers call it that a processor has tiles; there are none without instructions that round to bfloat16.
#if (defined __AMX_TILE__ || defined __AMXTILE__) && defined __AVX512BF16__
#define HAS_TILES
#endif

using bf16 = uint16_t;
enum bf16_in_vectors : bf16 {};

// T is the type of a product's left factor. It says what computes: float, bf16_in_vectors, uint8_t and int16_t vectors,
// bf16 and int8_t tiles.
template <typename T>
constexpr bool TILES = std::is_same_v<T, bf16> || std::is_same_v<T, int8_t>;
template <typename T>
constexpr bool INT8 = std::is_same_v<T, int8_t> || std::is_same_v<T, uint8_t> || std::is_same_v<T, int16_t>;
// What weights are of: eight bits are read even where their products are made of sixteen.
template <typename T>
using Weight = std::conditional_t<std::is_same_v<T, int16_t>, int8_t, T>;
// What rows are of between products.
template <typename T>
using Between = std::conditional_t<TILES<T>, bf16, float>;

constexpr int ACROSS = WIDTH == 4 ? 4 : 2;    // vectors that are multiplied at a time
constexpr int64_t VECTORS = ACROSS * WIDTH;  // their columns
extern "C" const int64_t block = VECTORS;
template <typename T>
constexpr int64_t BLOCK = TILES<T> ? 32 : VECTORS;  // columns that are multiplied at a time
template <typename T>
constexpr int64_t ROWS = TILES<T> ? 32 : 1;  // their number is filled up to a multiple of this
template <typename T>
constexpr int64_t MOST = TILES<T> ? 256 : 128;  // rows at a time: all that is made of them stays in the second cache
constexpr int64_t CHUNK = 24 << 10;  // bytes of weights that are multiplied by all rows, as they stay in the first cache
constexpr double ALONE = 1.3;  // how much faster threads are on groups of their own than on the same, if all have work

// What the callers fill in (native.py).
struct Linear {
  // For vectors [outputs / BLOCK][inputs / K][BLOCK][K], for tiles [outputs / 32][inputs / 16 K][2][16][16][K], with K
  // numbers of a left factor in 4 bytes.
  const void* weights;
  const float* scale;     // of each output, for int8
  const int32_t* offset;  // to be added to the sums of each output, for uint8_t
  const float* bias;
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

// What native.py checks: the size of each struct, and where its fields are.
struct Place {
  const char* name;  // of a field; null at the end
  int64_t number;
};
#define AT(STRUCT, FIELD) {#FIELD, offsetof(STRUCT, FIELD)}
extern "C" const Place layout[] = {
    {"size", sizeof(Linear)}, AT(Linear, weights), AT(Linear, scale), AT(Linear, offset), AT(Linear, bias),
    AT(Linear, inputs), AT(Linear, outputs),
    {"size", sizeof(Norm)}, AT(Norm, gain), AT(Norm, shift), AT(Norm, epsilon),
    {"size", sizeof(Layer)}, AT(Layer, qkv), AT(Layer, output), AT(Layer, up), AT(Layer, down),
    AT(Layer, attention_norm), AT(Layer, output_norm),
    {nullptr, 0}};

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

// Those of the first columns of a share.
template <typename T>
static inline const Weight<T>* first_weights(const Linear& w, Share share) {
  return (const Weight<T>*)w.weights + share.from(w.outputs / BLOCK<T>) * BLOCK<T> * w.inputs;
}

#ifdef __AVX512F__
static inline Floats load(const bf16* p) {
  return (Floats)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16);
}
#endif
#ifdef __AVX512BF16__
static inline void store(bf16* p, Floats x) {
  _mm256_storeu_si256((__m256i*)p, (__m256i)_mm512_cvtneps_pbh((__m512)x));
}
#endif

// Where a number is among rows of so many columns. Tiles want [rows / 16][columns / K][16][K] with K numbers in 64
// bytes, and vectors row after row, with 64 bytes between them: without that order, or that gap, the rows that are
// multiplied together would fall on a few places of the first cache and drive each other out. Four bytes more between
// rows, and these do not all come to the end of a cache line in the same step.
template <typename T>
static inline int64_t place(int64_t row, int64_t column, int64_t columns) {
  constexpr int64_t K = 64 / sizeof(T);
  if constexpr (TILES<T>) return (row / 16 * (columns / K) + column / K) * 16 * K + row % 16 * K + column % K;
  else return row * (columns + K + 4 / int64_t(sizeof(T))) + column;
}

static inline Floats polynomial(Floats x, std::initializer_list<float> coefficients) {  // the highest power's first
  Floats y = every(*coefficients.begin());
  for (const float* c = coefficients.begin() + 1; c < coefficients.end(); c++) y = fma(y, x, every(*c));
  return y;
}

// x Phi(x). Phi - 1/2 is odd, and from some x on as good as 1/2. It is computed as x times a polynomial in x^2 to
// 3e-5, for what is rounded more coarsely anyway, and as x times a ratio of two to 3e-8.
template <typename T>
static inline Floats gelu(Floats x) {
  constexpr float LAST = std::is_same_v<T, float> ? 5.3f : 4.2f;
  const Floats z = max(min(x, every(LAST)), every(-LAST));
  const Floats t = z * z;
  Floats y;
  if constexpr (std::is_same_v<T, float>)
    y = polynomial(t, {2.4050210711834552e-08f, 6.379073965945281e-06f, 0.00016033585416153073f,
                                     0.0046280017122626305f, 0.03293590992689133f, 0.3989422619342804f}) /
        polynomial(t, {1.2371666571198148e-06f, 7.135277701308951e-05f, 0.0018365790601819754f,
                                     0.028138896450400352f, 0.24922430515289307f, 1.0f});
  else
    y = polynomial(t, {4.8755544740375356e-11f, -4.760268623726915e-09f, 2.0619134488697455e-07f,
                       -5.273177976050647e-06f, 8.9696841314435e-05f, -0.0010858481982722878f, 0.009739890694618225f,
                       -0.06622260063886642f, 0.39883676171302795f});
  const Mask counts = not_less(x, every(-LAST));  // below it is 0; NaN stays
  return where(counts, x * fma(z, y, every(0.5f)));
}

// p = exp((s - max s) / sqrt(d)) of a row of scores, 0 from ``length`` on; returns the sum. ``scale`` is log2 e /
// sqrt(d), since exp(x) = 2^(x log2 e): whole powers go into the exponent, a polynomial gives the rest, to 1e-7, or to
// 3e-6 where that is rounded to bfloat16. ``p`` may be ``s``.
template <typename P>
static float softmax(const float* s, int64_t length, int64_t filled, float scale, P* p) {
  Floats top = every(-INFINITY), sum = every(0);
  for (int64_t j = 0; j < length; j += WIDTH) top = where(within(length, j), max(top, load(s + j)), top);
  top = every(max_of(top));
  for (int64_t j = 0; j < filled; j += WIDTH) {
    const Floats x = (load(s + j) - top) * every(scale), whole = nearest(x), t = x - whole;
    Floats y;
    if constexpr (std::is_same_v<P, float>)
      y = polynomial(t, {0.00015469732170458883f, 0.0013400432653725147f, 0.00961802527308464f, 0.05550327152013779f,
                         0.24022650718688965f, 0.6931471824645996f, 1.0f});
    else
      y = polynomial(t, {0.00956051021f, 0.0559170392f, 0.240249811f, 0.693121968f, 0.999999191f});
    y = where(within(length, j), times_power_of_2(y, whole));
    sum += y;
    store(p + j, y);
  }
  return sum_of(sum);
}

// LayerNorm of a row of sums, to its place.
template <typename T>
static void norm(const float* x, int64_t n, const Norm& w, T* out, int64_t row) {
  Floats sum = every(0), squares = every(0);
  for (int64_t j = 0; j < n; j += WIDTH) sum += load(x + j);
  const Floats mean = every(sum_of(sum) / n);
  for (int64_t j = 0; j < n; j += WIDTH) {
    const Floats d = load(x + j) - mean;
    squares = fma(d, d, squares);
  }
  const Floats factor = every(1 / std::sqrt(sum_of(squares) / n + w.epsilon));
  for (int64_t j = 0; j < n; j += WIDTH) {
    const Floats d = (load(x + j) - mean) * factor;
    store(out + place<T>(row, j, n), fma(d, load(w.gain + j), load(w.shift + j)));
  }
}

// A row in whole steps, -127 to 127, for uint8_t with 128 added, and what a step is worth: NaN where the row has one.
template <typename T>
static float quantise(const Between<T>* x, int64_t n, int64_t row, T* out) {
  Floats top = every(1e-12f);
  bool unordered = false;
  for (int64_t j = 0; j < n; j += WIDTH) {
    const Floats y = load(x + place<Between<T>>(row, j, n));
    top = max(top, absolute(y));
    unordered |= any_nan(y);
  }
  const float largest = unordered ? NAN : max_of(top);
  const Floats steps = every(127 / largest);
  for (int64_t j = 0; j < n; j += WIDTH)
    store_whole(out + place<T>(row, j, n), load(x + place<Between<T>>(row, j, n)) * steps);
  return largest / 127;
}

#ifdef __AVX512BF16__
// A row in bfloat16.
static void round(const float* x, int64_t n, int64_t row, bf16_in_vectors* out) {
  for (int64_t j = 0; j < n; j += 16)
    store((bf16*)out + place<bf16_in_vectors>(row, j, n), load(x + place<float>(row, j, n)));
}
#endif

// ------------------------------------------------------------------------------------------- products by vectors

// sum += x w, where 4 bytes of x, which are the same in all lanes, and of w are a number each, or a product of two or
// four. Written as instructions, as gcc wants two registers for some of the sums with its intrinsics.
template <typename T>
using Sums = std::conditional_t<INT8<T>, Integers, Floats>;
template <typename T>
static inline Sums<T> multiply_add(Sums<T> sum, Sums<T> x, Sums<T> w) {
  if constexpr (std::is_same_v<T, float>) multiply_add(sum, x, w);
#ifdef HAS_PAIRS
  else if constexpr (std::is_same_v<T, int16_t>) sum += pairs(x, w);
#endif
#ifdef __AVX512F__
  else if constexpr (std::is_same_v<T, uint8_t>) asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
  else asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
#endif
  return sum;
}
template <typename T>
static inline Sums<T> vector_of(const Weight<T>* w) {
#ifdef HAS_PAIRS
  if constexpr (std::is_same_v<T, int16_t>) return widened(w);
#endif
  return *(const Sums<T>*)w;
}
template <typename T>
static inline Sums<T> everywhere(const T* x) {
  float bytes;
  std::memcpy(&bytes, x, 4);
  return (Sums<T>)every(bytes);
}

// Rows at a time. With the vectors of sums for each, all registers but those of the weights, of x, and, where there
// are 32 registers, one or more: 14 * 2 + 3 with AVX-512, 6 * 2 + 3 with AVX2, 6 * 4 + 5 with NEON.
constexpr int STRIP = WIDTH == 16 ? 14 : 6;

// ``work`` with the number of rows as a constant, 1 to STRIP.
template <int R = STRIP, typename F>
static inline void with_rows(int64_t rows, F work) {
  if (rows == R) work(std::integral_constant<int, R>());
  else if constexpr (R > 1) with_rows<R - 1>(rows, work);
}

// ``work`` with each number from 0 to before R, as a constant.
template <int R, typename F>
static inline __attribute__((always_inline)) void for_each(F work) {
  [&]<int... r>(std::integer_sequence<int, r...>) __attribute__((always_inline)) {
    (work(std::integral_constant<int, r>()), ...);
  }(std::make_integer_sequence<int, R>());
}

// Bytes of weights that a step reads, and how many of them it fetches ahead.
template <typename T>
constexpr int64_t STEP = VECTORS * 4 / sizeof(T) * sizeof(Weight<T>);
template <typename T>
constexpr int64_t LINE = STEP<T> < 64 ? STEP<T> : 64;

// Sums of R rows, ``stride`` apart, and of a block of columns of weights, added to ``sums`` [R][ACROSS]. Meanwhile a
// LINE a step is fetched from ``ahead`` on, and from so many bytes ``further``.
template <typename T, int R>
static inline void strip(const T* x, int64_t stride, const Weight<T>* weights, int64_t steps, const void* ahead,
                         int64_t further, Sums<T>* sums) {
  constexpr int64_t K = 4 / sizeof(T);
  Sums<T> own[R * ACROSS];
  for_each<R * ACROSS>([&](auto i) __attribute__((always_inline)) { own[i] = sums[i]; });
  const char* line = (const char*)ahead;
  for (int64_t k = 0; k < steps; k++, x += K, weights += VECTORS * K, line += LINE<T>) {
    __builtin_prefetch(line, 0, 2);
    if constexpr (STEP<T> > LINE<T>) __builtin_prefetch(line + further, 0, 2);
    Sums<T> columns[ACROSS];
    for_each<ACROSS>([&](auto i) __attribute__((always_inline)) { columns[i] = vector_of<T>(weights + i * WIDTH * K); });
    for_each<R>([&](auto r) __attribute__((always_inline)) {
      const Sums<T> each = everywhere(x + r * stride);
      for_each<ACROSS>([&](auto i) __attribute__((always_inline)) {
        own[r * ACROSS + i] = multiply_add<T>(own[r * ACROSS + i], each, columns[i]);
      });
    });
  }
  for_each<R * ACROSS>([&](auto i) __attribute__((always_inline)) { sums[i] = own[i]; });
}

// Rows in strips of about equal height, up to STRIP: ``work(number, first, height)``, with the height a constant.
template <typename F>
static inline void in_strips(int64_t rows, F work) {
  const int64_t count = (rows + STRIP - 1) / STRIP;
  for (int64_t i = 0; i < count; i++) {
    const int64_t first = rows * i / count;
    with_rows(rows * (i + 1) / count - first, [&](auto height) { work(i, first, height); });
  }
}

// x w^T + b for this share of the columns. ``follow(row, column, y)`` gets a vector at a time, once for each. At last
// the first weights of ``next`` are fetched ahead.
template <typename T, typename F>
static inline std::enable_if_t<!TILES<T>> product(const T* x, const float* x_scale, int64_t rows, const Linear& w,
                                                  const Linear& next, Share share, F follow) {
  constexpr int64_t K = 4 / sizeof(T), SOME = CHUNK / STEP<T>, LINES = STEP<T> / LINE<T>;
  const int64_t steps = w.inputs / K, stride = place<T>(1, 0, w.inputs), end = share.to(w.outputs / VECTORS);
  Sums<T> sums[MOST<T> * ACROSS];
  for (int64_t n = share.from(w.outputs / VECTORS); n < end; n++)
    for (int64_t start = 0; start < steps; start += SOME) {
      const int64_t count = std::min(SOME, steps - start);
      const Weight<T>* weights = (const Weight<T>*)w.weights + (n * steps + start) * VECTORS * K;
      const Weight<T>* ahead = n + 1 == end && start + count == steps ? first_weights<T>(next, share)
                                                                        : weights + count * VECTORS * K;
      in_strips(rows, [&](int64_t number, int64_t first, auto height) {
        Sums<T>* own = sums + ACROSS * first;
        if (start == 0) std::memset(own, 0, height * ACROSS * sizeof *own);
        // The next weights, by as many strips as a step of them has lines, or by the only one.
        strip<T, height>(x + first * stride + start * K, stride, weights, count,
                         number < LINES ? (const char*)ahead + number * count * LINE<T> : (const char*)weights,
                         rows <= STRIP ? count * LINE<T> : 0, own);
        if (start + count == steps)
          for (int64_t i = 0; i < ACROSS * height; i++) {
            const int64_t row = first + i / ACROSS, column = n * VECTORS + i % ACROSS * WIDTH;
            const Floats bias = load(w.bias + column);
            if constexpr (INT8<T>) {
              const Integers whole = std::is_same_v<T, uint8_t> ? own[i] + load(w.offset + column) : own[i];
              follow(row, column, fma(to_floats(whole), every(x_scale[row]) * load(w.scale + column), bias));
            } else {
              follow(row, column, own[i] + bias);
            }
          }
      });
    }
}

// What attention works in: keys [filled / BLOCK][d][BLOCK] and values [d / BLOCK][length][BLOCK] as right factors, and
// the scores of some queries, [STRIP][filled]; ``filled`` is the length and more, up to a multiple of 32.
template <typename Row>
struct AttentionRoom {
  Array<float> keys, values, scores;
  AttentionRoom(int64_t filled, int64_t d) : keys(filled * d), values(filled * d), scores(STRIP * filled) {}
};

// One head of one sequence: ``qkv`` is where its first query is, from one token to the next it is ``stride``; its
// context goes to ``out`` from ``row`` and ``column`` on.
static void attention(const float* qkv, int64_t stride, int64_t length, int64_t h, int64_t d, float* out, int64_t row,
                      int64_t column, AttentionRoom<float>& room) {
  const int64_t filled = (length + 31) / 32 * 32;
  const float scale = 1.4426950408889634f / std::sqrt(float(d));
  const float *k = qkv + h, *v = qkv + 2 * h;
  for (int64_t i = 0; i < filled; i += WIDTH)
    for (int64_t j = 0; j < d; j++)
      store(room.keys + (i / VECTORS * d + j) * VECTORS + i % VECTORS, gather(within(length, i), k + i * stride + j, stride));
  for (int64_t i = 0; i < length; i++)
    for (int64_t j = 0; j < d; j += WIDTH)
      store(room.values + (j / VECTORS * length + i) * VECTORS + j % VECTORS, load(v + i * stride + j));
  in_strips(length, [&](int64_t, int64_t first, auto height) {
    const float* queries = qkv + first * stride;
    Floats sums[ACROSS * height];
    for (int64_t j = 0; j < filled; j += VECTORS) {
      std::memset(sums, 0, sizeof sums);
      strip<float, height>(queries, stride, room.keys + j * d, d, room.keys, 0, sums);
      for (int i = 0; i < ACROSS * height; i++)
        store(room.scores + i / ACROSS * filled + j + i % ACROSS * WIDTH, sums[i]);
    }
    float part[height];
    for (int r = 0; r < height; r++) {
      float* scores = room.scores + r * filled;
      part[r] = 1 / softmax(scores, length, filled, scale, scores);
    }
    for (int64_t j = 0; j < d; j += VECTORS) {
      const float* values = room.values + j * length;
      std::memset(sums, 0, sizeof sums);
      strip<float, height>(room.scores, filled, values, length, values, 0, sums);
      for (int i = 0; i < ACROSS * height; i++)
        store(out + place<float>(row + first + i / ACROSS, column + j + i % ACROSS * WIDTH, h),
              sums[i] * every(part[i / ACROSS]));
    }
  });
}

// --------------------------------------------------------------------------------------------- products by tiles
#ifdef HAS_TILES

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// Tile loads do not tell gcc that they read memory: what they are to read has to be written before.
static inline void in_memory() { asm volatile("" ::: "memory"); }

// As by vectors.
template <typename T, typename F>
static inline std::enable_if_t<TILES<T>> product(const T* x, const float* x_scale, int64_t rows, const Linear& w,
                                                 const Linear& next, Share share, F follow) {
  constexpr int64_t K = 64 / sizeof(T), TILE = 16 * K;
  const int64_t steps = w.inputs / K, stop = share.to(w.outputs / BLOCK<T>);
  const int64_t lines = (32 * BLOCK<T> + rows - 1) / rows;  // of the 32 of a step, to be fetched ahead with each rows
  alignas(64) float sums[MOST<T> * BLOCK<T>];
  int64_t row = 0, end = 0, column = 0;  // whose sums are complete, and wait for what follows
  in_memory();
  auto follow_some = [&](int64_t count) {
    for (const int64_t last = std::min(end, row + count); row < last; row++)
      for (int64_t j = 0; j < BLOCK<T>; j += 16) {
        const float* sum = sums + row * BLOCK<T> + j;
        const Floats bias = load(w.bias + column + j);
        if constexpr (K == 32) {
          follow(row, column + j, load(sum) + bias);
        } else {
          const Floats scale = every(x_scale[row]) * load(w.scale + column + j);
          follow(row, column + j, fma(to_floats(load((const int32_t*)sum)), scale, bias));
        }
      }
  };
  // For each 32 of the outputs, some steps at a time, all rows: the weights of these steps stay in the first cache.
  for (int64_t n = share.from(w.outputs / BLOCK<T>); n < stop; n++)
    for (int64_t first = 0; first < steps; first += CHUNK / (64 * BLOCK<T>)) {
      const int64_t last = std::min(steps, first + CHUNK / (64 * BLOCK<T>));
      const int64_t each = (BLOCK<T> + last - first - 1) / (last - first);  // rows that follow, for each step
      for (int64_t m = 0; m < rows; m += BLOCK<T>) {
        float* sum = sums + m * BLOCK<T>;
        if (first == 0) {
          _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
        } else {
          _tile_loadd(0, sum, 128); _tile_loadd(1, sum + 16, 128);
          _tile_loadd(2, sum + 512, 128); _tile_loadd(3, sum + 528, 128);
        }
        const T *above = x + m / 16 * steps * TILE, *below = above + steps * TILE;
        const T* weights = (const T*)w.weights + n * BLOCK<T> * w.inputs;
        const T* ahead = n + 1 == stop && last == steps ? first_weights<T>(next, share) : weights + 2 * last * TILE;
        for (int64_t k = first; k < last; k++) {
          for (int64_t line = m / BLOCK<T> * lines; line < std::min<int64_t>(32, (m / BLOCK<T> + 1) * lines); line++)
            _mm_prefetch((const char*)(ahead + 2 * (k - first) * TILE) + 64 * line, _MM_HINT_T1);
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
        if (last == steps) row = m, end = m + BLOCK<T>, column = n * BLOCK<T>;
      }
    }
  follow_some(BLOCK<T>);
}

// What attention works in. The right factors of its products have two rows side by side, as tiles want them, so that
// one uint32_t holds a pair; ``filled`` is the length and more, up to a multiple of 32.
template <>
struct AttentionRoom<bf16> {
  Array<uint32_t> keys, values;  // [d / 2, filled] transposed, and [filled / 2, d]
  Array<bf16> queries, p;        // [16, d] and [16, filled]
  Array<float> scores, context;  // the same
  AttentionRoom(int64_t filled, int64_t d)
      : keys(filled * d / 2), values(filled * d / 2), queries(16 * d), p(16 * filled), scores(16 * filled),
        context(16 * d) {}
};

// Where the number of the lane is multiplied by this.
static inline __m512i multiples(int64_t of) {
  return _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                            _mm512_set1_epi32(of));
}

static void lay_out(const bf16* k, const bf16* v, int64_t stride, int64_t length, int64_t filled, int64_t d,
                    AttentionRoom<bf16>& room) {
  const __m512i rows = multiples(stride / 2);
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

// As by vectors.
static void attention(const bf16* qkv, int64_t stride, int64_t length, int64_t h, int64_t d, bf16* out, int64_t row,
                      int64_t column, AttentionRoom<bf16>& room) {
  const int64_t filled = (length + 31) / 32 * 32;
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
              load(room.context + i * d + j) / every(sums[i]));
  }
}

#endif

// A thread has to say how its tiles are divided, and, when it needs none any more, that it does.
template <typename T>
static inline void begin_tiles() {
#ifdef HAS_TILES
  const TileConfig config;
  if constexpr (TILES<T>) _tile_loadconfig(&config);
#endif
}
template <typename T>
static inline void end_tiles() {
#ifdef HAS_TILES
  if constexpr (TILES<T>) _tile_release();
#endif
}

// ---------------------------------------------------------------------------------------------------- the layers

// What is made of some sequences: by layer, and, at most MOST rows at a time, by the steps of one.
template <typename T>
struct Room {
  using Row = Between<T>;
  Array<Row> hidden, qkv, context;
  Array<float> sums, scale;
  Array<Row> middle, wide;
  Array<T> factors;
  Room(int64_t rows, int64_t h, int64_t columns, int64_t some)
      : hidden(place<Row>(rows, 0, h)), qkv(place<Row>(rows, 0, 3 * h)), context(place<Row>(rows, 0, h)),
        sums(some * h), scale(some), middle(place<Row>(some, 0, h)), wide(place<Row>(some, 0, columns)),
        factors(std::is_same_v<T, Row> ? 0 : place<T>(some, 0, std::max(h, columns))) {}
  Room(int64_t rows, const Layer& layer)
      : Room(rows, layer.output.outputs, layer.up.outputs, std::min(rows, MOST<T>)) {}

  // The rows as a left factor.
  const T* factor(const Row* x, int64_t columns, int64_t rows, Share share) {
    if constexpr (std::is_same_v<T, Row>) {
      return x;
    } else {
      for (int64_t r = share.from(rows); r < share.to(rows); r++)
        if constexpr (INT8<T>) scale[r] = quantise<T>(x, columns, r, factors);
        else round(x, columns, r, factors);
      share.wait();
      return factors;
    }
  }
};

template <typename T>
static void project(const Linear& w, const Linear& next, const Between<T>* hidden, Between<T>* qkv, int64_t stride,
                    int64_t rows, Room<T>& room, Share share) {
  const T* x = room.factor(hidden, w.inputs, rows, share);
  product<T>(x, room.scale, rows, w, next, share,
             [&](int64_t r, int64_t c, Floats y) { store(qkv + r * stride + c, y); });
  share.wait();
}

// From attention's context to the layer's output, which takes the place of its input in ``hidden``.
template <typename T>
static void rest_of_layer(const Layer& w, const Linear& next, const Between<T>* context, Between<T>* hidden,
                          int64_t rows, Room<T>& room, Share share) {
  using Row = Between<T>;
  const int64_t h = w.output.outputs;
  auto add_to = [&](const Row* residual) {
    return [&room, residual, h](int64_t r, int64_t c, Floats y) {
      store(room.sums + r * h + c, y + load(residual + place<Row>(r, c, h)));
    };
  };
  auto norm_all = [&](const Norm& how, Row* out) {
    share.wait();
    for (int64_t r = share.from(rows); r < share.to(rows); r++) norm(room.sums + r * h, h, how, out, r);
    share.wait();
  };
  product<T>(room.factor(context, h, rows, share), room.scale, rows, w.output, w.up, share, add_to(hidden));
  norm_all(w.attention_norm, room.middle);
  product<T>(room.factor(room.middle, h, rows, share), room.scale, rows, w.up, w.down, share,
          [&](int64_t r, int64_t c, Floats y) { store(room.wide + place<Row>(r, c, w.up.outputs), gelu<T>(y)); });
  share.wait();
  product<T>(room.factor(room.wide, w.down.inputs, rows, share), room.scale, rows, w.down, next, share,
             add_to(room.middle));
  norm_all(w.output_norm, hidden);
}

template <typename T>
static inline int64_t whole_blocks(int64_t rows) { return (rows + ROWS<T> - 1) / ROWS<T> * ROWS<T>; }

// Some sequences through all layers, by one thread alone or by several that share out the columns of each product.
template <typename T>
static void through_layers(const Layer* layers, int64_t count, int64_t heads, const Between<T>* embedded,
                           const int32_t* starts, int64_t sequences, Room<T>& room,
                           AttentionRoom<Between<T>>& attention_room, Share share, Between<T>* out) {
  using Row = Between<T>;
  constexpr int64_t K = 64 / sizeof(Row);
  const int64_t h = layers->output.outputs, d = h / heads, tokens = starts[sequences] - starts[0];
  const int64_t rows = whole_blocks<T>(tokens), pairs = sequences * heads;
  const int64_t stride = TILES<T> ? 3 * h : place<Row>(1, 0, 3 * h);  // of queries, keys and values, row after row
  embedded += starts[0] * h, out += starts[0] * h;
  for (int64_t r = share.from(rows); r < share.to(rows); r++)
    for (int64_t j = 0; j < h; j += K) {
      Row* to = room.hidden + place<Row>(r, j, h);
      r < tokens ? std::memcpy(to, embedded + r * h + j, 64) : std::memset(to, 0, 64);  // the last rows are nobody's
      if (r >= tokens) std::memset(room.context + place<Row>(r, j, h), 0, 64);
    }
  share.wait();
  for (const Layer* layer = layers; layer < layers + count; layer++) {
    const Layer* next = layer + 1 < layers + count ? layer + 1 : layers;
    for (int64_t m = 0; m < rows; m += MOST<T>)
      project<T>(layer->qkv, layer->output, room.hidden + place<Row>(m, 0, h), room.qkv + m * stride, stride,
                 std::min(MOST<T>, rows - m), room, share);
    for (int64_t pair = share.part; pair < pairs; pair += share.parts) {
      const int64_t first = starts[pair / heads] - starts[0], length = starts[pair / heads + 1] - starts[pair / heads];
      const int64_t column = pair % heads * d;
      attention(room.qkv + first * stride + column, stride, length, h, d, room.context, first, column, attention_room);
    }
    share.wait();
    for (int64_t m = 0; m < rows; m += MOST<T>)
      rest_of_layer<T>(*layer, next->qkv, room.context + place<Row>(m, 0, h), room.hidden + place<Row>(m, 0, h),
                       std::min(MOST<T>, rows - m), room, share);
  }
  for (int64_t r = share.from(tokens); r < share.to(tokens); r++)
    for (int64_t j = 0; j < h; j += K) std::memcpy(out + r * h + j, room.hidden + place<Row>(r, j, h), 64);
}

// Where groups of sequences begin, and where the last one ends: of at most so many rows, but for a longer sequence,
// and at least half of them where that saves padding to whole blocks.
template <typename T>
static std::vector<int64_t> groups_of(const int32_t* starts, int64_t sequences, int64_t most) {
  std::vector<int64_t> groups = {0};
  while (groups.back() < sequences) {
    const int64_t first = groups.back();
    int64_t best = first + 1;
    double least = INFINITY;
    for (int64_t end = first + 1; end <= sequences; end++) {
      const int64_t tokens = starts[end] - starts[first];
      if (tokens > most) break;
      const double padded = double(whole_blocks<T>(tokens)) / tokens;
      if (2 * tokens < most || padded <= least) best = end, least = 2 * tokens < most ? INFINITY : padded;
    }
    groups.push_back(best);
  }
  return groups;
}

// Rows of the thread that gets most of the groups when each goes to the first that is free.
template <typename T>
static int64_t busiest(const std::vector<int64_t>& groups, const int32_t* starts, int64_t threads) {
  std::vector<int64_t> rows(threads, 0);
  for (size_t i = 0; i + 1 < groups.size(); i++)
    *std::min_element(rows.begin(), rows.end()) += whole_blocks<T>(starts[groups[i + 1]] - starts[groups[i]]);
  return *std::max_element(rows.begin(), rows.end());
}

template <typename T>
static void encode(const Layer* layers, int64_t count, int64_t heads, const Between<T>* embedded, const int32_t* starts,
                   int64_t sequences, int64_t longest, int64_t threads, Between<T>* out) {
  const int64_t rows = whole_blocks<T>(starts[sequences]), d = layers->output.outputs / heads;
  const int64_t most = std::min(MOST<T>, whole_blocks<T>((rows + threads - 1) / threads));
  const std::vector<int64_t> groups = groups_of<T>(starts, sequences, most);
  const bool shared = busiest<T>(groups, starts, threads) * threads > ALONE * rows;
  Room<T> common(shared ? rows : 0, *layers);
#pragma omp parallel num_threads(threads)
  {
    begin_tiles<T>();
    AttentionRoom<Between<T>> attention_room((longest + 31) / 32 * 32, d);
    if (shared) {
      const Share share{omp_get_thread_num(), omp_get_num_threads()};
      through_layers(layers, count, heads, embedded, starts, sequences, common, attention_room, share, out);
    } else {
      Room<T> own(std::max(most, whole_blocks<T>(longest)), *layers);
#pragma omp for schedule(dynamic)
      for (size_t i = 0; i < groups.size() - 1; i++)
        through_layers(layers, count, heads, embedded, starts + groups[i], groups[i + 1] - groups[i], own,
                       attention_room, Share{}, out);
    }
    end_tiles<T>();
  }
}

// The products of ``count`` layers of so many tokens, shared out as in ``encode``, and nothing else: for timing.
template <typename T>
static void products(const Layer* layers, int64_t count, int64_t tokens, int64_t threads) {
  const int64_t rows = whole_blocks<T>(tokens), h = layers->output.outputs, wide = layers->up.outputs;
  const int64_t most = std::min(MOST<T>, whole_blocks<T>((rows + threads - 1) / threads));
  std::vector<int32_t> starts(tokens + 1);  // each token may go anywhere
  for (int64_t i = 0; i <= tokens; i++) starts[i] = i;
  const std::vector<int64_t> groups = groups_of<T>(starts.data(), tokens, most);
  const bool shared = busiest<T>(groups, starts.data(), threads) * threads > ALONE * rows;
  const int64_t widest = std::max({3 * h, h, wide});
  auto room = [&](int64_t some) {
    Array<T> x(place<T>(some, 0, widest));
    std::memset(x, 0x3f, place<T>(some, 0, widest) * sizeof(T));  // about 0.75, or 63
    return x;
  };
  auto multiply = [&](const T* x, float* out, int64_t some, Share share) {
    float scale[MOST<T>];
    std::fill(scale, scale + MOST<T>, 1.0f);
    for (const Layer* layer = layers; layer < layers + count; layer++) {
      const Linear* all[] = {&layer->qkv, &layer->output, &layer->up, &layer->down};
      for (int i = 0; i < 4; i++)
        for (int64_t m = 0; m < some; m += MOST<T>) {
          const int64_t stride = all[i]->outputs;
          product<T>(x + place<T>(m, 0, all[i]->inputs), scale, std::min(MOST<T>, some - m), *all[i],
                     *all[(i + 1) % 4], share,
                     [&](int64_t r, int64_t c, Floats y) { store(out + (m + r) * stride + c, y); });
        }
      share.wait();
    }
    asm volatile("" ::"r"(out) : "memory");  // as if somebody read it, so that it is computed
  };
  Array<T> x = room(shared ? rows : 0);
  Array<float> y((shared ? rows : 0) * widest);
#pragma omp parallel num_threads(threads)
  {
    begin_tiles<T>();
    if (shared) {
      multiply(x, y, rows, Share{omp_get_thread_num(), omp_get_num_threads()});
    } else {
      Array<T> own = room(most);
      Array<float> out(most * widest);
#pragma omp for schedule(dynamic)
      for (size_t i = 0; i < groups.size() - 1; i++)
        multiply(own, out, whole_blocks<T>(groups[i + 1] - groups[i]), Share{});
    }
    end_tiles<T>();
  }
}

// embedded [tokens, h] -> out [tokens, h], through ``count`` layers. Sequence i is tokens starts[i] to starts[i + 1],
// ``longest`` the length of the longest. Sizes are multiples of BLOCK, for int8 by tiles those of the linear layers of 64.
#define ENCODE(NAME, T)                                                                                           \
  extern "C" void NAME(const Layer* layers, int64_t count, int64_t heads, const Between<T>* embedded,             \
                       const int32_t* starts, int64_t sequences, int64_t longest, int64_t threads, Between<T>* out) { \
    encode<T>(layers, count, heads, embedded, starts, sequences, longest, threads, out);                          \
  }                                                                                                               \
  extern "C" void NAME##_products(const Layer* layers, int64_t count, int64_t tokens, int64_t threads) {          \
    products<T>(layers, count, tokens, threads);                                                                  \
  }
ENCODE(fp32_by_vectors, float)
#ifdef HAS_PAIRS
ENCODE(int8_by_pairs, int16_t)
#endif
#ifdef __AVX512BF16__
ENCODE(bf16_by_vectors, bf16_in_vectors)
#endif
#ifdef __AVX512VNNI__
ENCODE(int8_by_vectors, uint8_t)
#endif
#ifdef HAS_TILES
ENCODE(bf16_by_tiles, bf16)
ENCODE(int8_by_tiles, int8_t)

// Linux lets a process use AMX once it has asked. 0: it may.
extern "C" int64_t ask_for_tiles() { return syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18); }
#endif
