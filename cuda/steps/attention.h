// The steps of docs/ladder-attention.md. Each has the signature, contract and tests of attention() in cuda/attention.h.
#pragma once

#include "cuda/attention.h"

namespace ptq::cuda {

void attention_naive(void* o, const void* q, const void* k, const void* v, DType dtype, const AttentionWork& work,
                     Stream stream);
void attention_tiled(void* o, const void* q, const void* k, const void* v, DType dtype, const AttentionWork& work,
                     Stream stream);
void attention_tensor(void* o, const void* q, const void* k, const void* v, DType dtype, const AttentionWork& work,
                      Stream stream);
void attention_pipelined(void* o, const void* q, const void* k, const void* v, DType dtype, const AttentionWork& work,
                         Stream stream);

}  // namespace ptq::cuda
