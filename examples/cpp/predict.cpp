// SPDX-License-Identifier: MIT
// Predicts the dielectric tensors of MgO with a model that `dtnn-fast export` wrote:  predict FOLDER
#include <dlfcn.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/torch.h>

#include <iostream>
#include <string>

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: predict FOLDER\n";
    return 2;
  }
  const std::string folder = argv[1];
  // The operations of dtnn_fast register themselves with torch.
  if (dlopen((folder + "/_ops.so").c_str(), RTLD_NOW) == nullptr) {
    std::cerr << dlerror() << "\n";
    return 2;
  }
  torch::inductor::AOTIModelPackageLoader model(folder + "/model.pt2");

  // Two crystals: MgO in its primitive cell, and the same once more. Rows of a cell are lattice vectors, in Angstrom.
  const double a = 4.212;
  const auto number = torch::TensorOptions(torch::kFloat64);
  const torch::Tensor cell = 0.5 * a * torch::tensor({{0.0, 1.0, 1.0}, {1.0, 0.0, 1.0}, {1.0, 1.0, 0.0}}, number);
  const torch::Tensor positions = torch::tensor({{0.0, 0.0, 0.0}, {0.5 * a, 0.5 * a, 0.5 * a}}, number);
  const torch::Tensor elements = torch::tensor({12, 8}, torch::kInt64);
  const std::vector<torch::Tensor> inputs{elements.repeat({2}), positions.repeat({2, 1}), cell.repeat({2, 1, 1}),
                                          torch::ones({2, 3}, torch::kBool), torch::tensor({0, 2, 4}, torch::kInt64)};

  // One result for each target, [members, crystals, 3, 3]; the prediction is the mean over the members.
  for (const torch::Tensor& members : model.run(inputs)) std::cout << members.mean(0)[0] << "\n";
  return 0;
}
