// Filling a QuantizeReport: the health of each linear, and the report as JSON (declared in quant/quantize.h).
#pragma once

#include "quant/quantize.h"

namespace ptq {

// Adds the health of one linear to the report and hands the matrix to the sink, whose time counts as write. `original`
// [N,K] is what m.q is compared with. Exit 76 if m.q is not finite. The result stays valid until the next call.
LinearHealth& deliver(Ops& ops, const ModelFiles& files, int layer, LinearRole role, const Tensor& original,
                      const QuantizedMatrix& m, const QuantSink& sink, QuantizeReport& report);

}  // namespace ptq
