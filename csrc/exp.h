// e^(-|z|) for the gates, with |z| given as a product so that its rounding can be made good.
#pragma once

#include "simd.h"

namespace aconite {
namespace ACONITE_NS {

// 2^(nx kh + nx kl) for nx <= 0 with nx kh >= -constants<vf>::last, where the result is exactly 0.
// Budget, held over a dense sweep by tests/kernels/test_native_accuracy.py: relative error <= 4e-7 (3.4 units of 2^-23) with FMA
// while the result is a normal number. It enters the value as at most a quarter of that (gate' <= 1/4).
// kl carries what kh lost when beta (p1 - p2) log2(e) was rounded to float. Without it (PRECISE = false) the error grows by
// at most 6e-8 |z|, which is 5.2e-6 where e^-|z| leaves the normal numbers: within the 1e-5 that the parameters' sums are
// allowed, and 4 % faster in the backward.
#if defined(__AVX512F__)
// 2^(i/32) looked up, 2^f by a quadratic on [-1/64, 1/64] (minimax with constant term 1: 5.4e-8): three multiplications
// fewer than the polynomial below, and scalef goes through the subnormals to the exact 0 on its own.
template <bool PRECISE>
ACONITE_INLINE vf exp_neg(vf nx, vf kh, vf kl) {
  const vf low = {1.0f,         1.0218971487f, 1.0442737824f, 1.0671404007f, 1.0905077327f, 1.1143867426f,
                  1.1387886348f, 1.1637248588f, 1.1892071150f, 1.2152473600f, 1.2418578121f, 1.2690509572f,
                  1.2968395547f, 1.3252366432f, 1.3542555469f, 1.3839098820f};
  const vf high = {1.4142135624f, 1.4451808070f, 1.4768261459f, 1.5091644276f, 1.5422108254f, 1.5759808451f,
                   1.6104903319f, 1.6457554782f, 1.6817928305f, 1.7186192981f, 1.7562521604f, 1.7947090750f,
                   1.8340080864f, 1.8741676341f, 1.9152065614f, 1.9571441242f};
  const vf magic = set1<vf>(393216.0);  // 1.5 * 2^18: adding it rounds to a multiple of 1/32, whose bits index the table
  vf shifted = fma(nx, kh, magic);
  vf n = shifted - magic;
  vf f = fma(nx, kh, -n);
  if constexpr (PRECISE) f = fma(nx, kl, f);
  vf p = fma(fma(f, set1<vf>(0.24022687488636948), set1<vf>(0.6931573363012474)), f, set1<vf>(1));
  // Scaled before the product, beside the polynomial: latency is what bounds the backward (192 vector registers in flight).
  return _mm512_scalef_ps(_mm512_permutex2var_ps(low, (__m512i)shifted, high), n) * p;
}
#else
// Degree 5 on [-1/2, 1/2], minimax with constant term 1 (9.2e-8), so that 2^0 is exactly 1. Without FMA the product nx kh
// is rounded, another 4.2e-8 for each unit of its magnitude.
template <bool PRECISE>
ACONITE_INLINE vf exp_neg(vf nx, vf kh, vf kl) {
  const vf magic = set1<vf>(12582912.0);  // 1.5 * 2^23: adding it rounds to an integer, held in the low mantissa bits
  vf shifted = fma(nx, kh, magic);
  vf n = shifted - magic;
  vf f = fma(nx, kh, -n);
  if constexpr (PRECISE) f = fma(nx, kl, f);
  vf p = set1<vf>(0.0013264726298844636);
  p = fma(p, f, set1<vf>(0.00967151300998547));
  p = fma(p, f, set1<vf>(0.05550733749092758));
  p = fma(p, f, set1<vf>(0.24022242079184564));
  p = fma(p, f, set1<vf>(0.6931469775938077));
  p = fma(p, f, set1<vf>(1.0));
  // n = -127 gives the scale with all bits zero, hence the exact 0 that makes the limit at -inf right.
  return p * floats((bits(shifted) << 23) + 0x3f800000);
}
#endif

// Natural units here: libm's own accuracy (< 1 ulp), no second part.
template <bool PRECISE>
ACONITE_INLINE double exp_neg(double nx, double kh, double) {
  return exp(nx * kh);
}

}  // namespace ACONITE_NS
}  // namespace aconite
