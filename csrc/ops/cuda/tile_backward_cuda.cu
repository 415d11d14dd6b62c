// SPDX-License-Identifier: MIT
// The backward of tile programs: memory of a chunk of rows, and the launches in order. The steps in reverse are the
// kernel of the forward (tile_kernel.h) with other algebra, with transposed weights and with gradients for values.
#include "tile_algebra_grads.h"
#include "tile_backward.h"
#include "tile_kernel.h"

namespace dtnn::cuda {
namespace {

struct BackwardAlgebra {
  template <typename T>
  __device__ __forceinline__ static void run(const Tile<T>& tile, const TileStep& step) {
    if (step.action == TileAction::kBackward) {
      algebra_grads(tile, step);
    } else if (step.kind == TileNodeKind::kLinear) {
      column_step(tile, step);
    }
  }
};

constexpr unsigned kTransposed = 32;  // rows and columns of a tile

// Transposes the matrices of all members. A block takes one matrix of one member.
template <typename T>
__global__ void __launch_bounds__(256)
    transpose_matrices(const TileTransposed* matrices, int64_t num_matrices, int64_t members, const T* weights,
                       int64_t num_weights, T* transposed, int64_t num_transposed) {
  using Row = T[kTransposed + 1];
  DTNN_SHARED_ARRAY(Row, tile, kTransposed);
  const unsigned lane = threadIdx.x % kTransposed, first = threadIdx.x / kTransposed, step = 256 / kTransposed;
  for (int64_t work = blockIdx.x; work < num_matrices * members; work += gridDim.x) {
    const TileTransposed& m = matrices[work % num_matrices];
    const T* const from = weights + work / num_matrices * num_weights + m.from;
    T* const to = transposed + work / num_matrices * num_transposed + m.to;
    for (int64_t row = 0; row < m.rows; row += kTransposed) {
      for (int64_t col = 0; col < m.cols; col += kTransposed) {
        for (unsigned r = first; r < kTransposed; r += step) {
          if (row + r < m.rows && col + lane < m.cols) tile[r][lane] = from[(row + r) * m.cols + col + lane];
        }
        __syncthreads();
        for (unsigned c = first; c < kTransposed; c += step) {
          if (col + c < m.cols && row + lane < m.rows) to[(col + c) * m.stride + row + lane] = tile[lane][c];
        }
        __syncthreads();
      }
    }
  }
}

// A chunk's values and gradients: so many that they stay in the second-level cache of an H100, about, but tiles for all
// blocks that it runs at once.
constexpr int64_t kChunkNumbers = int64_t{1} << 24;
constexpr int64_t kChunkTiles = kWantedBlocks;
// Blocks for the gradients of weights: they fill an H100 about twice.
constexpr int64_t kWantedItems = 528;
constexpr int64_t kMostGroups = 64;
constexpr int64_t kLeastGroupRows = 128;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// An address that is none of the tile's memory, which null means: without numbers tensors may have no memory.
template <typename T>
void* address_of(const T* data) {
  return data == nullptr ? reinterpret_cast<void*>(sizeof(T)) : const_cast<T*>(data);
}

template <typename Item>
int64_t numbers_of(const std::vector<Item>& items, size_t number_bytes) {
  return divide_up(bytes_of(items), static_cast<int64_t>(number_bytes));
}

}  // namespace

template <typename T>
TileBackwardRun<T>::TileBackwardRun(const TileProgram& program, const std::vector<bool>& given,
                                    const std::vector<bool>& read, const TileBackwardArgs<T>& args)
    : program_(program), args_(args), given_(given), plan_(plan_tile_backward(program, given, read)) {
  plan_memory();
}

template <typename T>
int64_t TileBackwardRun<T>::per_row(TileValueId value) const {
  return program_.values()[static_cast<size_t>(value)].per_row();
}

template <typename T>
bool TileBackwardRun<T>::is_shared(size_t input) const {
  return args_.inputs[input].member_stride == 0 && args_.members > 1 && plan_.needed_grads[input] != 0;
}

template <typename T>
void TileBackwardRun<T>::plan_memory() {
  const auto& values = program_.values();
  values_.assign(values.size(), {});
  grads_.assign(plan_.reverse.places.size(), {});
  member_grads_.assign(program_.inputs().size(), {});
  // First what there is of a row, then places.
  std::vector<std::pair<Slab*, int64_t>> slabs;  // and numbers of a row
  for (size_t v = 0; v < values.size(); ++v) {
    if (plan_.kept[v]) slabs.emplace_back(&values_[v], values[v].per_row());
  }
  for (size_t p = 0; p < grads_.size(); ++p) {
    if (plan_.kept_grads[p]) slabs.emplace_back(&grads_[p], plan_.reverse.places[p].per_row);
  }
  for (size_t o = 0; o < args_.grad_outputs.size(); ++o) {
    if (!given_[o] || args_.grad_outputs[o].data != nullptr) continue;
    const size_t place = static_cast<size_t>(plan_.given_place(o));
    slabs.emplace_back(&grads_[place], plan_.reverse.places[place].per_row);
  }
  for (size_t i = 0; i < member_grads_.size(); ++i) {
    if (is_shared(i)) slabs.emplace_back(&member_grads_[i], per_row(program_.inputs()[i]));
  }
  int64_t numbers = 1;
  for (const auto& [slab, count] : slabs) numbers += count * std::max<int64_t>(1, args_.members);
  chunk_rows_ = args_.chunk_rows;
  if (chunk_rows_ == 0) {
    chunk_rows_ = std::max(kChunkNumbers / numbers, divide_up(kChunkTiles * 16, std::max<int64_t>(1, args_.members)));
  }
  chunk_rows_ = slab_rows_ = std::max<int64_t>(1, divide_up(std::min(chunk_rows_, args_.rows), 16)) * 16;
  num_chunks_ = args_.members == 0 ? 0 : divide_up(args_.rows, chunk_rows_);

  int64_t next = 0;
  const auto take = [&next](int64_t count) {
    const Slab slab{true, next};
    next += (count + 3) / 4 * 4;
    return slab;
  };
  forward_words_ = take(stored_numbers<T>(plan_.forward));
  reverse_words_ = take(stored_numbers<T>(plan_.reverse));
  std::vector<TileWeightItem> items;
  num_items_ = 0;
  for (const TileWeightGrad& grad : plan_.weight_grads) {
    num_items_ += std::max<int64_t>(1, divide_up(grad.depth, kWeightTile)) * divide_up(grad.channels, kWeightTile);
  }
  items.resize(static_cast<size_t>(num_items_));
  item_words_ = take(numbers_of(items, sizeof(T)) + numbers_of(plan_.transposed, sizeof(T)));
  transposed_ = take(args_.members * plan_.num_transposed);
  const int64_t blocks = std::max<int64_t>(1, num_items_ * args_.members);
  num_groups_ = std::min({divide_up(kWantedItems, blocks), divide_up(chunk_rows_, kLeastGroupRows), kMostGroups});
  if (num_groups_ > 1) partial_ = take(num_groups_ * args_.members * program_.num_weights());
  outside_ = take(std::max(numbers_outside<T>(plan_.forward, chunk_rows_, args_.members),
                           numbers_outside<T>(plan_.reverse, chunk_rows_, args_.members)));
  for (const auto& [slab, count] : slabs) *slab = take(args_.members * slab_rows_ * count);
  workspace_numbers_ = next;
}

template <typename T>
int64_t TileBackwardRun<T>::workspace() const {
  return workspace_numbers_;
}

template <typename T>
int64_t TileBackwardRun<T>::rows_of(int64_t chunk) const {
  return std::min(chunk_rows_, args_.rows - first_row(chunk));
}

template <typename T>
const T* TileBackwardRun<T>::output(size_t number) const {
  return at(values_[static_cast<size_t>(program_.outputs()[number])]);
}

template <typename T>
T* TileBackwardRun<T>::grad_output(size_t number) const {
  return at(grads_[static_cast<size_t>(plan_.given_place(number))]);
}

template <typename T>
const char* TileBackwardRun<T>::clear(T* data, int64_t count, void* stream) const {
  if (count == 0) return nullptr;
  cudaMemsetAsync(data, 0, static_cast<size_t>(count) * sizeof(T), static_cast<cudaStream_t>(stream));
  return launch_error();
}

template <typename T>
std::vector<uint64_t> TileBackwardRun<T>::weight_items() const {
  std::vector<TileWeightItem> items;
  const auto& values = program_.values();
  for (const TileWeightGrad& grad : plan_.weight_grads) {
    TileWeightItem item{};
    item.components = static_cast<int32_t>(grad.components);
    item.depth = static_cast<int32_t>(grad.depth);
    item.channels = static_cast<int32_t>(grad.channels);
    item.row_stride = static_cast<int32_t>(grad.row_stride);
    if (grad.x != kNoTileValue) {
      const int input = values[static_cast<size_t>(grad.x)].input;
      item.x_is_local = input < 0 ? 1 : 0;
      item.x = input < 0 ? at(values_[static_cast<size_t>(grad.x)]) : args_.inputs[static_cast<size_t>(input)].data;
      item.x_member_stride =
          input < 0 ? slab_rows_ * per_row(grad.x) : args_.inputs[static_cast<size_t>(input)].member_stride;
    }
    const TilePlace& place = plan_.reverse.places[static_cast<size_t>(grad.grad)];
    item.grad = place.data == nullptr ? place.keep : place.data;
    item.grad_is_local = place.is_local;
    item.grad_member_stride = place.member_stride;
    for (int64_t depth = 0; depth < std::max<int64_t>(1, grad.depth); depth += kWeightTile) {
      for (int64_t channel = 0; channel < grad.channels; channel += kWeightTile) {
        item.first_depth = static_cast<int32_t>(depth);
        item.first_channel = static_cast<int32_t>(channel);
        item.weight = grad.weight + depth * grad.row_stride + channel;
        item.bias = depth == 0 && grad.bias != kNoBias ? grad.bias + channel : -1;
        items.push_back(item);
      }
    }
  }
  std::vector<uint64_t> words;
  append_words(items, words);
  append_words(plan_.transposed, words);
  return words;
}

template <typename T>
const char* TileBackwardRun<T>::start(T* workspace, void* stream) {
  workspace_ = workspace;
  const auto& values = program_.values();
  TileSteps &forward = plan_.forward, &reverse = plan_.reverse;
  for (const TileSteps* steps : {&forward, &reverse}) {
    if (const char* const problem = width_problem(*steps)) return problem;
  }
  const auto set = [](TilePlace& place, void* data, int64_t member_stride, bool is_local) {
    place.data = data;
    place.member_stride = member_stride;
    place.is_local = is_local ? 1 : 0;
  };
  const auto keep_at = [this](TilePlace& place, T* data) {
    place.keep = data;
    place.member_stride = slab_rows_ * place.per_row;
    place.is_local = 1;
  };
  const char* error = nullptr;
  for (size_t i = 0; i < program_.inputs().size(); ++i) {
    const TileInput<T>& input = args_.inputs[i];
    const TileValueId id = program_.inputs()[i];
    set(forward.place(id), address_of(input.data), input.member_stride, false);
    set(reverse.place(id), address_of(input.data), input.member_stride, false);
    TilePlace& grad = reverse.place(plan_.grad_place(id));
    if (is_shared(i)) {
      set(grad, at(member_grads_[i]), slab_rows_ * grad.per_row, true);
    } else {
      set(grad, address_of(input.grad), input.member_stride, false);
    }
    if (args_.members == 0 && input.member_stride == 0 && plan_.needed_grads[i] && error == nullptr) {
      error = clear(input.grad, args_.rows * per_row(id), stream);
    }
  }
  for (const TileValueId id : plan_.zeros) {
    const TileInput<T>& input = args_.inputs[static_cast<size_t>(values[static_cast<size_t>(id)].input)];
    const int64_t copies = input.member_stride == 0 ? std::min<int64_t>(1, args_.members) : args_.members;
    for (int64_t m = 0; m < copies && error == nullptr; ++m) {
      error = clear(input.grad + m * input.member_stride, args_.rows * per_row(id), stream);
    }
  }
  for (size_t v = 0; v < values.size(); ++v) {
    if (!values_[v].is_used) continue;
    keep_at(forward.places[v], at(values_[v]));
    set(reverse.places[v], at(values_[v]), slab_rows_ * values[v].per_row(), true);
  }
  for (size_t p = 0; p < grads_.size(); ++p) {
    if (plan_.kept_grads[p]) keep_at(reverse.places[p], at(grads_[p]));
  }
  for (size_t o = 0; o < args_.grad_outputs.size(); ++o) {
    if (!given_[o]) continue;
    const TileOutputGrad<T>& grad = args_.grad_outputs[o];
    TilePlace& place = reverse.place(plan_.given_place(o));
    const Slab& slab = grads_[static_cast<size_t>(plan_.given_place(o))];
    if (grad.data == nullptr) {
      set(place, at(slab), slab_rows_ * place.per_row, true);
    } else {
      set(place, address_of(grad.data), grad.member_stride, false);
    }
  }
  if (args_.grad_weights != nullptr && error == nullptr) {
    const int64_t all = args_.members * program_.num_weights();
    error = clear(args_.grad_weights, all, stream);
    if (num_groups_ > 1 && error == nullptr) error = clear(at(partial_), num_groups_ * all, stream);
  }
  if (error != nullptr || num_chunks_ == 0) return error;
  const auto store = [&](const std::vector<uint64_t>& words, const Slab& slab) {
    if (error == nullptr) error = store_words(words, reinterpret_cast<uint64_t*>(at(slab)), stream);
  };
  store(words_of(forward), forward_words_);
  store(words_of(reverse), reverse_words_);
  store(weight_items(), item_words_);
  if (error != nullptr || plan_.transposed.empty()) return error;
  const TileTransposed* const matrices =
      reinterpret_cast<const TileTransposed*>(reinterpret_cast<const TileWeightItem*>(at(item_words_)) + num_items_);
  const int64_t count = static_cast<int64_t>(plan_.transposed.size());
  DTNN_LAUNCH(transpose_matrices<T>, grid_size(count * args_.members), 256, 0, stream, matrices, count, args_.members,
              args_.weights, program_.num_weights(), at(transposed_), plan_.num_transposed);
  return launch_error();
}

template <typename T>
const char* TileBackwardRun<T>::forward(int64_t chunk, void* stream) {
  if (plan_.forward.steps.empty()) return nullptr;
  const int64_t first = first_row(chunk);
  const TileProgramArgs<T> args{args_.weights, program_.num_weights(), args_.members, first + rows_of(chunk), first};
  const uint64_t* const stored = reinterpret_cast<const uint64_t*>(at(forward_words_));
  return launch_tile_steps(plan_.forward, args, stored, at(outside_), stream);
}

template <typename T>
const char* TileBackwardRun<T>::backward(int64_t chunk, void* stream) {
  const int64_t first = first_row(chunk), rows = rows_of(chunk);
  if (!plan_.reverse.steps.empty()) {
    const TileProgramArgs<T> args{at(transposed_), plan_.num_transposed, args_.members, first + rows, first};
    const uint64_t* const stored = reinterpret_cast<const uint64_t*>(at(reverse_words_));
    const char* const error = launch_tiles<BackwardAlgebra>(plan_.reverse, args, stored, at(outside_), stream);
    if (error != nullptr) return error;
  }
  for (size_t i = 0; i < member_grads_.size(); ++i) {
    const TileValueId id = program_.inputs()[i];
    if (!is_shared(i) || std::find(plan_.zeros.begin(), plan_.zeros.end(), id) != plan_.zeros.end()) continue;
    const int64_t width = per_row(id);
    const char* const error = launch_sum_of_groups(at(member_grads_[i]), args_.inputs[i].grad + first * width,
                                                   rows * width, args_.members, slab_rows_ * width, stream);
    if (error != nullptr) return error;
  }
  if (args_.grad_weights == nullptr) return nullptr;
  const TileWeightItem* const items = reinterpret_cast<const TileWeightItem*>(at(item_words_));
  return launch_tile_weight_grads(
      TileWeightGradArgs<T>{items, num_items_, num_groups_, args_.members, program_.num_weights(), first, rows,
                            num_groups_ > 1 ? at(partial_) : args_.grad_weights},
      stream);
}

template <typename T>
const char* TileBackwardRun<T>::finish(void* stream) {
  if (args_.grad_weights == nullptr || num_groups_ == 1 || num_chunks_ == 0) return nullptr;
  const int64_t all = args_.members * program_.num_weights();
  return launch_sum_of_groups(at(partial_), args_.grad_weights, all, num_groups_, all, stream);
}

template class TileBackwardRun<float>;
template class TileBackwardRun<double>;

}  // namespace dtnn::cuda
