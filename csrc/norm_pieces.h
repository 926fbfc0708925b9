// A tensor of the fused norm cut into pieces: (sample, part, block of channels), and one pass over all of them.
#pragma once

#include "norm_walk.h"

namespace aconite {
namespace ACONITE_NS {
namespace norm_walk {

struct pieces {
  int64_t n, c, l;
  bool last;
  int64_t fold, pitch;          // rows of c folded into one of `pitch` (channels last)
  int64_t rows, parts;          // in a sample: rows of `pitch`, or l; pieces, 1 where channels come first
  int64_t block, blocks;

  pieces(int64_t n, int64_t c, int64_t l, bool last, int lanes) : n(n), c(c), l(l), last(last) {
    fold = 1;
    parts = 1;
    if (last) {
      while (c * fold % lanes && fold < lanes) fold *= 2;
      if (c * fold > kWidth || l < 4 * fold) fold = 1;
      block = c <= kWidth ? c : kWidth / 2;
      parts = even_parts(l / fold, most(64, 32768 / (block * fold)));
    } else {
      block = most(1, least(128, 16384 / most(1, l)));
      if (block > 16) block = block / 16 * 16;
      if (block > c) block = c;
    }
    pitch = c * fold;
    rows = ceil_div(l, fold);
    blocks = ceil_div(c, block);
  }
  int64_t start(int64_t part) const { return part_start(rows, parts, part, kTogether); }
  int64_t elements() const { return ceil_div(rows, parts) * block * fold; }
  int64_t units() const { return n * parts * blocks; }
};

constexpr int64_t kForwardPiece = 32768;
// A block of channels is walked twice in a row where its samples' pieces are long enough for the prefetcher.
constexpr int64_t kPiece = 4096, kBlockRows = 1024;

// Blocks of channels to be walked twice in a row, where there are enough of them; false leaves `p` alone. Wide rows that come in
// parts are not shared between threads by channels: each core's prefetcher would run into the other's lines, and the layer before
// has cut the tensor by rows (7x7x1024 on two cores that share no cache: 0.7 of the time by rows).
inline bool in_blocks(pieces& p, int64_t bytes) {
  int64_t block;
  if (p.last) {
    if (p.l > kBlockRows || p.fold > 1) return false;
    block = least(p.c, most(64, 65536 / p.l / 64 * 64));
  } else {
    block = 1;
    while (block < 128 && block * p.l * bytes < kPiece) block *= 2;
    block = least(block, p.c);
  }
  int64_t blocks = ceil_div(p.c, block);
  bool wide = p.c > kWidth && p.parts > 1;
  if ((blocks < 6 || wide) && p.n * p.c * p.l > kForwardPiece) return false;
  p.block = least(block, kWidth);
  p.blocks = ceil_div(p.c, p.block);
  p.parts = 1;
  return true;
}

// One pass over all pieces; a pass without sums is the second over the same tensors, or follows a layer that wrote them, and
// goes backwards: what was touched last is still near (0.9 of the backward on 16x96x14x14).
// partial: [sums][n][parts][c], null where there is nothing to add up.
template <class F, class T, class TABLE>
struct pass_of {
  typedef typename storage<T>::scalar S;
  stream<F, T> s;
  const pieces* p;
  TABLE prepare;
  S* partial;

  static void walk(const stream<F, T>& s, const pieces& p, int64_t n, int64_t part, int64_t c, int64_t count,
                   S (*table)[kTable], double* total) {
    if (!p.last) return channels_first(s, n, n + 1, c, count, table, total);
    int64_t size = p.l * p.c, whole = size / p.pitch, first = p.start(part), end = least(whole, p.start(part + 1));
    bool ends = part + 1 == p.parts;
    channels_last(s, n * size + first * p.pitch + c, end - first, ends ? size - whole * p.pitch : 0, p.pitch,
                  p.fold > 1 ? p.pitch : count, table, total);
  }
  static void fill(const TABLE& prepare, const pieces& p, S (*table)[kTable], int64_t n, int64_t c, int64_t count) {
    for (int64_t f = 0; f < p.fold; ++f) prepare(&table[0][f * p.c], kTable, n, c, count);
  }
  static double total_of(const pieces& p, const double* total, int64_t i) {
    double t = total[i];
    for (int64_t f = 1; f < p.fold; ++f) t += total[i + f * p.c];
    return t;
  }

  static void units(int64_t begin, int64_t end, void* context) {
    const pass_of& self = *(const pass_of*)context;
    const pieces& p = *self.p;
    alignas(64) S table[F::rows + F::sums][kTable] = {};
    alignas(64) double total[(F::sums + 1) * kWidth];
    for (int64_t done = begin; done < end; ++done) {
      int64_t unit = F::sums ? done : begin + (end - 1 - done);
      int64_t block = unit % p.blocks, part = unit / p.blocks % p.parts, n = unit / p.blocks / p.parts;
      int64_t c = block * p.block, count = least(p.block, p.c - c);
      fill(self.prepare, p, table, n, c, count);
      for (int k = 0; k < F::sums; ++k)
        memset(total + k * kWidth, 0, sizeof(double) * (size_t)least(count * p.fold + kLanes, kWidth));
      walk(self.s, p, n, part, c, count, table, total);
      for (int k = 0; k < F::sums; ++k) {
        S* to = self.partial + ((k * p.n + n) * p.parts + part) * p.c + c;
        for (int64_t i = 0; i < count; ++i) to[i] = (S)total_of(p, total + k * kWidth, i);
      }
    }
    if (self.s.past) end_past();
  }
  void run(int64_t grain) { run_tasks(p->units(), most(1, grain / most(1, p->elements())), units, this); }
};

}  // namespace norm_walk
}  // namespace ACONITE_NS
}  // namespace aconite
