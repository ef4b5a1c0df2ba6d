// The layers of a cell in progress, in a directory of the store, so that an interruption costs at most one layer:
//   layers-A-B.safetensors   the tensors that quantization changed in layers A to B - 1
//   hidden-N.safetensors     hidden states entering layer N, one tensor a stream
//   state.json               "format", "state": {"layers": N, "files", "hidden": names and digests, "report"}, and the
//                            "sha256" of the state: written last, so that it names whole files
#pragma once

#include "eval/partial_cell.h"
#include "model/overlay.h"
#include "quant/layer_checkpoint.h"

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

namespace ptq {

class LayerFiles final : public LayerCheckpoint {
 public:
  // Keeps at most every `seconds`, and nothing if another process uses the directory. What is restored or kept goes into
  // the overlay as files; what `put` brings since the last time stays in memory. The references must outlive this.
  LayerFiles(PartialCell& partial, double seconds, TensorOverlay& overlay);

  void put(const std::string& name, const Tensor& value);  // a changed tensor

  // Nothing if the directory holds no whole state.
  std::optional<LayerState> restore() override;
  // Exit 73, 74.
  void save(int layers, std::span<const Stream> streams, Ops& ops, const QuantizeReport& report) override;

 private:
  PartialCell& partial_;
  const std::filesystem::path& directory_;
  double seconds_, last_;
  TensorOverlay& overlay_;
  std::map<std::string, Tensor> pending_;
  nlohmann::json files_ = nlohmann::json::array();  // of finished layers
  int kept_ = 0;                                    // layers
};

}  // namespace ptq
