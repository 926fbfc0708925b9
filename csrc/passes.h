// What the entry points share: the view made as coarse as the parameters allow, the choice of walk, the folding of sums.
#pragma once

#include "channels_first.h"
#include "channels_last.h"

namespace aconite {
namespace ACONITE_NS {

// torch's own grains (32k elements) halve where a pass does twice the work.
constexpr int64_t kForwardGrain = 32768, kBackwardGrain = 16384;

ACONITE_INLINE bool sound(const aconite_view& v) {
  return v.n >= 0 && v.c >= 0 && v.l >= 0 && v.dtype >= 0 && v.dtype <= ACONITE_F64 && (v.layout == 0 || v.layout == 1) &&
         (v.gate == 0 || v.gate == 1);
}

// Parameters that do not tell channels (or samples) apart let these merge into longer rows.
inline aconite_view coarse(aconite_view v, bool per_channel, bool per_sample) {
  if (!per_channel) {
    v.l *= v.c;
    v.c = 1;
    v.layout = ACONITE_CHANNELS_FIRST;
  }
  if (!per_sample && (v.layout == ACONITE_CHANNELS_LAST || v.c == 1)) {
    v.l *= v.n;
    v.n = 1;
  }
  // Rows of one element are the other layout's rows of c.
  if (v.layout == ACONITE_CHANNELS_FIRST && v.l == 1 && v.c > 1) {
    v.layout = ACONITE_CHANNELS_LAST;
    if (!per_sample) {
      v.l = v.n;
      v.n = 1;
    }
  }
  return v;
}

template <class F, class T>
void set_view(pass<F, T>& p, const aconite_view& v, bool samples_alike = false) {
  p.n = v.n;
  p.c = v.c;
  p.l = v.l;
  p.past = past_caches<T>((F::inputs + F::outputs) * v.n * v.c * v.l);
  if (v.layout == ACONITE_CHANNELS_FIRST)
    plan_channels_first(p, samples_alike);
  else
    plan_channels_last(p, F::sums > 0);
  p.joint = samples_alike ? p.blocks() * p.parts : p.parts;
}

template <class F, class T>
void run(pass<F, T>& p, const aconite_view& v, int64_t grain) {
  if (v.layout == ACONITE_CHANNELS_FIRST)
    run_channels_first(p, grain);
  else
    run_channels_last(p, grain);
  if (F::sums) join_rest(p);
}

// Where one parameter's gradient goes, and the double sums for the axes that its shape does not have.
template <class S>
struct fold {
  S* out;
  int64_t sn, sc;
  double* per_channel;  // c doubles

  void clear(int64_t c) {
    for (int64_t i = 0; i < c; ++i) per_channel[i] = 0;
  }
  void end_sample(int64_t n, int64_t c) {
    if (!out || !sn) return;
    write(out + n * sn, c);
    clear(c);
  }
  void end(int64_t n, int64_t c) {
    if (out && (!sn || n == 0)) write(out, c);
  }
  void write(S* to, int64_t c) {
    if (sc) {
      for (int64_t i = 0; i < c; ++i) to[i] = (S)per_channel[i];
      return;
    }
    double total = 0;
    for (int64_t i = 0; i < c; ++i) total += per_channel[i];
    *to = (S)total;
  }
};

// Zero what an empty tensor leaves of a gradient with these strides.
template <class S>
void write_zeros(S* out, int64_t sn, int64_t sc, int64_t n, int64_t c) {
  if (!out) return;
  int64_t count = (sn ? n : 1) * (sc ? c : 1);
  for (int64_t i = 0; i < count; ++i) out[i] = 0;
}

}  // namespace ACONITE_NS
}  // namespace aconite
