// BERT's encoder layers for inference, all in one call: linear layers, attention, gelu, residuals and LayerNorm.
//
// Micro-kernels compute a block of a product with its accumulators in registers; the left operand's type T selects one:
//   float        MICRO_ROWS x MICRO_COLUMNS by FMA: AVX-512 (14 x 32), AVX2 (6 x 16), NEON (6 x 16)
//   int16_t      int8 weights, widened; pairs of 16-bit products (AVX-512BW, AVX2, NEON)
//   uint8_t      int8 weights by AVX-512 VNNI; activations are 128 larger, which `compensation` subtracts again
//   vector_bf16  AVX-512 BF16
//   bf16, int8_t 32 x 32 by AMX, in two by two tiles
// Packing: native.py packs weights once, in panels of PANEL outputs, in which all values of a step of the micro-kernel
// are contiguous. Activations are packed by `offset`: row-major with a padded leading dimension for vectors, tile by
// tile for AMX. For int8 they are quantised by row just before each product.
// Blocking: a chunk of a panel that fits L1 is multiplied by up to MAX_ROWS rows, whose activations fit L2, while the
// next chunk is prefetched.
// Threads: each takes a group of sequences, up to 128 or 256 tokens, through all layers, so that its activations stay
// in its L2. With too few groups, all threads work on the same rows, each on its slice of a product's outputs, of the
// heads and of the rows to normalise, with barriers in between.
// Epilogues: bias, dequantisation, gelu and the residual are applied to a block's accumulators while these are in L1;
// with AMX, to those of the previous block while the tile unit computes the next one.
// Attention: one sequence and head at a time, MICRO_ROWS queries (16 with AMX) at a time, so that their scores stay in
// L1. There, keys are padded to a multiple of 32. Elsewhere only AMX pads: each group's tokens, to a multiple of 32.
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

// gcc and clang name the macro differently. The AMX code also needs AVX-512 BF16, to round activations to bfloat16.
#if (defined __AMX_TILE__ || defined __AMXTILE__) && defined __AVX512BF16__
#define HAS_TILES
#endif

using bf16 = uint16_t;
enum vector_bf16 : bf16 {};  // bfloat16 that is multiplied by vectors: a distinct type, to select that micro-kernel

template <typename T>
constexpr bool TILES = std::is_same_v<T, bf16> || std::is_same_v<T, int8_t>;
template <typename T>
constexpr bool INT8 = std::is_same_v<T, int8_t> || std::is_same_v<T, uint8_t> || std::is_same_v<T, int16_t>;
// Element type of the packed weights: 8 bits in memory even where they are multiplied as 16.
template <typename T>
using Weight = std::conditional_t<std::is_same_v<T, int16_t>, int8_t, T>;
// Element type of the activations between products.
template <typename T>
using Activation = std::conditional_t<TILES<T>, bf16, float>;

constexpr int MICRO_VECTORS = WIDTH == 4 ? 4 : 2;         // vectors in a row of a micro-kernel's accumulators
constexpr int64_t MICRO_COLUMNS = MICRO_VECTORS * WIDTH;  // outputs that a micro-kernel computes
extern "C" const int64_t panel_columns = MICRO_COLUMNS;
// Rows that a micro-kernel computes: as many as the registers hold accumulators for, beside MICRO_VECTORS of weights
// and one of activations. 14 * 2 + 3 of 32 with AVX-512, 6 * 2 + 3 of 16 with AVX2, 6 * 4 + 5 of 32 with NEON.
constexpr int MICRO_ROWS = WIDTH == 16 ? 14 : 6;
template <typename T>
constexpr int64_t PANEL = TILES<T> ? 32 : MICRO_COLUMNS;  // outputs in a panel of packed weights
template <typename T>
constexpr int64_t ROW_MULTIPLE = TILES<T> ? 32 : 1;  // the number of rows is padded to a multiple of this
template <typename T>
constexpr int64_t MAX_ROWS = TILES<T> ? 256 : 128;  // rows at a time: all their activations fit L2
constexpr int64_t L1_WEIGHT_BYTES = 24 << 10;       // size of the chunk of a panel that all rows are multiplied by
constexpr double SHARED_PENALTY = 1.3;  // time of sharing rows, relative to groups that keep all threads equally busy

// Filled in by native.py.
struct Linear {
  // Packed in panels, KR consecutive inputs in each 4 bytes. For vectors [outputs / PANEL][inputs / KR][PANEL][KR], for
  // tiles [outputs / 32][inputs / 16 KR][2][16][16][KR].
  const void* weights;
  const float* scale;           // of each output, for int8
  const int32_t* compensation;  // added to the accumulators of each output, for uint8_t
  const float* bias;
  int64_t inputs, outputs;
};
struct Norm {
  const float *gamma, *beta;
  float epsilon;
};
struct Layer {
  Linear qkv, output, up, down;
  Norm attention_norm, output_norm;
};

// The size of each struct and the offsets of its fields, which native.py compares with its own.
struct LayoutEntry {
  const char* name;  // null at the end
  int64_t value;
};
#define FIELD(STRUCT, NAME) {#NAME, offsetof(STRUCT, NAME)}
extern "C" const LayoutEntry layout[] = {
    {"size", sizeof(Linear)}, FIELD(Linear, weights), FIELD(Linear, scale), FIELD(Linear, compensation),
    FIELD(Linear, bias), FIELD(Linear, inputs), FIELD(Linear, outputs),
    {"size", sizeof(Norm)}, FIELD(Norm, gamma), FIELD(Norm, beta), FIELD(Norm, epsilon),
    {"size", sizeof(Layer)}, FIELD(Layer, qkv), FIELD(Layer, output), FIELD(Layer, up), FIELD(Layer, down),
    FIELD(Layer, attention_norm), FIELD(Layer, output_norm),
    {nullptr, 0}};

// An uninitialised array, aligned to 64 bytes.
template <typename T>
class Array {
  std::unique_ptr<uint8_t[]> memory;
  T* aligned;

 public:
  explicit Array(int64_t count)
      : memory(new uint8_t[count * sizeof(T) + 64]), aligned((T*)((uintptr_t(memory.get()) + 63) / 64 * 64)) {}
  operator T*() { return aligned; }
};

// One thread's slice of work that `count` threads share.
struct ThreadSlice {
  int64_t index = 0, count = 1;
  int64_t begin(int64_t size) const { return size * index / count; }
  int64_t end(int64_t size) const { return size * (index + 1) / count; }
  void barrier() const {
    if (count > 1) {
#pragma omp barrier
    }
  }
};

// The first panel of a slice.
template <typename T>
static inline const Weight<T>* first_panel(const Linear& w, ThreadSlice slice) {
  return (const Weight<T>*)w.weights + slice.begin(w.outputs / PANEL<T>) * PANEL<T> * w.inputs;
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

// Offset of an activation in a packed matrix with this many columns. For tiles the order is
// [rows / 16][columns / TILE_K][16][TILE_K], where TILE_K values take 64 bytes. For vectors it is row-major, with a
// leading dimension of 68 bytes more than the columns: with a power of two, the rows of a micro-kernel would map to the
// same few sets of L1 and evict each other; and with 64 bytes more, all would reach the end of a cache line in the same
// step.
template <typename T>
static inline int64_t offset(int64_t row, int64_t column, int64_t columns) {
  constexpr int64_t TILE_K = 64 / sizeof(T);
  if constexpr (TILES<T>)
    return (row / 16 * (columns / TILE_K) + column / TILE_K) * 16 * TILE_K + row % 16 * TILE_K + column % TILE_K;
  else
    return row * (columns + TILE_K + 4 / int64_t(sizeof(T))) + column;
}

// Horner's scheme; the coefficient of the highest power is first.
static inline Floats polynomial(Floats x, std::initializer_list<float> coefficients) {
  Floats y = broadcast(*coefficients.begin());
  for (const float* c = coefficients.begin() + 1; c < coefficients.end(); c++) y = fma(y, x, broadcast(*c));
  return y;
}

// x Phi(x). Phi - 1/2 is odd, and rounds to 1/2 beyond SATURATION. It is approximated by x times a polynomial in x^2
// with an error of 3e-5 where the result is rounded more coarsely anyway, else by x times a rational function: 3e-8.
template <typename T>
static inline Floats gelu(Floats x) {
  constexpr float SATURATION = std::is_same_v<T, float> ? 5.3f : 4.2f;
  const Floats z = max(min(x, broadcast(SATURATION)), broadcast(-SATURATION));
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
  const Mask nonzero = not_less(x, broadcast(-SATURATION));  // 0 below it; NaN propagates
  return select(nonzero, x * fma(z, y, broadcast(0.5f)));
}

// p = exp((s - max s) / sqrt(d)) of a row of scores, 0 from `length` to `padded`; returns the sum of p. `scale` is
// log2 e / sqrt(d), since exp(x) = 2^(x log2 e). The integral part of the exponent goes into the float's exponent; a
// polynomial gives the rest with an error of 1e-7, or 3e-6 where p is rounded to bfloat16. `p` may be `s`.
template <typename P>
static float softmax(const float* s, int64_t length, int64_t padded, float scale, P* p) {
  Floats maximum = broadcast(-INFINITY), sum = broadcast(0);
  for (int64_t j = 0; j < length; j += WIDTH)
    maximum = select(tail_mask(length, j), max(maximum, load(s + j)), maximum);
  maximum = broadcast(reduce_max(maximum));
  for (int64_t j = 0; j < padded; j += WIDTH) {
    const Floats x = (load(s + j) - maximum) * broadcast(scale), whole = round_to_nearest(x), t = x - whole;
    Floats y;
    if constexpr (std::is_same_v<P, float>)
      y = polynomial(t, {0.00015469732170458883f, 0.0013400432653725147f, 0.00961802527308464f, 0.05550327152013779f,
                         0.24022650718688965f, 0.6931471824645996f, 1.0f});
    else
      y = polynomial(t, {0.00956051021f, 0.0559170392f, 0.240249811f, 0.693121968f, 0.999999191f});
    y = select(tail_mask(length, j), scale_by_power_of_2(y, whole));
    sum += y;
    store(p + j, y);
  }
  return reduce_add(sum);
}

// LayerNorm of a contiguous row of n values, into row `row` of the packed activations `out`.
template <typename T>
static void layer_norm(const float* x, int64_t n, const Norm& w, T* out, int64_t row) {
  Floats sum = broadcast(0), squares = broadcast(0);
  for (int64_t j = 0; j < n; j += WIDTH) sum += load(x + j);
  const Floats mean = broadcast(reduce_add(sum) / n);
  for (int64_t j = 0; j < n; j += WIDTH) {
    const Floats centred = load(x + j) - mean;
    squares = fma(centred, centred, squares);
  }
  const Floats inverse_deviation = broadcast(1 / std::sqrt(reduce_add(squares) / n + w.epsilon));
  for (int64_t j = 0; j < n; j += WIDTH) {
    const Floats normalised = (load(x + j) - mean) * inverse_deviation;
    store(out + offset<T>(row, j, n), fma(normalised, load(w.gamma + j), load(w.beta + j)));
  }
}

// Quantises a row symmetrically to -127..127 (for uint8_t, plus 128) and returns its scale. A NaN in the row makes the
// scale NaN, and with it every product of the row.
template <typename T>
static float quantise_row(const Activation<T>* x, int64_t n, int64_t row, T* out) {
  Floats maximum = broadcast(1e-12f);
  bool has_nan = false;
  for (int64_t j = 0; j < n; j += WIDTH) {
    const Floats y = load(x + offset<Activation<T>>(row, j, n));
    maximum = max(maximum, absolute(y));
    has_nan |= any_nan(y);
  }
  const float largest = has_nan ? NAN : reduce_max(maximum);
  const Floats inverse_scale = broadcast(127 / largest);
  for (int64_t j = 0; j < n; j += WIDTH)
    store_rounded(out + offset<T>(row, j, n), load(x + offset<Activation<T>>(row, j, n)) * inverse_scale);
  return largest / 127;
}

#ifdef __AVX512BF16__
// Rounds a row to bfloat16.
static void round_row(const float* x, int64_t n, int64_t row, vector_bf16* out) {
  for (int64_t j = 0; j < n; j += 16)
    store((bf16*)out + offset<vector_bf16>(row, j, n), load(x + offset<float>(row, j, n)));
}
#endif

// ----------------------------------------------------------------------------------------------- GEMM with vectors

// acc += x w in each 32-bit lane: KR products of T, summed. `x` has the same KR values in all lanes. In inline
// assembly, because gcc needs a second register for some accumulators with the intrinsics.
template <typename T>
using Accumulator = std::conditional_t<INT8<T>, Integers, Floats>;
template <typename T>
static inline Accumulator<T> multiply_add(Accumulator<T> acc, Accumulator<T> x, Accumulator<T> w) {
  if constexpr (std::is_same_v<T, float>) multiply_add(acc, x, w);
#ifdef HAS_INT16_PAIRS
  else if constexpr (std::is_same_v<T, int16_t>) acc += multiply_pairs(x, w);
#endif
#ifdef __AVX512F__
  else if constexpr (std::is_same_v<T, uint8_t>) asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(x), "v"(w));
  else asm("vdpbf16ps %2, %1, %0" : "+v"(acc) : "v"(x), "v"(w));
#endif
  return acc;
}
template <typename T>
static inline Accumulator<T> load_weights(const Weight<T>* w) {
#ifdef HAS_INT16_PAIRS
  if constexpr (std::is_same_v<T, int16_t>) return load_widened(w);
#endif
  return *(const Accumulator<T>*)w;
}
// The next KR activations of a row, in all lanes.
template <typename T>
static inline Accumulator<T> broadcast_activations(const T* x) {
  float bytes;
  std::memcpy(&bytes, x, 4);
  return (Accumulator<T>)broadcast(bytes);
}

// Calls `work` with the number of rows, 1 to MICRO_ROWS, as a compile-time constant.
template <int R = MICRO_ROWS, typename F>
static inline void with_constant_rows(int64_t rows, F work) {
  if (rows == R) work(std::integral_constant<int, R>());
  else if constexpr (R > 1) with_constant_rows<R - 1>(rows, work);
}

// Calls `work` with each of 0 to R - 1 as a compile-time constant.
template <int R, typename F>
static inline __attribute__((always_inline)) void unroll(F work) {
  [&]<int... r>(std::integer_sequence<int, r...>) __attribute__((always_inline)) {
    (work(std::integral_constant<int, r>()), ...);
  }(std::make_integer_sequence<int, R>());
}

// Bytes of packed weights that a step of the micro-kernel reads, and those that one prefetch instruction covers.
template <typename T>
constexpr int64_t STEP_BYTES = MICRO_COLUMNS * 4 / sizeof(T) * sizeof(Weight<T>);
template <typename T>
constexpr int64_t PREFETCH_BYTES = STEP_BYTES<T> < 64 ? STEP_BYTES<T> : 64;

// The micro-kernel: adds R rows of activations, `stride` apart, times `steps` steps of a panel to the accumulators
// [R][MICRO_VECTORS]. Each step also prefetches PREFETCH_BYTES from `prefetch` on, and as many from `second` bytes
// later.
template <typename T, int R>
static inline void micro_kernel(const T* x, int64_t stride, const Weight<T>* weights, int64_t steps,
                                const void* prefetch, int64_t second, Accumulator<T>* accumulators) {
  constexpr int64_t KR = 4 / sizeof(T);
  Accumulator<T> acc[R * MICRO_VECTORS];
  unroll<R * MICRO_VECTORS>([&](auto i) __attribute__((always_inline)) { acc[i] = accumulators[i]; });
  const char* line = (const char*)prefetch;
  for (int64_t k = 0; k < steps; k++, x += KR, weights += MICRO_COLUMNS * KR, line += PREFETCH_BYTES<T>) {
    __builtin_prefetch(line, 0, 2);
    if constexpr (STEP_BYTES<T> > PREFETCH_BYTES<T>) __builtin_prefetch(line + second, 0, 2);
    Accumulator<T> w[MICRO_VECTORS];
    unroll<MICRO_VECTORS>([&](auto i) __attribute__((always_inline)) {
      w[i] = load_weights<T>(weights + i * WIDTH * KR);
    });
    unroll<R>([&](auto r) __attribute__((always_inline)) {
      const Accumulator<T> a = broadcast_activations(x + r * stride);
      unroll<MICRO_VECTORS>([&](auto i) __attribute__((always_inline)) {
        acc[r * MICRO_VECTORS + i] = multiply_add<T>(acc[r * MICRO_VECTORS + i], a, w[i]);
      });
    });
  }
  unroll<R * MICRO_VECTORS>([&](auto i) __attribute__((always_inline)) { accumulators[i] = acc[i]; });
}

// Splits rows into blocks of about equal height, at most MICRO_ROWS: `work(number, first, height)`, where the height is
// a compile-time constant.
template <typename F>
static inline void for_row_blocks(int64_t rows, F work) {
  const int64_t count = (rows + MICRO_ROWS - 1) / MICRO_ROWS;
  for (int64_t i = 0; i < count; i++) {
    const int64_t first = rows * i / count;
    with_constant_rows(rows * (i + 1) / count - first, [&](auto height) { work(i, first, height); });
  }
}

// x w^T + b for this slice of the outputs, at most MAX_ROWS rows. `epilogue(row, column, y)` gets each vector of the
// result once. The first weights of `next`, the product that follows, are prefetched at the end.
template <typename T, typename F>
static inline std::enable_if_t<!TILES<T>> gemm(const T* x, const float* x_scale, int64_t rows, const Linear& w,
                                               const Linear& next, ThreadSlice slice, F epilogue) {
  constexpr int64_t KR = 4 / sizeof(T), LINES = STEP_BYTES<T> / PREFETCH_BYTES<T>;
  constexpr int64_t CHUNK_STEPS = L1_WEIGHT_BYTES / STEP_BYTES<T>;
  const int64_t steps = w.inputs / KR, stride = offset<T>(1, 0, w.inputs), end = slice.end(w.outputs / MICRO_COLUMNS);
  Accumulator<T> accumulators[MAX_ROWS<T> * MICRO_VECTORS];
  for (int64_t n = slice.begin(w.outputs / MICRO_COLUMNS); n < end; n++)
    for (int64_t start = 0; start < steps; start += CHUNK_STEPS) {
      const int64_t count = std::min(CHUNK_STEPS, steps - start);
      const Weight<T>* weights = (const Weight<T>*)w.weights + (n * steps + start) * MICRO_COLUMNS * KR;
      const Weight<T>* next_chunk = n + 1 == end && start + count == steps ? first_panel<T>(next, slice)
                                                                        : weights + count * MICRO_COLUMNS * KR;
      for_row_blocks(rows, [&](int64_t number, int64_t first, auto height) {
        Accumulator<T>* acc = accumulators + MICRO_VECTORS * first;
        if (start == 0) std::memset(acc, 0, height * MICRO_VECTORS * sizeof *acc);
        // The first LINES row blocks prefetch the next chunk, a cache line of each step each; a single block both.
        micro_kernel<T, height>(
            x + first * stride + start * KR, stride, weights, count,
            number < LINES ? (const char*)next_chunk + number * count * PREFETCH_BYTES<T> : (const char*)weights,
            rows <= MICRO_ROWS ? count * PREFETCH_BYTES<T> : 0, acc);
        if (start + count == steps)
          for (int64_t i = 0; i < MICRO_VECTORS * height; i++) {
            const int64_t row = first + i / MICRO_VECTORS, column = n * MICRO_COLUMNS + i % MICRO_VECTORS * WIDTH;
            const Floats bias = load(w.bias + column);
            if constexpr (INT8<T>) {
              const Integers sum = std::is_same_v<T, uint8_t> ? acc[i] + load(w.compensation + column) : acc[i];
              epilogue(row, column, fma(to_floats(sum), broadcast(x_scale[row]) * load(w.scale + column), bias));
            } else {
              epilogue(row, column, acc[i] + bias);
            }
          }
      });
    }
}

// For one head of one sequence: keys [padded / PANEL][d][PANEL] and values [d / PANEL][length][PANEL], packed as right
// operands, and the scores of a block of queries, [MICRO_ROWS][padded]; `padded` is the length rounded up to a multiple
// of 32.
template <typename Act>
struct AttentionWorkspace {
  Array<float> keys, values, scores;
  AttentionWorkspace(int64_t padded, int64_t d) : keys(padded * d), values(padded * d), scores(MICRO_ROWS * padded) {}
};

// softmax(q k^T / sqrt(d)) v for one head of one sequence. `qkv` points to the first query, tokens are `stride` apart.
// The context goes to `out` [rows, h], from `row` and `column` on.
static void attention(const float* qkv, int64_t stride, int64_t length, int64_t h, int64_t d, float* out, int64_t row,
                      int64_t column, AttentionWorkspace<float>& workspace) {
  const int64_t padded = (length + 31) / 32 * 32;
  const float scale = 1.4426950408889634f / std::sqrt(float(d));
  const float *k = qkv + h, *v = qkv + 2 * h;
  for (int64_t i = 0; i < padded; i += WIDTH)
    for (int64_t j = 0; j < d; j++)
      store(workspace.keys + (i / MICRO_COLUMNS * d + j) * MICRO_COLUMNS + i % MICRO_COLUMNS,
            gather(tail_mask(length, i), k + i * stride + j, stride));
  for (int64_t i = 0; i < length; i++)
    for (int64_t j = 0; j < d; j += WIDTH)
      store(workspace.values + (j / MICRO_COLUMNS * length + i) * MICRO_COLUMNS + j % MICRO_COLUMNS,
            load(v + i * stride + j));
  for_row_blocks(length, [&](int64_t, int64_t first, auto height) {
    const float* queries = qkv + first * stride;
    Floats acc[MICRO_VECTORS * height];
    for (int64_t j = 0; j < padded; j += MICRO_COLUMNS) {
      std::memset(acc, 0, sizeof acc);
      micro_kernel<float, height>(queries, stride, workspace.keys + j * d, d, workspace.keys, 0, acc);
      for (int i = 0; i < MICRO_VECTORS * height; i++)
        store(workspace.scores + i / MICRO_VECTORS * padded + j + i % MICRO_VECTORS * WIDTH, acc[i]);
    }
    float inverse_sum[height];
    for (int r = 0; r < height; r++) {
      float* scores = workspace.scores + r * padded;
      inverse_sum[r] = 1 / softmax(scores, length, padded, scale, scores);
    }
    for (int64_t j = 0; j < d; j += MICRO_COLUMNS) {
      const float* values = workspace.values + j * length;
      std::memset(acc, 0, sizeof acc);
      micro_kernel<float, height>(workspace.scores, padded, values, length, values, 0, acc);
      for (int i = 0; i < MICRO_VECTORS * height; i++)
        store(out + offset<float>(row + first + i / MICRO_VECTORS, column + j + i % MICRO_VECTORS * WIDTH, h),
              acc[i] * broadcast(inverse_sum[i / MICRO_VECTORS]));
    }
  });
}

// -------------------------------------------------------------------------------------------------- GEMM with tiles
#ifdef HAS_TILES

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// The tile intrinsics do not tell gcc that they read memory, so that it would move stores behind them.
static inline void compiler_fence() { asm volatile("" ::: "memory"); }

// The same with tiles: blocks of 32 x 32 in tiles 0 to 3, left operands in 4 and 5, weights in 6 and 7.
template <typename T, typename F>
static inline std::enable_if_t<TILES<T>> gemm(const T* x, const float* x_scale, int64_t rows, const Linear& w,
                                              const Linear& next, ThreadSlice slice, F epilogue) {
  constexpr int64_t TILE_K = 64 / sizeof(T), TILE = 16 * TILE_K;
  constexpr int64_t CHUNK_STEPS = L1_WEIGHT_BYTES / (64 * PANEL<T>);
  const int64_t steps = w.inputs / TILE_K, end = slice.end(w.outputs / PANEL<T>);
  const int64_t lines = (32 * PANEL<T> + rows - 1) / rows;  // cache lines, of a step's 32, that a block prefetches
  alignas(64) float sums[MAX_ROWS<T> * PANEL<T>];
  int64_t row = 0, last_row = 0, column = 0;  // the block whose sums are complete and await their epilogue
  compiler_fence();
  auto run_epilogue = [&](int64_t count) {
    for (const int64_t last = std::min(last_row, row + count); row < last; row++)
      for (int64_t j = 0; j < PANEL<T>; j += 16) {
        const float* sum = sums + row * PANEL<T> + j;
        const Floats bias = load(w.bias + column + j);
        if constexpr (TILE_K == 32) {
          epilogue(row, column + j, load(sum) + bias);
        } else {
          const Floats scale = broadcast(x_scale[row]) * load(w.scale + column + j);
          epilogue(row, column + j, fma(to_floats(load((const int32_t*)sum)), scale, bias));
        }
      }
  };
  for (int64_t n = slice.begin(w.outputs / PANEL<T>); n < end; n++)
    for (int64_t first = 0; first < steps; first += CHUNK_STEPS) {
      const int64_t last = std::min(steps, first + CHUNK_STEPS);
      const int64_t epilogue_rows = (PANEL<T> + last - first - 1) / (last - first);  // in each step
      for (int64_t m = 0; m < rows; m += PANEL<T>) {
        float* sum = sums + m * PANEL<T>;
        if (first == 0) {
          _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
        } else {
          _tile_loadd(0, sum, 128); _tile_loadd(1, sum + 16, 128);
          _tile_loadd(2, sum + 512, 128); _tile_loadd(3, sum + 528, 128);
        }
        const T *upper = x + m / 16 * steps * TILE, *lower = upper + steps * TILE;  // 16 rows each
        const T* weights = (const T*)w.weights + n * PANEL<T> * w.inputs;
        const T* next_chunk = n + 1 == end && last == steps ? first_panel<T>(next, slice) : weights + 2 * last * TILE;
        for (int64_t k = first; k < last; k++) {
          for (int64_t line = m / PANEL<T> * lines; line < std::min<int64_t>(32, (m / PANEL<T> + 1) * lines); line++)
            _mm_prefetch((const char*)(next_chunk + 2 * (k - first) * TILE) + 64 * line, _MM_HINT_T1);
          _tile_loadd(4, upper + k * TILE, 64);
          _tile_loadd(6, weights + 2 * k * TILE, 64);
          _tile_loadd(7, weights + (2 * k + 1) * TILE, 64);
          _tile_loadd(5, lower + k * TILE, 64);
          if constexpr (TILE_K == 32) {
            _tile_dpbf16ps(0, 4, 6); _tile_dpbf16ps(1, 4, 7); _tile_dpbf16ps(2, 5, 6); _tile_dpbf16ps(3, 5, 7);
          } else {
            _tile_dpbssd(0, 4, 6); _tile_dpbssd(1, 4, 7); _tile_dpbssd(2, 5, 6); _tile_dpbssd(3, 5, 7);
          }
          run_epilogue(epilogue_rows);
        }
        _tile_stored(0, sum, 128); _tile_stored(1, sum + 16, 128);
        _tile_stored(2, sum + 512, 128); _tile_stored(3, sum + 528, 128);
        if (last == steps) row = m, last_row = m + PANEL<T>, column = n * PANEL<T>;
      }
    }
  run_epilogue(PANEL<T>);
}

// Right operands are packed with two rows interleaved, as tiles need them (VNNI layout), so that one uint32_t holds a
// pair; `padded` is the length rounded up to a multiple of 32.
template <>
struct AttentionWorkspace<bf16> {
  Array<uint32_t> keys, values;        // [d / 2, padded], transposed, and [padded / 2, d]
  Array<bf16> queries, probabilities;  // [16, d] and [16, padded]
  Array<float> scores, context;        // [16, padded] and [16, d]
  AttentionWorkspace(int64_t padded, int64_t d)
      : keys(padded * d / 2), values(padded * d / 2), queries(16 * d), probabilities(16 * padded), scores(16 * padded),
        context(16 * d) {}
};

// 0, stride, 2 stride, ..., 15 stride.
static inline __m512i lane_offsets(int64_t stride) {
  return _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                            _mm512_set1_epi32(stride));
}

static void pack_keys_and_values(const bf16* k, const bf16* v, int64_t stride, int64_t length, int64_t padded,
                                 int64_t d, AttentionWorkspace<bf16>& workspace) {
  const __m512i offsets = lane_offsets(stride / 2);
  for (int64_t i = 0; i < padded; i += 16)
    for (int64_t j = 0; j < d / 2; j++)
      _mm512_store_si512(workspace.keys + j * padded + i,
                         _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), tail_mask(length, i), offsets,
                                                     (const int*)(k + i * stride) + j, 4));
  for (int64_t i = 0; i < padded; i += 2) {
    const bf16 *first = v + i * stride, *second = first + stride;
    uint32_t* __restrict packed = workspace.values + i / 2 * d;
    if (i + 1 < length)
      for (int64_t j = 0; j < d; j++) packed[j] = first[j] | uint32_t(second[j]) << 16;
    else
      for (int64_t j = 0; j < d; j++) packed[j] = i < length ? first[j] : 0;
  }
}

// c [16, N of the columns] = a [16, inner] b, N 64 or 32, with b packed in pairs of rows, [inner / 2, columns].
template <int64_t N>
static inline void attention_gemm(const bf16* a, int64_t a_stride, const uint32_t* b, int64_t columns, int64_t inner,
                                  float* c) {
  _tile_zero(0); _tile_zero(1);
  if constexpr (N == 64) { _tile_zero(2); _tile_zero(3); }
  for (int64_t i = 0; i < inner; i += 32, b += 16 * columns) {
    _tile_loadd(4, a + i, a_stride * 2);
    _tile_loadd(5, b, columns * 4); _tile_loadd(6, b + 16, columns * 4);
    _tile_dpbf16ps(0, 4, 5); _tile_dpbf16ps(1, 4, 6);
    if constexpr (N == 64) {
      _tile_loadd(7, b + 32, columns * 4); _tile_loadd(5, b + 48, columns * 4);
      _tile_dpbf16ps(2, 4, 7); _tile_dpbf16ps(3, 4, 5);
    }
  }
  _tile_stored(0, c, columns * 4); _tile_stored(1, c + 16, columns * 4);
  if constexpr (N == 64) { _tile_stored(2, c + 32, columns * 4); _tile_stored(3, c + 48, columns * 4); }
}

// The same for all columns, a multiple of 32.
static inline void attention_gemm(const bf16* a, int64_t a_stride, const uint32_t* b, int64_t columns, int64_t inner,
                                  float* c) {
  compiler_fence();
  int64_t j = 0;
  for (; j + 64 <= columns; j += 64) attention_gemm<64>(a, a_stride, b + j, columns, inner, c + j);
  if (j < columns) attention_gemm<32>(a, a_stride, b + j, columns, inner, c + j);
}

// The same with tiles.
static void attention(const bf16* qkv, int64_t stride, int64_t length, int64_t h, int64_t d, bf16* out, int64_t row,
                      int64_t column, AttentionWorkspace<bf16>& workspace) {
  const int64_t padded = (length + 31) / 32 * 32;
  const float scale = 1.4426950408889634f / std::sqrt(float(d));
  pack_keys_and_values(qkv + h, qkv + 2 * h, stride, length, padded, d, workspace);
  for (int64_t start = 0; start < length; start += 16) {
    const int64_t rows = std::min<int64_t>(16, length - start);
    const bf16* q = qkv + start * stride;
    if (rows < 16)  // copied, because a tile would be read beyond the end of qkv
      for (int64_t i = 0; i < rows; i++) std::memcpy(workspace.queries + i * d, q + i * stride, d * 2);
    attention_gemm(rows < 16 ? workspace.queries : q, rows < 16 ? d : stride, workspace.keys, padded, d,
                   workspace.scores);
    float sums[16];
    for (int64_t i = 0; i < rows; i++)
      sums[i] = softmax(workspace.scores + i * padded, length, padded, scale, workspace.probabilities + i * padded);
    attention_gemm(workspace.probabilities, padded, workspace.values, d, padded, workspace.context);
    for (int64_t i = 0; i < rows; i++)
      for (int64_t j = 0; j < d; j += 16)
        store(out + offset<bf16>(row + start + i, column + j, h),
              load(workspace.context + i * d + j) / broadcast(sums[i]));
  }
}

#endif

// Each thread configures its tiles before use and releases them afterwards, so that a context switch saves none.
template <typename T>
static inline void configure_tiles() {
#ifdef HAS_TILES
  const TileConfig config;
  if constexpr (TILES<T>) _tile_loadconfig(&config);
#endif
}
template <typename T>
static inline void release_tiles() {
#ifdef HAS_TILES
  if constexpr (TILES<T>) _tile_release();
#endif
}

// ---------------------------------------------------------------------------------------------------- encoder layers

// Activations of a group of sequences. `hidden`, `qkv` and `context` hold all rows; the others, which live only within
// attention_output_and_mlp, at most MAX_ROWS.
template <typename T>
struct Workspace {
  using Act = Activation<T>;
  Array<Act> hidden, qkv, context;
  Array<float> sums;                  // of a product and the residual, [block, h]
  Array<float> scale;                 // of each quantised row
  Array<Act> attended, intermediate;  // after the attention's LayerNorm, and after gelu
  Array<T> quantised;                 // left operand, where it is of another type than the activations
  Workspace(int64_t rows, int64_t h, int64_t columns, int64_t block)
      : hidden(offset<Act>(rows, 0, h)), qkv(offset<Act>(rows, 0, 3 * h)), context(offset<Act>(rows, 0, h)),
        sums(block * h), scale(block), attended(offset<Act>(block, 0, h)), intermediate(offset<Act>(block, 0, columns)),
        quantised(std::is_same_v<T, Act> ? 0 : offset<T>(block, 0, std::max(h, columns))) {}
  Workspace(int64_t rows, const Layer& layer)
      : Workspace(rows, layer.output.outputs, layer.up.outputs, std::min(rows, MAX_ROWS<T>)) {}

  // The activations as a left operand: themselves, or quantised or rounded.
  const T* left_operand(const Act* x, int64_t columns, int64_t rows, ThreadSlice slice) {
    if constexpr (std::is_same_v<T, Act>) {
      return x;
    } else {
      for (int64_t r = slice.begin(rows); r < slice.end(rows); r++)
        if constexpr (INT8<T>) scale[r] = quantise_row<T>(x, columns, r, quantised);
        else round_row(x, columns, r, quantised);
      slice.barrier();
      return quantised;
    }
  }
};

// Queries, keys and values of at most MAX_ROWS rows, [rows, 3 h] with tokens `stride` apart.
template <typename T>
static void project_qkv(const Linear& w, const Linear& next, const Activation<T>* hidden, Activation<T>* qkv,
                        int64_t stride, int64_t rows, Workspace<T>& workspace, ThreadSlice slice) {
  const T* x = workspace.left_operand(hidden, w.inputs, rows, slice);
  gemm<T>(x, workspace.scale, rows, w, next, slice,
          [&](int64_t r, int64_t c, Floats y) { store(qkv + r * stride + c, y); });
  slice.barrier();
}

// From attention's context to the layer's output, which overwrites its input in `hidden`. At most MAX_ROWS rows.
template <typename T>
static void attention_output_and_mlp(const Layer& w, const Linear& next, const Activation<T>* context,
                                     Activation<T>* hidden, int64_t rows, Workspace<T>& workspace, ThreadSlice slice) {
  using Act = Activation<T>;
  const int64_t h = w.output.outputs;
  auto add_residual = [&](const Act* residual) {
    return [&workspace, residual, h](int64_t r, int64_t c, Floats y) {
      store(workspace.sums + r * h + c, y + load(residual + offset<Act>(r, c, h)));
    };
  };
  auto normalise = [&](const Norm& norm, Act* out) {
    slice.barrier();
    for (int64_t r = slice.begin(rows); r < slice.end(rows); r++) layer_norm(workspace.sums + r * h, h, norm, out, r);
    slice.barrier();
  };
  gemm<T>(workspace.left_operand(context, h, rows, slice), workspace.scale, rows, w.output, w.up, slice,
          add_residual(hidden));
  normalise(w.attention_norm, workspace.attended);
  gemm<T>(workspace.left_operand(workspace.attended, h, rows, slice), workspace.scale, rows, w.up, w.down, slice,
          [&](int64_t r, int64_t c, Floats y) {
            store(workspace.intermediate + offset<Act>(r, c, w.up.outputs), gelu<T>(y));
          });
  slice.barrier();
  gemm<T>(workspace.left_operand(workspace.intermediate, w.down.inputs, rows, slice), workspace.scale, rows, w.down,
          next, slice, add_residual(workspace.attended));
  normalise(w.output_norm, hidden);
}

template <typename T>
static inline int64_t padded_rows(int64_t rows) {
  return (rows + ROW_MULTIPLE<T> - 1) / ROW_MULTIPLE<T> * ROW_MULTIPLE<T>;
}

// A group of sequences through all layers, by one thread, or by several that each take a slice of it.
template <typename T>
static void forward(const Layer* layers, int64_t count, int64_t heads, const Activation<T>* embedded,
                    const int32_t* starts, int64_t sequences, Workspace<T>& workspace,
                    AttentionWorkspace<Activation<T>>& attention_workspace, ThreadSlice slice, Activation<T>* out) {
  using Act = Activation<T>;
  constexpr int64_t LINE = 64 / sizeof(Act);  // values in a cache line, which are contiguous in every layout
  const int64_t h = layers->output.outputs, d = h / heads, tokens = starts[sequences] - starts[0];
  const int64_t rows = padded_rows<T>(tokens), pairs = sequences * heads;
  const int64_t stride = TILES<T> ? 3 * h : offset<Act>(1, 0, 3 * h);  // from token to token: qkv is always row-major
  embedded += starts[0] * h, out += starts[0] * h;
  for (int64_t r = slice.begin(rows); r < slice.end(rows); r++)
    for (int64_t j = 0; j < h; j += LINE) {
      Act* x = workspace.hidden + offset<Act>(r, j, h);
      r < tokens ? std::memcpy(x, embedded + r * h + j, 64) : std::memset(x, 0, 64);  // rows of padding
      if (r >= tokens) std::memset(workspace.context + offset<Act>(r, j, h), 0, 64);
    }
  slice.barrier();
  for (const Layer* layer = layers; layer < layers + count; layer++) {
    const Layer* next = layer + 1 < layers + count ? layer + 1 : layers;
    for (int64_t m = 0; m < rows; m += MAX_ROWS<T>)
      project_qkv<T>(layer->qkv, layer->output, workspace.hidden + offset<Act>(m, 0, h), workspace.qkv + m * stride,
                     stride, std::min(MAX_ROWS<T>, rows - m), workspace, slice);
    for (int64_t pair = slice.index; pair < pairs; pair += slice.count) {
      const int64_t first = starts[pair / heads] - starts[0], length = starts[pair / heads + 1] - starts[pair / heads];
      const int64_t column = pair % heads * d;
      attention(workspace.qkv + first * stride + column, stride, length, h, d, workspace.context, first, column,
                attention_workspace);
    }
    slice.barrier();
    for (int64_t m = 0; m < rows; m += MAX_ROWS<T>)
      attention_output_and_mlp<T>(*layer, next->qkv, workspace.context + offset<Act>(m, 0, h),
                                  workspace.hidden + offset<Act>(m, 0, h), std::min(MAX_ROWS<T>, rows - m), workspace,
                                  slice);
  }
  for (int64_t r = slice.begin(tokens); r < slice.end(tokens); r++)
    for (int64_t j = 0; j < h; j += LINE)
      std::memcpy(out + r * h + j, workspace.hidden + offset<Act>(r, j, h), 64);
}

// Splits the sequences into groups of at most `max_rows` rows (a longer sequence is a group by itself), and of at least
// half as many where that reduces the padding. Returns the first sequence of each group, and the end of the last.
template <typename T>
static std::vector<int64_t> group_sequences(const int32_t* starts, int64_t sequences, int64_t max_rows) {
  std::vector<int64_t> groups = {0};
  while (groups.back() < sequences) {
    const int64_t first = groups.back();
    int64_t best = first + 1;
    double least_padding = INFINITY;
    for (int64_t end = first + 1; end <= sequences; end++) {
      const int64_t tokens = starts[end] - starts[first];
      if (tokens > max_rows) break;
      const double padding = double(padded_rows<T>(tokens)) / tokens;
      if (2 * tokens < max_rows || padding <= least_padding)
        best = end, least_padding = 2 * tokens < max_rows ? INFINITY : padding;
    }
    groups.push_back(best);
  }
  return groups;
}

// Rows of the busiest thread, if each group goes to the thread that is free first.
template <typename T>
static int64_t busiest_thread_rows(const std::vector<int64_t>& groups, const int32_t* starts, int64_t threads) {
  std::vector<int64_t> rows(threads, 0);
  for (size_t i = 0; i + 1 < groups.size(); i++)
    *std::min_element(rows.begin(), rows.end()) += padded_rows<T>(starts[groups[i + 1]] - starts[groups[i]]);
  return *std::max_element(rows.begin(), rows.end());
}

template <typename T>
static void encode(const Layer* layers, int64_t count, int64_t heads, const Activation<T>* embedded,
                   const int32_t* starts, int64_t sequences, int64_t longest, int64_t threads, Activation<T>* out) {
  const int64_t rows = padded_rows<T>(starts[sequences]), d = layers->output.outputs / heads;
  const int64_t max_rows = std::min(MAX_ROWS<T>, padded_rows<T>((rows + threads - 1) / threads));
  const std::vector<int64_t> groups = group_sequences<T>(starts, sequences, max_rows);
  const bool shared = busiest_thread_rows<T>(groups, starts, threads) * threads > SHARED_PENALTY * rows;
  Workspace<T> common(shared ? rows : 0, *layers);
#pragma omp parallel num_threads(threads)
  {
    configure_tiles<T>();
    AttentionWorkspace<Activation<T>> attention_workspace((longest + 31) / 32 * 32, d);
    if (shared) {
      const ThreadSlice slice{omp_get_thread_num(), omp_get_num_threads()};
      forward(layers, count, heads, embedded, starts, sequences, common, attention_workspace, slice, out);
    } else {
      Workspace<T> own(std::max(max_rows, padded_rows<T>(longest)), *layers);
#pragma omp for schedule(dynamic)
      for (size_t i = 0; i < groups.size() - 1; i++)
        forward(layers, count, heads, embedded, starts + groups[i], groups[i + 1] - groups[i], own,
                attention_workspace, ThreadSlice{}, out);
    }
    release_tiles<T>();
  }
}

// For timing: the linear layers' products alone, of `count` layers and this many tokens, with threads as in `encode`.
template <typename T>
static void gemms(const Layer* layers, int64_t count, int64_t tokens, int64_t threads) {
  const int64_t rows = padded_rows<T>(tokens), h = layers->output.outputs, intermediate = layers->up.outputs;
  const int64_t max_rows = std::min(MAX_ROWS<T>, padded_rows<T>((rows + threads - 1) / threads));
  std::vector<int32_t> starts(tokens + 1);  // as if each token were a sequence, so that groups can be split anywhere
  for (int64_t i = 0; i <= tokens; i++) starts[i] = i;
  const std::vector<int64_t> groups = group_sequences<T>(starts.data(), tokens, max_rows);
  const bool shared = busiest_thread_rows<T>(groups, starts.data(), threads) * threads > SHARED_PENALTY * rows;
  const int64_t widest = std::max({3 * h, h, intermediate});
  auto left_operand = [&](int64_t some) {
    Array<T> x(offset<T>(some, 0, widest));
    std::memset(x, 0x3f, offset<T>(some, 0, widest) * sizeof(T));  // about 0.75, or 63
    return x;
  };
  auto multiply = [&](const T* x, float* out, int64_t some, ThreadSlice slice) {
    float scale[MAX_ROWS<T>];
    std::fill(scale, scale + MAX_ROWS<T>, 1.0f);
    for (const Layer* layer = layers; layer < layers + count; layer++) {
      const Linear* all[] = {&layer->qkv, &layer->output, &layer->up, &layer->down};
      for (int i = 0; i < 4; i++)
        for (int64_t m = 0; m < some; m += MAX_ROWS<T>) {
          const int64_t stride = all[i]->outputs;
          gemm<T>(x + offset<T>(m, 0, all[i]->inputs), scale, std::min(MAX_ROWS<T>, some - m), *all[i],
                  *all[(i + 1) % 4], slice,
                  [&](int64_t r, int64_t c, Floats y) { store(out + (m + r) * stride + c, y); });
        }
      slice.barrier();
    }
    asm volatile("" ::"r"(out) : "memory");  // keeps the compiler from dropping the stores
  };
  Array<T> x = left_operand(shared ? rows : 0);
  Array<float> y((shared ? rows : 0) * widest);
#pragma omp parallel num_threads(threads)
  {
    configure_tiles<T>();
    if (shared) {
      multiply(x, y, rows, ThreadSlice{omp_get_thread_num(), omp_get_num_threads()});
    } else {
      Array<T> own = left_operand(max_rows);
      Array<float> out(max_rows * widest);
#pragma omp for schedule(dynamic)
      for (size_t i = 0; i < groups.size() - 1; i++)
        multiply(own, out, padded_rows<T>(groups[i + 1] - groups[i]), ThreadSlice{});
    }
    release_tiles<T>();
  }
}

// NAME: embedded [tokens, h] -> out [tokens, h], through `count` layers. Sequence i is tokens starts[i] to
// starts[i + 1] - 1; `longest` is the length of the longest. All sizes are multiples of PANEL; for int8_by_tiles, the
// inputs and outputs of linear layers are multiples of 64.
#define ENCODE(NAME, T)                                                                                       \
  extern "C" void NAME(const Layer* layers, int64_t count, int64_t heads, const Activation<T>* embedded,      \
                       const int32_t* starts, int64_t sequences, int64_t longest, int64_t threads,            \
                       Activation<T>* out) {                                                                  \
    encode<T>(layers, count, heads, embedded, starts, sequences, longest, threads, out);                      \
  }                                                                                                           \
  extern "C" void NAME##_gemms(const Layer* layers, int64_t count, int64_t tokens, int64_t threads) {         \
    gemms<T>(layers, count, tokens, threads);                                                                 \
  }
ENCODE(fp32_by_vectors, float)
#ifdef HAS_INT16_PAIRS
ENCODE(int8_by_pairs, int16_t)
#endif
#ifdef __AVX512BF16__
ENCODE(bf16_by_vectors, vector_bf16)
#endif
#ifdef __AVX512VNNI__
ENCODE(int8_by_vectors, uint8_t)
#endif
#ifdef HAS_TILES
ENCODE(bf16_by_tiles, bf16)
ENCODE(int8_by_tiles, int8_t)

// Linux lets a process use AMX after it has asked for it. 0: granted.
extern "C" int64_t request_tiles() { return syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18); }
#endif
