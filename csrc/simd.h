// Vectors (lanes.h) and memory: loads and stores of every storage type, the half types converted on the way.
#pragma once

#include "lanes.h"

namespace aconite {
namespace ACONITE_NS {

// Loads and stores; the n forms touch n < lanes elements only and read zeros beyond.
ACONITE_INLINE double load(const double* p) { return *p; }
ACONITE_INLINE void store(double* p, double v) { *p = v; }
ACONITE_INLINE double load(const double*, int64_t) { return 0; }
ACONITE_INLINE void store(double*, double, int64_t) {}

ACONITE_INLINE vf load(const float* p) {
  vf v;
  memcpy(&v, p, sizeof v);
  return v;
}
ACONITE_INLINE void store(float* p, vf v) { memcpy(p, &v, sizeof v); }

// To nearest, ties to even. The compiler's own widening of half vectors costs twice these instructions.
#if defined(__AVX512F__)
// One word permutation does what zero-extension and shift, or shift and truncation, need two and three instructions for.
// No test for NaN: what comes from half inputs and from tables free of NaN payloads (see canonical) has low bits that do not
// carry into the sign.
ACONITE_INLINE vf widen(vh h, bf16) {
  const __m512i expand = _mm512_set_epi32(15 << 16, 14 << 16, 13 << 16, 12 << 16, 11 << 16, 10 << 16, 9 << 16, 8 << 16,
                                          7 << 16, 6 << 16, 5 << 16, 4 << 16, 3 << 16, 2 << 16, 1 << 16, 0);
  return (vf)_mm512_maskz_permutexvar_epi16(0xAAAAAAAA, expand, _mm512_castsi256_si512((__m256i)h));
}
#if defined(__AVX512BF16__)
// One instruction (0.9 of the time of a pass); results below the normal numbers, 1.2e-38, become 0.
ACONITE_INLINE vh narrow(vf v, bf16) { return (vh)_mm512_cvtneps_pbh(v); }
#else
ACONITE_INLINE vh narrow(vf v, bf16) {
  const __m512i collect = _mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 0x1f001d, 0x1b0019, 0x170015, 0x130011, 0xf000d,
                                           0xb0009, 0x70005, 0x30001);
  __m512i u = (__m512i)v;
  __mmask16 odd = _mm512_test_epi32_mask(u, _mm512_set1_epi32(0x10000));
  __m512i down = _mm512_add_epi32(u, _mm512_set1_epi32(0x7fff));
  __m512i rounded = _mm512_mask_add_epi32(down, odd, u, _mm512_set1_epi32(0x8000));
  return (vh)_mm512_castsi512_si256(_mm512_permutexvar_epi16(collect, rounded));
}
#endif
#elif defined(__AVX2__)
ACONITE_INLINE vf widen(vh h, bf16) { return (vf)_mm256_slli_epi32(_mm256_cvtepu16_epi32((__m128i)h), 16); }
ACONITE_INLINE vh narrow(vf v, bf16) {
  __m256i u = (__m256i)v, odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
  __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd);
  __m256i nan = (__m256i)_mm256_cmp_ps(v, v, _CMP_UNORD_Q);
  rounded = _mm256_blendv_epi8(rounded, _mm256_or_si256(u, _mm256_set1_epi32(0x400000)), nan);
  rounded = _mm256_srli_epi32(rounded, 16);
  return (vh)_mm_packus_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
}
#else
ACONITE_INLINE vf widen(vh h, bf16) { return (vf)(__builtin_convertvector(h, vu) << 16); }
ACONITE_INLINE vh narrow(vf v, bf16) {
  vu u = (vu)v;
  vu rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
  vu nan = (u >> 16) | 0x40;
  vu is_nan = (vu)(v != v);
  return __builtin_convertvector((rounded & ~is_nan) | (nan & is_nan), vh);
}
#endif
#if defined(__AVX512F__)
ACONITE_INLINE vf widen(vh h, f16) { return _mm512_cvtph_ps((__m256i)h); }
ACONITE_INLINE vh narrow(vf v, f16) { return (vh)_mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
#elif defined(__F16C__)
ACONITE_INLINE vf widen(vh h, f16) { return _mm256_cvtph_ps((__m128i)h); }
ACONITE_INLINE vh narrow(vf v, f16) { return (vh)_mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
#else
// 2^112 moves the exponent bias from 15 to 127, subnormals included.
ACONITE_INLINE vf widen(vh h, f16) {
  vu u = __builtin_convertvector(h, vu);
  vu sign = (u & 0x8000) << 16, magnitude = u & 0x7fff;
  vf v = (vf)(magnitude << 13) * 5.192296858534828e33f;
  vu special = (vu)(magnitude >= 0x7c00);
  vu wide = ((vu)v & ~special) | (((magnitude << 13) | 0x7f800000) & special);
  return (vf)(wide | sign);
}
ACONITE_INLINE vh narrow(vf v, f16) {
  vu u = (vu)v, sign = (u >> 16) & 0x8000, magnitude = u & 0x7fffffff;
  // Normal results: rebias and round to nearest even in the integer; subnormal ones: let the adder of 0.5 round.
  vu normal = (magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13;
  vu subnormal = (vu)((vf)magnitude + 0.5f) - 0x3f000000;
  vu small = (vu)(magnitude < 0x38800000), large = (vu)(magnitude >= 0x477ff000), nan = (vu)(magnitude > 0x7f800000);
  vu r = (subnormal & small) | (normal & ~small);
  r = (r & ~large) | (0x7c00 & large);
  r = (r & ~nan) | (0x7e00 & nan);
  return __builtin_convertvector(r | sign, vh);
}
#endif
template <class T>
ACONITE_INLINE vf load(const T* p) {
  vh h;
  memcpy(&h, p, sizeof h);
  return widen(h, T{});
}
template <class T>
ACONITE_INLINE void store(T* p, vf v) {
  vh h = narrow(v, T{});
  memcpy(p, &h, sizeof h);
}
#if defined(__AVX512F__)
ACONITE_INLINE vf load(const float* p, int64_t n) { return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p); }
ACONITE_INLINE void store(float* p, vf v, int64_t n) { _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), v); }
template <class T>
ACONITE_INLINE vf load(const T* p, int64_t n) {
  return widen((vh)_mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1), p), T{});
}
template <class T>
ACONITE_INLINE void store(T* p, vf v, int64_t n) {
  _mm256_mask_storeu_epi16(p, (__mmask16)((1u << n) - 1), (__m256i)narrow(v, T{}));
}
#else
template <class T>
ACONITE_INLINE vf load(const T* p, int64_t n) {
  T buffer[kLanes] = {};
  for (int64_t i = 0; i < n; ++i) buffer[i] = p[i];
  return load(buffer);
}
template <class T>
ACONITE_INLINE void store(T* p, vf v, int64_t n) {
  T buffer[kLanes];
  store(buffer, v);
  for (int64_t i = 0; i < n; ++i) p[i] = buffer[i];
}
#endif

// Past the caches: a line that is stored through them is read first, and where a pass is larger than they are its result is
// gone again before anybody reads it. `end_past` makes such stores visible to other threads.
template <class T, class V>
ACONITE_INLINE void store_past(T* p, V v) {
  store(p, v);
}
template <class T>
inline constexpr bool can_store_past = false;
#if defined(__AVX512F__)
template <>
inline constexpr bool can_store_past<float> = true;
ACONITE_INLINE void store_past(float* p, vf v) {
  if (((uintptr_t)p & 63) == 0)
    _mm512_stream_ps(p, v);
  else
    store(p, v);
}
ACONITE_INLINE void end_past() { _mm_sfence(); }
#else
ACONITE_INLINE void end_past() {}
#endif

// Whether a pass over so many elements, counted once for each tensor, should store past the caches: none holds that much. Three
// tensors of 25 MB take 1.5 ms instead of 2.1, two of them 0.9 of the time; of 6 MB, which a cache of 32 MB holds, three would
// take 0.29 instead of 0.21.
template <class T>
ACONITE_INLINE bool past_caches(int64_t elements) {
  constexpr int64_t most = 48 << 20;
  return can_store_past<T> && elements * (int64_t)sizeof(T) > most;
}

}  // namespace ACONITE_NS
}  // namespace aconite
