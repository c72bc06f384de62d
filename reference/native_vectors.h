// A vector of float32 as wide as the processor has: 16 lanes with AVX-512, 8 with AVX2, 4 with NEON. Each of the three
// has the operations that native_layers.cpp needs, under the same names, so that its loops are written once.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#if defined __x86_64__
#include <immintrin.h>
#elif defined __aarch64__
#include <arm_neon.h>
#endif

#if defined __AVX512F__

constexpr int64_t WIDTH = 16;
typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Integers __attribute__((vector_size(64)));
using Mask = __mmask16;  // one bit for each lane

static inline Floats broadcast(float x) { return (Floats)_mm512_set1_ps(x); }
static inline Floats load(const float* p) { return (Floats)_mm512_loadu_ps(p); }
static inline void store(float* p, Floats x) { _mm512_storeu_ps(p, (__m512)x); }
static inline Integers load(const int32_t* p) { return (Integers)_mm512_loadu_si512(p); }
static inline Floats to_floats(Integers x) { return (Floats)_mm512_cvtepi32_ps((__m512i)x); }
static inline Floats fma(Floats x, Floats y, Floats z) {
  return (Floats)_mm512_fmadd_ps((__m512)x, (__m512)y, (__m512)z);
}
static inline Floats max(Floats x, Floats y) { return (Floats)_mm512_max_ps((__m512)x, (__m512)y); }
static inline Floats min(Floats x, Floats y) { return (Floats)_mm512_min_ps((__m512)x, (__m512)y); }
static inline Floats absolute(Floats x) { return (Floats)_mm512_abs_ps((__m512)x); }
static inline Floats round_to_nearest(Floats x) {
  return (Floats)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT);
}
static inline float reduce_add(Floats x) { return _mm512_reduce_add_ps((__m512)x); }
static inline float reduce_max(Floats x) { return _mm512_reduce_max_ps((__m512)x); }

// The lanes whose index, counted from `j`, is below `length`.
static inline Mask tail_mask(int64_t length, int64_t j) {
  return length - j >= 16 ? 0xffff : length > j ? (1 << (length - j)) - 1 : 0;
}
static inline Mask not_less(Floats x, Floats y) { return _mm512_cmp_ps_mask((__m512)x, (__m512)y, _CMP_NLT_UQ); }
static inline bool any_nan(Floats x) { return _mm512_cmp_ps_mask((__m512)x, (__m512)x, _CMP_UNORD_Q); }
// x where the mask is set; elsewhere 0, or y.
static inline Floats select(Mask mask, Floats x) { return (Floats)_mm512_maskz_mov_ps(mask, (__m512)x); }
static inline Floats select(Mask mask, Floats x, Floats y) {
  return (Floats)_mm512_mask_mov_ps((__m512)y, mask, (__m512)x);
}
// x 2^power; the powers are integers.
static inline Floats scale_by_power_of_2(Floats x, Floats power) {
  return (Floats)_mm512_scalef_ps((__m512)x, (__m512)power);
}
// p[0], p[stride], p[2 stride], ..., where the mask is set; elsewhere 0.
static inline Floats gather(Mask mask, const float* p, int64_t stride) {
  const __m512i indices = _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                                            _mm512_set1_epi32(stride));
  return (Floats)_mm512_mask_i32gather_ps(_mm512_setzero_ps(), mask, indices, p, 4);
}
static inline void multiply_add(Floats& sum, Floats x, Floats w) {
  asm("vfmadd231ps %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
}
// Rounds to signed bytes, with saturation; below, to unsigned bytes with 128 added.
static inline void store_rounded(int8_t* p, Floats x) {
  _mm_storeu_si128((__m128i*)p, _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32((__m512)x)));
}
#ifdef __AVX512BW__
#define HAS_INT16_PAIRS
static inline void store_rounded(int16_t* p, Floats x) {
  _mm256_storeu_si256((__m256i*)p, _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32((__m512)x)));
}
static inline Integers load_widened(const int8_t* p) {
  return (Integers)_mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i*)p));
}
static inline Integers multiply_pairs(Integers x, Integers y) {
  return (Integers)_mm512_madd_epi16((__m512i)x, (__m512i)y);
}
#endif
static inline void store_rounded(uint8_t* p, Floats x) {
  _mm_storeu_si128((__m128i*)p,
                   _mm_xor_si128(_mm512_cvtsepi32_epi8(_mm512_cvtps_epi32((__m512)x)), _mm_set1_epi8(-128)));
}

#elif defined __AVX2__ && defined __FMA__

constexpr int64_t WIDTH = 8;
typedef float Floats __attribute__((vector_size(32)));
typedef int32_t Integers __attribute__((vector_size(32)));
using Mask = Integers;  // all bits of a lane, or none

static inline Floats broadcast(float x) { return (Floats)_mm256_set1_ps(x); }
static inline Floats load(const float* p) { return (Floats)_mm256_loadu_ps(p); }
static inline void store(float* p, Floats x) { _mm256_storeu_ps(p, (__m256)x); }
static inline Integers load(const int32_t* p) { return (Integers)_mm256_loadu_si256((const __m256i*)p); }
static inline Floats to_floats(Integers x) { return (Floats)_mm256_cvtepi32_ps((__m256i)x); }
static inline Floats fma(Floats x, Floats y, Floats z) {
  return (Floats)_mm256_fmadd_ps((__m256)x, (__m256)y, (__m256)z);
}
static inline Floats max(Floats x, Floats y) { return (Floats)_mm256_max_ps((__m256)x, (__m256)y); }
static inline Floats min(Floats x, Floats y) { return (Floats)_mm256_min_ps((__m256)x, (__m256)y); }
static inline Floats absolute(Floats x) { return (Floats)((Integers)x & 0x7fffffff); }
static inline Floats round_to_nearest(Floats x) {
  return (Floats)_mm256_round_ps((__m256)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline float reduce_add(Floats x) {
  __m128 y = _mm_add_ps(_mm256_castps256_ps128((__m256)x), _mm256_extractf128_ps((__m256)x, 1));
  y = _mm_add_ps(y, _mm_movehl_ps(y, y));
  return _mm_cvtss_f32(_mm_add_ss(y, _mm_movehdup_ps(y)));
}
static inline float reduce_max(Floats x) {
  __m128 y = _mm_max_ps(_mm256_castps256_ps128((__m256)x), _mm256_extractf128_ps((__m256)x, 1));
  y = _mm_max_ps(y, _mm_movehl_ps(y, y));
  return _mm_cvtss_f32(_mm_max_ss(y, _mm_movehdup_ps(y)));
}

static inline Mask tail_mask(int64_t length, int64_t j) {
  const int32_t left = length - j < 8 ? length - j : 8;
  return (Integers){0, 1, 2, 3, 4, 5, 6, 7} < left;
}
static inline Mask not_less(Floats x, Floats y) {
  return (Mask)_mm256_castps_si256(_mm256_cmp_ps((__m256)x, (__m256)y, _CMP_NLT_UQ));
}
static inline bool any_nan(Floats x) { return _mm256_movemask_ps(_mm256_cmp_ps((__m256)x, (__m256)x, _CMP_UNORD_Q)); }
static inline Floats select(Mask mask, Floats x) { return (Floats)((Integers)x & mask); }
static inline Floats select(Mask mask, Floats x, Floats y) {
  return (Floats)_mm256_blendv_ps((__m256)y, (__m256)x, (__m256)mask);
}
// Flushes results below 2^-126 to 0.
static inline Floats scale_by_power_of_2(Floats x, Floats power) {
  const __m256i exponent = _mm256_cvtps_epi32((__m256)max(power, broadcast(-127)));
  return x * (Floats)_mm256_slli_epi32(_mm256_add_epi32(exponent, _mm256_set1_epi32(127)), 23);
}
static inline Floats gather(Mask mask, const float* p, int64_t stride) {
  const Integers indices = (Integers){0, 1, 2, 3, 4, 5, 6, 7} * int32_t(stride);
  return (Floats)_mm256_mask_i32gather_ps(_mm256_setzero_ps(), p, (__m256i)indices, (__m256)mask, 4);
}
static inline void multiply_add(Floats& sum, Floats x, Floats w) {
  asm("vfmadd231ps %2, %1, %0" : "+x"(sum) : "x"(x), "x"(w));
}
#define HAS_INT16_PAIRS
// Rounds to 16-bit integers.
static inline void store_rounded(int16_t* p, Floats x) {
  const __m256i y = _mm256_cvtps_epi32((__m256)x);
  _mm_storeu_si128((__m128i*)p, _mm_packs_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1)));
}
// Loads bytes as 16-bit integers. The sum of two products of such integers, in 32 bits, cannot overflow.
static inline Integers load_widened(const int8_t* p) {
  return (Integers)_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)p));
}
static inline Integers multiply_pairs(Integers x, Integers y) {
  return (Integers)_mm256_madd_epi16((__m256i)x, (__m256i)y);
}

#elif defined __aarch64__

constexpr int64_t WIDTH = 4;
typedef float Floats __attribute__((vector_size(16)));
typedef int32_t Integers __attribute__((vector_size(16)));
using Mask = Integers;

static inline Floats broadcast(float x) { return (Floats)vdupq_n_f32(x); }
static inline Floats load(const float* p) { return (Floats)vld1q_f32(p); }
static inline void store(float* p, Floats x) { vst1q_f32(p, (float32x4_t)x); }
static inline Integers load(const int32_t* p) { return (Integers)vld1q_s32(p); }
static inline Floats to_floats(Integers x) { return (Floats)vcvtq_f32_s32((int32x4_t)x); }
static inline Floats fma(Floats x, Floats y, Floats z) {
  return (Floats)vfmaq_f32((float32x4_t)z, (float32x4_t)x, (float32x4_t)y);
}
// y if either is NaN, as on x86.
static inline Floats max(Floats x, Floats y) { return x > y ? x : y; }
static inline Floats min(Floats x, Floats y) { return x < y ? x : y; }
static inline Floats absolute(Floats x) { return (Floats)vabsq_f32((float32x4_t)x); }
static inline Floats round_to_nearest(Floats x) { return (Floats)vrndnq_f32((float32x4_t)x); }
static inline float reduce_add(Floats x) { return vaddvq_f32((float32x4_t)x); }
static inline float reduce_max(Floats x) { return vmaxvq_f32((float32x4_t)x); }

static inline Mask tail_mask(int64_t length, int64_t j) {
  const int32_t left = length - j < 4 ? length - j : 4;
  return (Integers){0, 1, 2, 3} < left;
}
static inline Mask not_less(Floats x, Floats y) { return ~(x < y); }
static inline bool any_nan(Floats x) { return vmaxvq_u32((uint32x4_t)(x != x)); }
static inline Floats select(Mask mask, Floats x) { return (Floats)((Integers)x & mask); }
static inline Floats select(Mask mask, Floats x, Floats y) { return mask ? x : y; }
static inline Floats scale_by_power_of_2(Floats x, Floats power) {
  const int32x4_t exponent = vcvtq_s32_f32((float32x4_t)max(power, broadcast(-127)));
  return x * (Floats)vshlq_n_s32(vaddq_s32(exponent, vdupq_n_s32(127)), 23);
}
static inline Floats gather(Mask mask, const float* p, int64_t stride) {
  Floats x = {};
  for (int i = 0; i < 4; i++)
    if (mask[i]) x[i] = p[i * stride];
  return x;
}
static inline void multiply_add(Floats& sum, Floats x, Floats w) { sum = fma(x, w, sum); }
#define HAS_INT16_PAIRS
static inline void store_rounded(int16_t* p, Floats x) { vst1_s16(p, vqmovn_s32(vcvtnq_s32_f32((float32x4_t)x))); }
static inline Integers load_widened(const int8_t* p) { return (Integers)vmovl_s8(vld1_s8(p)); }
static inline Integers multiply_pairs(Integers x, Integers y) {
  const int16x8_t a = (int16x8_t)x, b = (int16x8_t)y;
  return (Integers)vpaddq_s32(vmull_s16(vget_low_s16(a), vget_low_s16(b)), vmull_high_s16(a, b));
}

#endif
