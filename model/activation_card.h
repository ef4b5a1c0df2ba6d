// ActivationQuant as JSON: the "activations" of ptq.json, the card that ptq writes beside the weights it quantized.
#pragma once

#include "model/activation_quant.h"

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

namespace ptq {

// The file whose presence says that ptq wrote the directory.
inline constexpr const char* card_name = "ptq.json";

// null for ActivationKind::none.
nlohmann::json to_json(const ActivationQuant& activations);

// The inverse. Exit 65, naming the key, for anything that to_json does not write; `where` is the file for messages.
// Cards of the first version, {"bits": 8, "granularity": "per-token"}, are read too.
ActivationQuant activations_from_json(const nlohmann::json& json, const std::string& where);

// The card of a checkpoint directory, an object; null without one. Exit 65 if it is malformed.
nlohmann::json read_card(const std::filesystem::path& directory);

// The activations of the card; empty without a card, or if the card has no "activations". Exit 65 if
// it is malformed or its ranges are not those of a model with so many layers.
std::optional<ActivationQuant> read_activations(const std::filesystem::path& directory, int layers);

}  // namespace ptq
