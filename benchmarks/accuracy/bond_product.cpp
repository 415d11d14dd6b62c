// SPDX-License-Identifier: MIT
// The sums of MatTen's products over the bonds of each atom, and their gradients, without an array of all messages:
//   out_i[k, c] = sum_j weights_ij[p(k), c] sum_m atoms_j[m, c] table_ij[column(k), m]
// Channels lie next to each other and fill vector registers. One thread, in the order of the bonds.
#include <cstdint>

struct Bonds {
  std::int64_t num_atoms;
  const std::int64_t *row_ptr, *neighbors;
};

// One block of channels; path p has the columns starts[p], ..., starts[p] + sizes[p] - 1 of the table.
struct Paths {
  std::int64_t num_paths, num_columns, table_stride, weight_stride;
  const std::int64_t *starts, *sizes;
};

template <int C>
struct Channels {
  typedef float vec __attribute__((vector_size(4 * C), aligned(4), may_alias));
};

template <int C, int M>
static void forward(Bonds bonds, Paths paths, const float* atoms, const float* table, const float* weights,
                    float* out) {
  using vec = typename Channels<C>::vec;
  for (std::int64_t i = 0; i < bonds.num_atoms; ++i) {
    vec* sums = reinterpret_cast<vec*>(out) + i * paths.num_columns;
    for (std::int64_t e = bonds.row_ptr[i]; e < bonds.row_ptr[i + 1]; ++e) {
      const vec* x = reinterpret_cast<const vec*>(atoms) + bonds.neighbors[e] * M;
      const vec* w = reinterpret_cast<const vec*>(weights + e * paths.weight_stride);
      vec* sum = sums;
      for (std::int64_t p = 0; p < paths.num_paths; ++p) {
        const float* t = table + e * paths.table_stride + paths.starts[p] * M;
        for (std::int64_t k = 0; k < paths.sizes[p]; ++k, ++sum, t += M) {
          vec product = x[0] * t[0];
          for (int m = 1; m < M; ++m) product += x[m] * t[m];
          *sum += w[p] * product;
        }
      }
    }
  }
}

template <int C, int M>
static void backward(Bonds bonds, Paths paths, const float* atoms, const float* table, const float* weights,
                     const float* grad_out, float* grad_atoms, float* grad_weights) {
  using vec = typename Channels<C>::vec;
  for (std::int64_t i = 0; i < bonds.num_atoms; ++i) {
    const vec* grads = reinterpret_cast<const vec*>(grad_out) + i * paths.num_columns;
    for (std::int64_t e = bonds.row_ptr[i]; e < bonds.row_ptr[i + 1]; ++e) {
      const vec* x = reinterpret_cast<const vec*>(atoms) + bonds.neighbors[e] * M;
      const vec* w = reinterpret_cast<const vec*>(weights + e * paths.weight_stride);
      vec* grad_w = reinterpret_cast<vec*>(grad_weights + e * paths.weight_stride);
      vec grad_x[M] = {};
      const vec* grad = grads;
      for (std::int64_t p = 0; p < paths.num_paths; ++p) {
        const float* t = table + e * paths.table_stride + paths.starts[p] * M;
        vec grad_weight = {};
        for (std::int64_t k = 0; k < paths.sizes[p]; ++k, ++grad, t += M) {
          vec product = x[0] * t[0];
          for (int m = 1; m < M; ++m) product += x[m] * t[m];
          grad_weight += *grad * product;
          const vec weighted = *grad * w[p];
          for (int m = 0; m < M; ++m) grad_x[m] += weighted * t[m];
        }
        grad_w[p] = grad_weight;
      }
      vec* target = reinterpret_cast<vec*>(grad_atoms) + bonds.neighbors[e] * M;
      for (int m = 0; m < M; ++m) target[m] += grad_x[m];
    }
  }
}

template <template <int, int> class Run, int C, class... Arguments>
static bool with_size(std::int64_t size, Arguments... arguments) {
  switch (size) {
    case 1:
      Run<C, 1>::run(arguments...);
      return true;
    case 3:
      Run<C, 3>::run(arguments...);
      return true;
    case 5:
      Run<C, 5>::run(arguments...);
      return true;
    case 7:
      Run<C, 7>::run(arguments...);
      return true;
    case 9:
      Run<C, 9>::run(arguments...);
      return true;
    default:
      return false;
  }
}

template <template <int, int> class Run, class... Arguments>
static bool with_shape(std::int64_t channels, std::int64_t size, Arguments... arguments) {
  switch (channels) {
    case 2:
      return with_size<Run, 2>(size, arguments...);
    case 4:
      return with_size<Run, 4>(size, arguments...);
    case 16:
      return with_size<Run, 16>(size, arguments...);
    case 32:
      return with_size<Run, 32>(size, arguments...);
    default:
      return false;
  }
}

template <int C, int M>
struct Forward {
  template <class... Arguments>
  static void run(Arguments... arguments) {
    forward<C, M>(arguments...);
  }
};

template <int C, int M>
struct Backward {
  template <class... Arguments>
  static void run(Arguments... arguments) {
    backward<C, M>(arguments...);
  }
};

// Both return false for shapes without an instance. out and grad_atoms must be zero before.
extern "C" bool bond_product_forward(std::int64_t channels, std::int64_t size, Bonds bonds, Paths paths,
                                     const float* atoms, const float* table, const float* weights, float* out) {
  return with_shape<Forward>(channels, size, bonds, paths, atoms, table, weights, out);
}

extern "C" bool bond_product_backward(std::int64_t channels, std::int64_t size, Bonds bonds, Paths paths,
                                      const float* atoms, const float* table, const float* weights,
                                      const float* grad_out, float* grad_atoms, float* grad_weights) {
  return with_shape<Backward>(channels, size, bonds, paths, atoms, table, weights, grad_out, grad_atoms, grad_weights);
}
