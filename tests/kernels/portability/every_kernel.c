/* Runs every kernel of the C ABI on small tensors of every dtype, layout and gate, and prints what comes out, a line each:
 * the name, then the numbers. What two machines print must agree but for rounding. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aconite.h"

static uint32_t state = 1;
static double drawn(void) { /* in [-1, 1) */
  state = state * 1664525u + 1013904223u;
  return (double)(int32_t)state / 2147483648.0;
}

/* Half-type values are drawn so that they are exact: eighths up to 4 have six significant bits. */
static void set(void* to, int64_t i, double value, int dtype) {
  float f = (float)value;
  uint32_t bits;
  memcpy(&bits, &f, 4);
  if (dtype == ACONITE_F64) ((double*)to)[i] = value;
  if (dtype == ACONITE_F32) ((float*)to)[i] = f;
  if (dtype == ACONITE_BF16) ((uint16_t*)to)[i] = (uint16_t)(bits >> 16);
  if (dtype == ACONITE_F16) {
    uint32_t exponent = bits >> 23 & 0xff;
    uint16_t half = value == 0 ? 0 : (uint16_t)((exponent - 112) << 10 | (bits >> 13 & 0x3ff));
    ((uint16_t*)to)[i] = (uint16_t)(half | (bits >> 16 & 0x8000));
  }
}
static double get(const void* from, int64_t i, int dtype) {
  if (dtype == ACONITE_F64) return ((const double*)from)[i];
  if (dtype == ACONITE_F32) return ((const float*)from)[i];
  uint16_t half = ((const uint16_t*)from)[i];
  if (dtype == ACONITE_BF16) {
    uint32_t bits = (uint32_t)half << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
  }
  int exponent = half >> 10 & 31;
  double value = exponent ? ldexp(1 + (half & 0x3ff) / 1024.0, exponent - 15) : ldexp(half & 0x3ff, -24);
  return half & 0x8000 ? -value : value;
}

static void* tensor(int64_t count, int dtype, double scale) {
  void* memory = calloc((size_t)count + 16, 8);
  for (int64_t i = 0; i < count; ++i) set(memory, i, floor(8 * scale * drawn()) / 8, dtype);
  return memory;
}
static void* room(int64_t count) { return calloc((size_t)count + 16, 8); }
static const char* prefix;
static void show(const char* name, const void* values, int64_t count, int dtype) {
  printf("%s %s", prefix, name);
  for (int64_t i = 0; i < count; ++i) printf(" %.12g", get(values, i, dtype));
  printf("\n");
}
static void must(int32_t status) {
  if (status) {
    fprintf(stderr, "%s: status %d\n", prefix, status);
    exit(1);
  }
}

static void run(int64_t n, int64_t c, int64_t l, int dtype, int layout, int gate) {
  static const char* dtypes[] = {"float32", "bfloat16", "float16", "float64"};
  char name[96];
  snprintf(name, sizeof name, "%dx%dx%d/%s/%s/%s", (int)n, (int)c, (int)l, dtypes[dtype], layout ? "last" : "first",
           gate ? "hard" : "sigmoid");
  prefix = name;
  state = 1;
  int exact = dtype == ACONITE_F64 ? ACONITE_F64 : ACONITE_F32;
  int64_t size = n * c * l, h = 4;
  void *x = tensor(size, dtype, 4), *other = tensor(size, dtype, 4), *grad = tensor(size, dtype, 2), *y = room(size),
       *dx = room(size), *dother = room(size);
  void *p1 = tensor(c, exact, 2), *p2 = tensor(c, exact, 2), *beta = tensor(c, exact, 3), *d1 = room(c), *d2 = room(c), *d3 = room(c);
  aconite_view v = {n, c, l, 0, 1, 0, 1, 0, 1, dtype, layout, gate, 0};
  must(aconite_acon_c_forward(&v, x, p1, p2, beta, y));
  must(aconite_acon_c_backward(&v, grad, x, p1, p2, beta, dx, d1, d2, d3));
  show("acon.y", y, size, dtype);
  show("acon.dx", dx, size, dtype);
  show("acon.dp1", d1, c, exact);
  show("acon.dp2", d2, c, exact);
  show("acon.dbeta", d3, c, exact);
  must(aconite_smooth_maximum_forward(&v, x, other, beta, y));
  must(aconite_smooth_maximum_backward(&v, grad, x, other, beta, dx, dother, d3));
  show("maximum.y", y, size, dtype);
  show("maximum.da", dx, size, dtype);
  show("maximum.db", dother, size, dtype);
  show("maximum.dbeta", d3, c, exact);

  void *w1 = tensor(h * c, exact, 1), *w2 = tensor(c * h, exact, 1), *b1 = tensor(h, exact, 1), *b2 = tensor(c, exact, 1);
  void *gain1 = tensor(h, exact, 1), *gain2 = tensor(c, exact, 1), *weight = tensor(c, exact, 2), *bias = tensor(c, exact, 1);
  aconite_generator g = {w1, b1, gain1, b1, 0, 0, w2, b2, gain2, b2, 0, 0, 1e-5, 1e-5, 1, h, ACONITE_BATCH_STATISTICS, 0};
  int64_t saved_size = aconite_meta_saved_size(n, c, h), gradient_size = aconite_meta_gradient_size(c, h);
  void *saved = room(saved_size + n * c), *gradients = room(gradient_size + 5 * c);
  must(aconite_meta_acon_c_forward(&v, &g, x, p1, p2, y, saved));
  must(aconite_meta_acon_c_backward(&v, &g, grad, x, p1, p2, saved, dx, gradients));
  show("meta.y", y, size, dtype);
  show("meta.saved", saved, saved_size, exact);
  show("meta.dx", dx, size, dtype);
  show("meta.gradients", gradients, gradient_size, exact);

  double* statistics = room(2 * c);
  for (int activation = 0; activation < 3; ++activation) {
    static const char* names[] = {"norm+acon", "norm", "norm+relu"};
    char label[32];
    aconite_batch_norm norm = {weight, bias, 0, 0, 1e-5, ACONITE_BATCH_STATISTICS, activation};
    must(aconite_batch_norm_forward(&v, &norm, x, p1, p2, beta, y, statistics));
    must(aconite_batch_norm_backward(&v, &norm, grad, x, p1, p2, beta, statistics, dx, gradients));
    snprintf(label, sizeof label, "%s.y", names[activation]);
    show(label, y, size, dtype);
    snprintf(label, sizeof label, "%s.dx", names[activation]);
    show(label, dx, size, dtype);
    snprintf(label, sizeof label, "%s.gradients", names[activation]);
    show(label, gradients, (activation ? 2 : 5) * c, exact);
  }
  show("norm.statistics", statistics, 2 * c, ACONITE_F64);
  aconite_batch_norm norm = {weight, bias, 0, 0, 1e-5, ACONITE_BATCH_STATISTICS, ACONITE_ACON_C};
  must(aconite_batch_norm_meta_forward(&v, &norm, &g, x, p1, p2, y, statistics, saved));
  must(aconite_batch_norm_meta_backward(&v, &norm, &g, grad, x, p1, p2, statistics, saved, dx, gradients));
  show("norm+meta.y", y, size, dtype);
  show("norm+meta.dx", dx, size, dtype);
  show("norm+meta.gradients", gradients, 2 * c + gradient_size, exact);
}

int main(void) {
  if (aconite_error()) {
    fprintf(stderr, "%s\n", aconite_error());
    return 1;
  }
  fprintf(stderr, "%s\n", aconite_isa());
  for (int dtype = 0; dtype < 4; ++dtype)
    for (int layout = 0; layout < 2; ++layout)
      for (int gate = 0; gate < 2; ++gate) {
        run(3, 5, 49, dtype, layout, gate);
        run(2, 24, 7, dtype, layout, gate);
        run(4, 17, 1, dtype, layout, gate);
        run(2, 3, 1100, dtype, layout, gate);
      }
  return 0;
}
