// One vector of floats (16, 8 or 4 lanes, by the ISA this unit is compiled for) and, for float64, the plain double:
// the formulas are written once over either. Everything lives in a namespace per ISA, and no std:: template is used,
// so that the linker cannot merge AVX-512 code into a function that a lesser machine runs.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if !defined(ACONITE_NS)
#error "compile with -DACONITE_NS=<isa>"
#endif
#define ACONITE_INLINE inline __attribute__((always_inline))

namespace aconite {
namespace ACONITE_NS {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float vf __attribute__((vector_size(4 * kLanes)));
typedef int32_t vi __attribute__((vector_size(4 * kLanes)));
typedef uint32_t vu __attribute__((vector_size(4 * kLanes)));
typedef uint16_t vh __attribute__((vector_size(2 * kLanes)));

struct bf16 {
  uint16_t bits;
};
struct f16 {
  uint16_t bits;
};

// What belongs to a storage type: its vector, its scalar of arithmetic, and how many elements a vector holds.
template <class T>
struct storage {
  typedef vf vector;
  typedef float scalar;
  static constexpr int lanes = kLanes;
};
template <>
struct storage<double> {
  typedef double vector;
  typedef double scalar;
  static constexpr int lanes = 1;
};
// How many of exp_neg's units a natural unit is, the largest finite number, where exp_neg reaches 0, in its units, and what
// |x| is bounded by in sums (squares of it, times gradients, added 2^28 times stay finite).
template <class V>
struct constants;
template <>
struct constants<vf> {
  typedef float scalar;
  static constexpr double per_unit = 1.4426950408889634, huge = 3.4028234663852886e38, last = kLanes == 16 ? 151 : 127,
                          far = 1125899906842624.0;
};
template <>
struct constants<double> {
  typedef double scalar;
  static constexpr double per_unit = 1, huge = 1.7976931348623157e308, last = 746, far = 1e150;
};

template <class V>
ACONITE_INLINE V set1(double s);
template <>
ACONITE_INLINE double set1<double>(double s) {
  return s;
}
template <>
ACONITE_INLINE vf set1<vf>(double s) {
  float f = (float)s;
#if defined(__AVX512F__)
  return _mm512_set1_ps(f);
#elif defined(__AVX2__)
  return _mm256_set1_ps(f);
#else
  return vf{f, f, f, f};
#endif
}
ACONITE_INLINE vi bits(vf v) { return (vi)v; }
ACONITE_INLINE vf floats(vi v) { return (vf)v; }

ACONITE_INLINE double fma(double a, double b, double c) { return a * b + c; }
ACONITE_INLINE double neg_abs(double x) { return -fabs(x); }
ACONITE_INLINE double max_keep_nan(double limit, double x) { return limit > x ? limit : x; }
ACONITE_INLINE double min_keep_nan(double limit, double x) { return limit < x ? limit : x; }
ACONITE_INLINE double by_sign(double x, double positive, double negative) { return signbit(x) ? negative : positive; }
// sum + v where x's sign is the one asked for, sum elsewhere.
template <bool NEGATIVE>
ACONITE_INLINE double add_by_sign(double sum, double x, double v) {
  return (signbit(x) != 0) == NEGATIVE ? sum + v : sum;
}
ACONITE_INLINE double product_or_zero(double w, double x) { return w == 0 ? 0 : w * x; }
ACONITE_INLINE double where_less(double a, double b, double value) { return a < b ? value : 0; }
ACONITE_INLINE double flip_sign(double v, double by) { return signbit(by) ? -v : v; }
// a - b, and 0 for two equal infinities.
ACONITE_INLINE double minus(double a, double b) { return a == b ? 0 : a - b; }
ACONITE_INLINE double sum(double v) { return v; }

ACONITE_INLINE vf neg_abs(vf x) { return floats(bits(x) | (int32_t)0x80000000); }
ACONITE_INLINE vf flip_sign(vf v, vf by) { return floats(bits(v) ^ (bits(by) & (int32_t)0x80000000)); }

// Lanes below n from a, the others from b; and a + b in lanes below n, a in the others.
ACONITE_INLINE double lanes_below(int64_t n, double a, double b) { return n > 0 ? a : b; }
ACONITE_INLINE double add_below(int64_t n, double a, double b) { return n > 0 ? a + b : a; }
#if defined(__AVX512F__)
ACONITE_INLINE vf lanes_below(int64_t n, vf a, vf b) { return _mm512_mask_blend_ps((__mmask16)((1u << n) - 1), b, a); }
ACONITE_INLINE vf add_below(int64_t n, vf a, vf b) { return _mm512_mask_add_ps(a, (__mmask16)((1u << n) - 1), a, b); }
#else
ACONITE_INLINE vf lanes_below(int64_t n, vf a, vf b) {
#if defined(__AVX2__)
  const vi lane = {0, 1, 2, 3, 4, 5, 6, 7};
#else
  const vi lane = {0, 1, 2, 3};
#endif
  vi mask = lane < (int32_t)n;
  return floats((bits(a) & mask) | (bits(b) & ~mask));
}
ACONITE_INLINE vf add_below(int64_t n, vf a, vf b) { return a + lanes_below(n, b, vf{}); }
#endif

// x86's max and min return the second operand when either is NaN; the ternary says the same to GCC elsewhere.
#if defined(__AVX512F__)
ACONITE_INLINE vf fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
ACONITE_INLINE vf max_keep_nan(vf limit, vf x) { return _mm512_max_ps(limit, x); }
ACONITE_INLINE vf min_keep_nan(vf limit, vf x) { return _mm512_min_ps(limit, x); }
ACONITE_INLINE vf by_sign(vf x, vf positive, vf negative) {
  return _mm512_mask_blend_ps(_mm512_movepi32_mask((__m512i)x), positive, negative);
}
template <bool NEGATIVE>
ACONITE_INLINE vf add_by_sign(vf sum, vf x, vf v) {
  __mmask16 negative = _mm512_movepi32_mask((__m512i)x);
  return _mm512_mask_add_ps(sum, NEGATIVE ? negative : _knot_mask16(negative), sum, v);
}
ACONITE_INLINE vf product_or_zero(vf w, vf x) {
  return _mm512_maskz_mul_ps(_mm512_cmp_ps_mask(w, _mm512_setzero_ps(), _CMP_NEQ_UQ), w, x);
}
ACONITE_INLINE vf where_less(vf a, vf b, vf value) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), value);
}
ACONITE_INLINE vf minus(vf a, vf b) { return _mm512_maskz_sub_ps(_mm512_cmp_ps_mask(a, b, _CMP_NEQ_UQ), a, b); }
ACONITE_INLINE float sum(vf v) { return _mm512_reduce_add_ps(v); }
#else
#if defined(__FMA__)
ACONITE_INLINE vf fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
ACONITE_INLINE vf max_keep_nan(vf limit, vf x) { return _mm256_max_ps(limit, x); }
ACONITE_INLINE vf min_keep_nan(vf limit, vf x) { return _mm256_min_ps(limit, x); }
#else
ACONITE_INLINE vf fma(vf a, vf b, vf c) { return a * b + c; }
ACONITE_INLINE vf max_keep_nan(vf limit, vf x) { return limit > x ? limit : x; }
ACONITE_INLINE vf min_keep_nan(vf limit, vf x) { return limit < x ? limit : x; }
#endif
ACONITE_INLINE vf by_sign(vf x, vf positive, vf negative) {
  vi mask = bits(x) >> 31;
  return floats((bits(negative) & mask) | (bits(positive) & ~mask));
}
template <bool NEGATIVE>
ACONITE_INLINE vf add_by_sign(vf sum, vf x, vf v) {
  vi mask = bits(x) >> 31;
  return sum + floats(bits(v) & (NEGATIVE ? mask : ~mask));
}
ACONITE_INLINE vf product_or_zero(vf w, vf x) { return floats(bits(w * x) & ~(vi)(w == 0)); }
ACONITE_INLINE vf where_less(vf a, vf b, vf value) { return floats(bits(value) & (vi)(a < b)); }
ACONITE_INLINE vf minus(vf a, vf b) { return floats(bits(a - b) & ~(vi)(a == b)); }
ACONITE_INLINE float sum(vf v) {
  float s[kLanes];
  memcpy(s, &v, sizeof v);
  for (int step = kLanes / 2; step; step /= 2)
    for (int i = 0; i < step; ++i) s[i] += s[i + step];
  return s[0];
}
#endif

// kLanes vectors -> one vector that holds the sum of vector j in lane j. Three instructions a vector, against ten for
// summing each alone: with 49 elements in a row that is a fifth of the backward's time.
ACONITE_INLINE vf sums_of(const vf* v) {
#if defined(__AVX512F__)
  __m512 a[8], b[4];
  for (int i = 0; i < 8; ++i)
    a[i] = _mm512_shuffle_f32x4(v[i], v[i + 8], 0x44) + _mm512_shuffle_f32x4(v[i], v[i + 8], 0xEE);
  for (int i = 0; i < 4; ++i)
    b[i] = _mm512_shuffle_f32x4(a[i], a[i + 4], 0x88) + _mm512_shuffle_f32x4(a[i], a[i + 4], 0xDD);
  __m512 even = _mm512_unpacklo_ps(b[0], b[2]) + _mm512_unpackhi_ps(b[0], b[2]);
  __m512 odd = _mm512_unpacklo_ps(b[1], b[3]) + _mm512_unpackhi_ps(b[1], b[3]);
  __m512 all = _mm512_shuffle_ps(even, odd, 0x44) + _mm512_shuffle_ps(even, odd, 0xEE);
  // Lane 4q+k holds vector {0,8,4,12}[q] + {0,2,1,3}[k].
  return _mm512_permutexvar_ps(_mm512_setr_epi32(0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15), all);
#else
  vf r;
  for (int i = 0; i < kLanes; ++i) r[i] = sum(v[i]);
  return r;
#endif
}
ACONITE_INLINE double sums_of(const double* v) { return *v; }

}  // namespace ACONITE_NS
}  // namespace aconite
